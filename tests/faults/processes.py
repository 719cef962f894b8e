"""The processes of a run: started with their output in a file, stopped, killed, frozen; and waiting on conditions."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis

from apps.ops.embedded.server import die_with_parent

REPOSITORY: Final = Path(__file__).resolve().parents[2]
STOP_SECONDS: Final = 15


class Stuck(Exception):
    """A condition did not come true before its deadline; the message says which."""


def wait_until(what: str, condition: Callable[[], Any], *, seconds: float, every: float = 0.05) -> Any:
    """The condition's first true value. Raises `Stuck` after the deadline, which is far from what is expected."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise Stuck(f"not within {seconds:g} s: {what}")
        time.sleep(every)


class Child:
    """A process that ends with us, at the latest."""

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                arguments,
                cwd=REPOSITORY,
                env=None if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            self.popen.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self) -> int:
        """Ask it to end; kill it if it does not. Returns its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


class Valkey:
    """A server of one run with its append-only file; it may be killed and started again, or stand still."""

    def __init__(self, program: Path, port: int, folder: Path) -> None:
        folder.mkdir()
        self._program = program
        self.folder = folder
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._child: Child | None = None

    def start(self, *more: str) -> None:
        """Start it, with `more` options, and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--appendonly", "yes", "--save", ""]
        options += ["--enable-debug-command", "local", *more]
        self._child = Child([str(self._program), *options, "--dir", str(self.folder)], self.folder / "valkey.log")
        wait_until("Valkey answers", self.answers, seconds=20, every=0.02)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
