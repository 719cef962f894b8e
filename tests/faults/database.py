"""A PostgreSQL of a test's own, which it may stop in every way that there is and start again."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

import psycopg

from apps.ops.embedded import postgres
from apps.ops.embedded.binaries import postgres_folder
from apps.ops.embedded.home import Refusal, open_home, pick_port, remove_servers
from apps.ops.embedded.ready import wait_for_postgres
from apps.ops.embedded.server import Server, run_program
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
        self._cluster = postgres.cluster(self.home)
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
            process = self._server().start(self.log)
            self._process = process
            try:
                wait_for_postgres(self.url, alive=lambda: process.poll() is None)
            except Refusal:
                process.kill()
                process.wait()
                return False
            return True

        wait_until("PostgreSQL starts", answered, seconds=60, every=0.2)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _server(self) -> Server:
        program = str(postgres_folder(self.home) / "postgres")
        return Server("postgres", (program, "-D", str(self._cluster)), self.home.account)

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

    def replace_by_copy(self) -> None:
        """A standby is made from it while it runs, the server is killed, and the standby takes over, at another port.

        The role that makes the copy gets its right in single-user mode, because the superuser's password is unknown.
        """
        programs = postgres_folder(self.home)
        self.stop("fast")
        single = [str(programs / "postgres"), "--single", "-D", str(self._cluster), "postgres"]
        run_program(self.home, single, "ALTER ROLE cdb REPLICATION\n")
        self.start()
        copy, port = self._cluster.with_name(f"copy-{self.port}"), pick_port()
        backup = [str(programs / "pg_basebackup"), "-D", str(copy), "-d", self.url, "-X", "stream", "-R"]
        run_program(self.home, [*backup, "--checkpoint=fast"])
        edit = 's/^port = .*/port = "$1"/'.replace('"$1"', str(port))
        run_program(self.home, ["/bin/sed", "-i", edit, str(copy / "postgresql.conf")])
        primary, self._process = self._process, None
        self._cluster, self.port, self.url = copy, port, postgres.database_url(self.home, port)
        self.start()
        wait_until("the standby follows", lambda: _recovering(self.url), seconds=30)
        assert primary is not None
        primary.kill()
        primary.wait()
        run_program(self.home, [str(programs / "pg_ctl"), "promote", "-D", str(copy)])
        wait_until("the standby has taken over", lambda: not _recovering(self.url), seconds=30)


def _recovering(url: str) -> bool:
    with psycopg.connect(url, connect_timeout=3) as connection:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    return bool(row and row[0])


def own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="cdb-own-", ignore_cleanup_errors=True)
