"""A PostgreSQL of a test's own, which it may stop in every way that there is and start again."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

from apps.ops.embedded import postgres
from apps.ops.embedded.home import Refusal, open_home, pick_port, remove_servers
from apps.ops.embedded.ready import wait_for_postgres
from tests.faults.processes import wait_until

# How a server ends: after its sessions were told to, without a checkpoint, and without a chance to do anything.
WAYS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
END_SECONDS: Final = 30


class OwnPostgres:
    """`folder` belongs to it. As a context it is started, and removed at the end."""

    def __init__(self, folder: Path) -> None:
        self.home = open_home(folder)
        self.port = pick_port()
        self.url = postgres.database_url(self.home, self.port)
        self.log = folder / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        postgres.prepare(self.home, self.port, lasting=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        remove_servers(self.home)

    def start(self) -> None:
        """Start and wait until it answers. After a kill its last children may hold the memory for a moment: again."""

        def answered() -> bool:
            process = postgres.server(self.home).start(self.log)
            self._process = process
            try:
                wait_for_postgres(self.url, alive=lambda: process.poll() is None)
            except Refusal:
                process.kill()
                process.wait()
                return False
            return True

        wait_until("PostgreSQL starts", answered, seconds=60, every=0.2)

    def stop(self, way: str) -> None:
        """End it as `WAYS` says."""
        if self._process is None:
            return
        self._process.send_signal(WAYS[way])
        try:
            self._process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self, way: str) -> None:
        self.stop(way)
        self.start()


def own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="cdb-own-", ignore_cleanup_errors=True)
