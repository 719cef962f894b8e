"""The whole road as real processes between fault proxies: what the rows of the fault matrix disturb.

PostgreSQL and Valkey stand behind a proxy each; the local exchange, an ingest, a drain, the worker that trades (and
does what else there is) and the steward run as the stack runs them, each started again when it ends. A row may start
one of them with points of failure armed, and whatever else only its row needs: beat, web, a second ingest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.bus.failpoints import FOLDER_VARIABLE, VARIABLE
from apps.ops.embedded import binaries
from apps.ops.embedded.home import pick_port
from tests.faultproxy import FaultProxy
from tests.faults.database import OwnPostgres
from tests.faults.processes import REPOSITORY, Child, Stuck, Valkey, python, wait_until

SPEED: Final = 60
SHARDS: Final = 2
MARKET: Final = ("--symbols", "12", "--trades-per-second", "4", "--quotes-per-second", "4")
CELERY: Final = ("-A", "cdb_project", "worker", "--concurrency=1", "--without-gossip", "--without-mingle")
TASKS: Final = "--include=tests.faults.matrix_tasks"
SUPERVISE_SECONDS: Final = 0.2
START_SECONDS: Final = 300
# Roads of one machine share what was compiled; nothing else outlives one.
KERNELS: Final = Path(tempfile.gettempdir()) / f"cdb-kernels-{os.geteuid()}"
LOOK_SECONDS: Final = 20  # for a connection of our own: on a busy machine a server that is well may need some
RECOVER_SECONDS: Final = 300


class Road:
    """`folder` is new. Use as a context; `start` waits until signals can be decided on."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.database = OwnPostgres(folder / "data")
        self.home = self.database.home
        self.valkey = Valkey(binaries.valkey_program(self.home), pick_port(), folder / "valkey")
        self.database_proxy = FaultProxy("127.0.0.1", self.database.port, seed=seed)
        self.redis_proxy = FaultProxy("127.0.0.1", urlsplit(self.valkey.url).port or 0, seed=seed)
        self.ports = {name: pick_port() for name in ("exchange", "ingest", "standby", "web")}
        self.rest_url = f"http://127.0.0.1:{self.ports['exchange']}"
        self.session: dict[str, Any] = {}
        self.children: dict[str, Child] = {}
        self.exits: Counter[str] = Counter()
        self.armed: dict[str, Mapping[str, str]] = {}
        self.held_down: set[str] = set()
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.database.start()
        self.valkey.start()
        self.database_proxy.start()
        self.redis_proxy.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for child in self.children.values():
            child.signal(signal.SIGCONT)
            child.kill()
        self.redis_proxy.stop()
        self.database_proxy.stop()
        self.valkey.signal(signal.SIGCONT)
        self.valkey.kill()
        self.database.__exit__()

    def start(self) -> None:
        """Everything up, and the first trades read."""
        exchange = python("workers.exchange", "--source", "synthetic", "--seed", str(self.seed), "--speed", str(SPEED))
        exchange += ["--port", str(self.ports["exchange"]), "--no-rest-limit", *MARKET]
        self.children["exchange"] = Child(exchange, self.folder / "exchange.log")
        runtime = {
            "port": self.ports["web"],
            "exchange": {"rest_url": self.rest_url, "ws_url": self.rest_url.replace("http", "ws") + "/ws"},
            "ingest_http_port": self.ports["ingest"],
            "standby_http_port": self.ports["standby"],
        }
        (self.home.root / "runtime.json").write_text(json.dumps(runtime))
        answer = self._python("tests.faults.matrix_prepare", self.rest_url, str(self.seed))
        self.session = json.loads(answer.splitlines()[-1])
        for name in ("drain-0", "trade", "steward", "ingest"):
            self.start_service(name)
        self._supervisor.start()
        wait_until("trades are read", lambda: self.processed() > 0, seconds=START_SECONDS, every=0.5)

    def command(self, name: str) -> list[str]:
        queues = {"drain-0": ",".join(f"shard.{n}" for n in range(SHARDS)), "trade": "trade,misc", "test": "test"}
        if name in queues:
            return python("celery", *CELERY, TASKS, f"--queues={queues[name]}", f"--hostname={name}@%h")
        if name.startswith("beat"):
            return python("celery", "-A", "cdb_project", "beat", f"--schedule={self.folder}/{name}", "--pidfile=")
        if name == "web":
            return python("uvicorn", "cdb_project.asgi:application", f"--port={self.ports['web']}", "--no-access-log")
        manage = {"steward": ["steward"], "ingest": ["run_ingest"], "standby": ["run_ingest", "--standby"]}
        return [sys.executable, "manage.py", *manage[name]]

    def start_service(self, name: str, points: str = "", **environment: str) -> None:
        """Start it, or start it anew with these points armed: each fires once, whoever passes it."""
        with self._lock:
            if name in self.children:
                self.children[name].signal(signal.SIGCONT)
                self.children[name].kill()
            notes = {VARIABLE: points, FOLDER_VARIABLE: str(self._fresh_notes(name))} if points else {}
            self.armed[name] = {**notes, **environment}
            self.held_down.discard(name)
            self._begin(name)

    def stop_service(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, and leave it down."""
        with self._lock:
            self.held_down.add(name)
            child = self.children[name]
            child.signal(number)
        child.popen.wait()

    def _begin(self, name: str) -> None:
        environment = {**self.environment, **self.armed.get(name, {})}
        self.children[name] = Child(self.command(name), self.folder / f"{name}.log", environment)

    def _supervise(self) -> None:
        while not self._ending.wait(SUPERVISE_SECONDS):
            with self._lock:
                for name, child in list(self.children.items()):
                    if not child.alive and name not in self.held_down:
                        self.exits[name] += 1
                        self._begin(name)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CDB_", "DJANGO_"))}
        return {
            **kept,
            "DATABASE_URL": through(self.database.url, self.database_proxy.port),
            "REDIS_URL": through(self.valkey.url, self.redis_proxy.port),
            "CDB_DATA_DIR": str(self.home.root),
            "CDB_SHARD_COUNT": str(SHARDS),
            "CDB_PROCESS_ROLE": "worker",
            "NUMBA_CACHE_DIR": str(KERNELS / _engine_hash()),
            "NUMBA_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }

    def _python(self, module: str, *arguments: str) -> str:
        answer = subprocess.run(
            python(module, *arguments),
            cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip
        if answer.returncode != 0:
            raise Stuck(f"{module} ended with {answer.returncode}: {answer.stderr[-800:]}")
        return answer.stdout

    def lead_redis_to(self, port: int) -> None:
        """The same address leads to another server from here on."""
        self.redis_proxy = _led_to(self.redis_proxy, port, self.seed)

    def lead_database_to(self, port: int) -> None:
        self.database_proxy = _led_to(self.database_proxy, port, self.seed)

    def manage(self, *arguments: str) -> tuple[int, str]:
        answer = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip
        return answer.returncode, answer.stdout + answer.stderr

    # --- what can be seen -------------------------------------------------------------------------------------------

    def _fresh_notes(self, name: str) -> Path:
        path = self.folder / f"notes-{name}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def fired(self, name: str, *points: str, seconds: float = 60) -> None:
        """Wait until each of these points, with which the service was started, has fired."""
        for point in points:
            note = self.folder / f"notes-{name}" / point
            wait_until(f"{point} fires in {name}", note.exists, seconds=seconds, every=0.1)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the database beside the proxy. Raises psycopg.Error."""
        with psycopg.connect(self.database.url, connect_timeout=LOOK_SECONDS, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *parameters: Any) -> Any:
        return self.sql(statement, *parameters)[0][0]

    @contextmanager
    def redis(self) -> Iterator[redis.Redis]:
        """A client beside the proxy."""
        with redis.Redis.from_url(self.valkey.url, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            yield client

    def processed(self) -> int:
        return int(self.one("SELECT COALESCE(sum(processed), 0) FROM market_shardcursor"))

    def tails(self) -> dict[int, str]:
        """The newest entry of each shard's stream."""
        with self.redis() as client:
            found: dict[int, Any] = {n: client.xrevrange(self.stream(n), count=1) for n in range(SHARDS)}
        return {shard: rows[0][0].decode() for shard, rows in found.items() if rows}

    def stream(self, shard: int) -> str:
        return f"market_data:{self.session['epoch']}:{shard}"

    def recovered(self, seconds: float = RECOVER_SECONDS) -> float:
        """Seconds until what is on the stream now is read, and every event, signal and order of now has moved on."""
        began = time.monotonic()
        before = wait_until("the database answers", lambda: self._try(self.processed), seconds=seconds, every=0.2)
        moves = lambda: (self._try(self.processed) or 0) > before  # noqa: E731
        wait_until("trades are read again", moves, seconds=seconds, every=0.2)
        self._caught_up(seconds)
        return time.monotonic() - began

    def come_to_rest(self, seconds: float = RECOVER_SECONDS) -> None:
        """The feed ends, and what waits is worked off: what is left undone then is not merely late."""
        self.stop_service("ingest")
        self._caught_up(seconds)

    def _caught_up(self, seconds: float) -> None:
        tails = self.tails()
        newest = {table: self.one(f"SELECT COALESCE(max(id), 0) FROM {table}") for table in WAITING}

        def caught_up() -> bool:
            seen = dict(self.sql("SELECT shard, seen_through FROM market_shardcursor"))
            read = all(_order(seen[shard]) >= _order(tail) for shard, tail in tails.items())
            return read and not any(self.one(WAITING[name], number) for name, number in newest.items())

        wait_until("what waited has moved on", lambda: self._try(caught_up), seconds=seconds, every=0.2)

    def _try(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (psycopg.OperationalError, redis.RedisError):
            return None

    def logs(self, lines: int = 8) -> str:
        return "\n".join(f"--- {name}\n{child.last_words(lines)}" for name, child in self.children.items())


# Rows up to the number that was the newest, which still wait.
WAITING: Final = {
    "outbox_outboxevent": "SELECT count(*) FROM outbox_outboxevent WHERE published_at IS NULL AND id <= %s",
    "signals_signal": """SELECT count(*) FROM signals_signal s WHERE s.id <= %s
        AND NOT EXISTS (SELECT 1 FROM risk_riskdecision d WHERE d.signal_id = s.id)""",
    "risk_orderintent": """SELECT count(*) FROM risk_orderintent i WHERE i.id <= %s
        AND NOT EXISTS (SELECT 1 FROM execution_order o WHERE o.intent_id = i.id)""",
    "execution_order": """SELECT count(*) FROM execution_order
        WHERE status IN ('SUBMITTING', 'UNKNOWN') AND id <= %s""",
}


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


def _engine_hash() -> str:
    """Of the engine's sources: numba does not notice a change in a file that a kernel was built from."""
    digest = hashlib.sha256()
    for path in sorted((REPOSITORY / "apps" / "engine").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _led_to(proxy: FaultProxy, target: int, seed: int) -> FaultProxy:
    proxy.stop()
    return FaultProxy("127.0.0.1", target, port=proxy.port, seed=seed).start()


def through(url: str, port: int) -> str:
    """The same address behind a proxy."""
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{credentials + '@' if credentials else ''}127.0.0.1:{port}"))
