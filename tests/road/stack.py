"""A whole stack in a directory of its own, driven by the commands that people use."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, condition: Callable[[], Any], *, seconds: float, every: float = 0.25) -> Any:
    """The condition's first true value. Fails with `what` after the deadline, which is far from what is expected."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


@dataclass
class Stack:
    """`folder` is the data directory; nothing outside it is touched."""

    folder: Path
    port: int
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DATABASE_URL", "REDIS_URL", "PORT") and not name.startswith(("CDB_", "DJANGO_"))
        }
        return {**kept, "CDB_DATA_DIR": str(self.folder), **dict(self.extra)}

    def manage(self, *arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and answer.returncode != 0:
            raise AssertionError(
                f"{arguments}: exit {answer.returncode}\n{answer.stdout}\n{answer.stderr}\n{self.logs()}"
            )
        return answer

    def up(self, *arguments: str) -> None:
        self.manage("stack", "up", "--detach", "--port", str(self.port), *arguments)

    def down(self) -> None:
        self.manage("stack", "down")

    def logs(self) -> str:
        """The ends of all logs, for a failure's message."""
        parts = []
        for path in sorted((self.folder / "logs").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            parts.append(f"--- {path.name}\n" + "\n".join(lines))
        return "\n".join(parts)

    def json(self, *arguments: str, check: bool = True) -> Any:
        return json.loads(self.manage(*arguments, "--json", check=check).stdout)

    def status(self) -> dict[str, Any]:
        answer = self.manage("stack", "status", "--json", check=False)
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def funnel(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("funnel")
        return found

    @property
    def runtime(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "runtime.json").read_text())
        return found

    @property
    def database_url(self) -> str:
        return str(self.runtime["database_url"])

    def session_id(self) -> int:
        import psycopg

        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT max(id) FROM portfolio_tradingsession").fetchone()
        assert row
        return int(row[0])

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.database_url) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def exchange_status(self) -> dict[str, Any]:
        import urllib.request

        rest = self.runtime["exchange"]["rest_url"]
        with urllib.request.urlopen(f"{rest}/exchange/status", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def wait_replayed(self, *, seconds: float) -> None:
        """Until the recording is over and every published trade was read."""
        wait_until("the recording is over", lambda: self.exchange_status()["finished"], seconds=seconds, every=1)
        last: list[Any] = []

        def settled() -> bool:
            now = self.sql("SELECT shard, seen_through, processed FROM market_shardcursor ORDER BY shard")
            now += self.sql(
                "SELECT count(*), (SELECT count(*) FROM portfolio_reservation WHERE active) FROM risk_riskdecision"
            )
            same = now == last
            last[:] = now
            return same

        wait_until("counts have come to rest", settled, seconds=60, every=2)

    def kill(self, name: str) -> None:
        """kill -9 one service's main process."""
        pid = next(row["pid"] for row in self.status()["services"] if row["name"] == name)
        os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[psutil.Process]:
        """Every process whose command line or environment names this data directory."""
        found = []
        for process in psutil.process_iter():
            try:
                text = " ".join(process.cmdline()) + process.environ().get("CDB_DATA_DIR", "")
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if str(self.folder) in text and process.pid != os.getpid():
                found.append(process)
        return found
