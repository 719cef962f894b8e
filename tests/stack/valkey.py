"""A Valkey of one test, which may be killed and frozen."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

from apps.ops.embedded import valkey
from apps.ops.embedded.home import open_home, pick_port
from apps.ops.embedded.ready import wait_for_redis


class OwnValkey:
    """Our configuration with the append-only file, so a kill loses nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._home = open_home(folder / "data")
        self.port = pick_port()
        valkey.prepare(self._home, self.port)
        self._process: subprocess.Popen[bytes] | None = None
        self._down_since = 0.0

    def url(self, database: int = 0) -> str:
        return valkey.redis_url(self._home, self.port).removesuffix("/0") + f"/{database}"

    def start(self) -> None:
        """Start and wait until it answers."""
        self._process = valkey.server(self._home).start(self._folder / "valkey.log")
        wait_for_redis(self.url(), seconds=10)

    def kill(self) -> None:
        """As `kill -9`."""
        self._signal(signal.SIGKILL)
        if self._process:
            self._process.wait(timeout=10)
        self._process = None
        self._down_since = time.monotonic()

    def freeze(self) -> None:
        """Connections stay, new ones are taken by the kernel, nothing is answered."""
        self._signal(signal.SIGSTOP)
        self._down_since = time.monotonic()

    def has_been_down(self, seconds: float) -> bool:
        """Whether the last kill or freeze is that long ago."""
        return time.monotonic() - self._down_since >= seconds

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._home.servers, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)
