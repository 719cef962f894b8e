"""Fresh servers for one command or one test run, in a directory that is removed afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TextIO

from apps.ops.embedded import postgres, valkey
from apps.ops.embedded.home import Home, Refusal, open_home, pick_port, read_home, remove_servers
from apps.ops.embedded.ready import wait_for_postgres, wait_for_redis

PREFIX = "cdb-temporary-"


class TemporaryServers:
    """Addresses and secrets exist as soon as this is made; the servers run from `start` to `stop`.

    A server whose URL is given in the environment is used as it is, and none is started for it.
    """

    def __init__(self) -> None:
        _sweep()
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _lock(self.root)
        self.home: Home = open_home(self.root / "data")
        self._ports = {"postgres": pick_port()}
        self._ports["valkey"] = pick_port(self._ports.values())
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            "DATABASE_URL": postgres.database_url(self.home, self._ports["postgres"]),
            "REDIS_URL": valkey.redis_url(self.home, self._ports["valkey"]),
            "CDB_DATA_DIR": str(self.home.root),
        }
        self._given = {name for name in ("DATABASE_URL", "REDIS_URL") if os.environ.get(name)}
        self.environment.update({name: os.environ[name] for name in self._given})

    def start(self) -> None:
        """Start what is not given and wait until it answers. Raises Refusal."""
        if self._processes:
            return
        if "DATABASE_URL" not in self._given:
            postgres.prepare(self.home, self._ports["postgres"], lasting=False)
            self._processes["postgres"] = postgres.server(self.home).start(self.root / "postgres.log")
        if "REDIS_URL" not in self._given:
            valkey.prepare(self.home, self._ports["valkey"], lasting=False)
            self._processes["valkey"] = valkey.server(self.home).start(self.root / "valkey.log")
        try:
            wait_for_postgres(self.environment["DATABASE_URL"], alive=lambda: self._alive("postgres"))
            wait_for_redis(self.environment["REDIS_URL"], alive=lambda: self._alive("valkey"))
        except Refusal as error:
            raise Refusal(f"{error}{self._last_words()}") from error

    def _alive(self, name: str) -> bool:
        return name not in self._processes or self._processes[name].poll() is None

    def _last_words(self) -> str:
        lines = [line for log in self.root.glob("*.log") for line in log.read_text(errors="replace").splitlines()[-3:]]
        return "".join(f"\n  {line}" for line in lines)

    def stop(self) -> None:
        """End the servers at once (nothing of theirs is kept) and remove the directory."""
        for process in self._processes.values():
            process.send_signal(signal.SIGQUIT if process is self._processes.get("postgres") else signal.SIGKILL)
        for process in self._processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self._lock.close()
        _remove(self.root)


def _lock(root: Path) -> TextIO:
    """Held for our lifetime: whoever finds the directory unlocked knows that its owner was killed."""
    lock = (root / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


def _sweep() -> None:
    """Remove what killed runs left behind."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if root.stat().st_uid == os.geteuid() and (root / "lock").exists():
                _lock(root).close()
                _remove(root)
        except OSError:  # still in use, or swept by another run at this moment
            continue


def _remove(root: Path) -> None:
    if (root / "data" / "layout").exists():
        remove_servers(read_home(root / "data"))
    shutil.rmtree(root, ignore_errors=True)
