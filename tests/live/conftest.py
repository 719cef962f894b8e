"""A real web server and a real browser, both looking at the test database."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.live.sockets import login

NODE_MODULES = Path(settings.NODE_MODULES)
CHROMIUM_FOLDER = NODE_MODULES / ".cache" / "chromium"
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-zygote",
]
UNPACK = "import('@sparticuz/chromium').then(m => m.default.executablePath()).then(p => console.log(p))"
START_SECONDS_MAX = 30
WATCH = """
window.cdbViolations = [];
document.addEventListener("securitypolicyviolation", (e) => {
  window.cdbViolations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`);
});
"""


@pytest.fixture(scope="session")
def static_files(servers: dict[str, str]) -> None:
    call_command("collectstatic", interactive=False, verbosity=0)


@pytest.fixture(scope="session", autouse=True)
def static_folder(servers: dict[str, str]) -> None:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


@dataclass
class WebServer:
    """uvicorn with the project's application, as the stack starts it, in a process of its own."""

    port: int
    log: Path
    database_url: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {**os.environ, "DATABASE_URL": self.database_url or address_of_test_database()}
        program = [sys.executable, "-m", "uvicorn", "cdb_project.asgi:application", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*program, "--no-access-log"], env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not _answers(self.port):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the web server did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


def address_of_test_database() -> str:
    """The address of the database that the tests' own queries go to."""
    database = connection.get_connection_params()
    address = f"{database['user']}:{database['password']}@{database['host']}:{database['port']}"
    return f"postgresql://{address}/{connection.settings_dict['NAME']}"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def shared_server(
    django_db_setup: None, static_files: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """One server for all tests that leave it running."""
    server = WebServer(free_port(), tmp_path_factory.mktemp("web") / "web.log")
    yield server
    server.stop()
    log = server.log.read_text()
    assert "Warning: " not in log, log[-6000:]
    assert "Internal Server Error" not in log, log[-6000:]


@pytest.fixture
def server(shared_server: WebServer, transactional_db: None) -> WebServer:
    if shared_server.process is None:
        shared_server.start()
    return shared_server


@pytest.fixture
def own_server(transactional_db: None, static_files: None, tmp_path: Path) -> Iterator[WebServer]:
    """A server that the test may kill."""
    server = WebServer(free_port(), tmp_path / "web.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser from npm, unpacked once and kept beside the package."""
    ready = CHROMIUM_FOLDER / "chromium"
    if not ready.exists():
        package = NODE_MODULES / "@sparticuz" / "chromium"
        assert package.is_dir(), "the test browser is not installed; run `npm ci --prefix requirements/npm`"
        CHROMIUM_FOLDER.parent.mkdir(exist_ok=True)
        unpacked = tempfile.mkdtemp(dir=CHROMIUM_FOLDER.parent)
        node = shutil.which("node") or str(Path(sys.executable).with_name("node"))
        environment = {**os.environ, "TMPDIR": unpacked}
        subprocess.run([node, "-e", UNPACK], cwd=NODE_MODULES.parent, env=environment, check=True, timeout=100)
        Path(unpacked).rename(CHROMIUM_FOLDER)
    return str(ready)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Playwright's loop runs in this thread while the module does, so Django must allow the tests' own queries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        with sync_playwright() as playwright:
            started = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
            yield started
            started.close()


@dataclass
class Window:
    """A page with everything it complained about."""

    page: Page
    server: WebServer
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.server.url + path)

    def settled(self) -> None:
        """Wait until Alpine runs: what it would complain about it has said by then."""
        self.page.wait_for_function("() => document.documentElement.dataset.alpine === 'on'")

    def check(self, what: str) -> None:
        """Nothing violated the policy, nothing was logged, no other host was asked."""
        violations = self.page.evaluate("window.cdbViolations")
        assert (violations, self.complaints, self.foreign) == ([], [], []), what


def watched(context: BrowserContext, server: WebServer) -> Window:
    context.add_init_script(WATCH)
    window = Window(context.new_page(), server)
    window.page.set_default_timeout(15_000)

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            window.complaints.append(f"{window.page.url} {message.type}: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith((server.url, "data:")):
            window.foreign.append(request.url)

    window.page.on("console", heard)
    window.page.on("pageerror", lambda error: window.complaints.append(f"{window.page.url} {error}"))
    window.page.on("request", asked)
    return window


def sign_in(context: BrowserContext, server: WebServer, user: User) -> str:
    """Put a login of `user` into the browser. Returns the session key."""
    key = login(user)
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": server.url}])
    return key


@pytest.fixture
def staff_user(transactional_db: None) -> User:
    return User.objects.create_superuser("mara", "", "not used: logins are made directly")


@pytest.fixture
def window(browser: Browser, server: WebServer, staff_user: User) -> Iterator[Window]:
    """A page of a signed-in member of staff, 1280 px wide."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        sign_in(context, server, staff_user)
        yield watched(context, server)
