"""The table of processes: what each runs, in which order they start and stop, and how long a stop may take."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from apps.ops.embedded.home import Home
from apps.ops.stack.runtime import Runtime

DRAIN_PROCESSES = 2
STANDBY = "ingest-standby"
# A drain keeps the state of its shards warm, so it is never recycled by count; this only ends one that leaks.
DRAIN_MEMORY_KIB_MAX = 700_000
SERVERS = 0
EXCHANGE = 1
WORKERS = 2
EDGES = 3
"""Stages. A start goes upwards and a stop downwards: what brings work in ends first, what work needs ends last."""


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    stage: int
    command: Callable[[Runtime, Home], tuple[str, ...]]
    stop_seconds: int = 6
    """After that the whole process group is killed."""
    stop_signal: signal.Signals = signal.SIGTERM
    role: str = "worker"
    """Decides the statement timeout of its database connections."""
    niceness: int = 0
    """How far it steps back behind the others for the processor."""


def services(runtime: Runtime) -> tuple[Service, ...]:
    """The services of this stack, in the order in which they start."""
    absent = {
        "postgres": runtime.postgres_port is None,
        "valkey": runtime.valkey_port is None,
        "exchange": runtime.mode == "live",
        STANDBY: runtime.standby_http_port is None,
    }
    return tuple(service for service in _ALL if not absent.get(service.name))


def _manage(*command: str) -> Callable[[Runtime, Home], tuple[str, ...]]:
    return lambda _runtime, _home: (sys.executable, "manage.py", *command)


def _celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", "cdb_project", *arguments)


def _worker(name: str, queues: str, *arguments: str) -> tuple[str, ...]:
    # Plain SIGTERM is Celery's warm stop: the running task ends (15 s at most, milliseconds mostly) and the process
    # goes. Its soft stop would hold an idle worker for its whole 25 s, and what is cut off here is only a doorbell.
    options = ("--concurrency=1", f"--queues={queues}", f"--hostname={name}@%h", "--without-gossip")
    return _celery("worker", *options, "--without-mingle", "--loglevel=INFO", *arguments)


def _drain(index: int) -> Service:
    def command(runtime: Runtime, _home: Home) -> tuple[str, ...]:
        shards = [shard for shard in range(runtime.shard_count) if shard % DRAIN_PROCESSES == index]
        queues = ",".join(f"shard.{shard}" for shard in shards) or f"shard.none-{index}"
        return _worker(f"drain-{index}", queues, f"--max-memory-per-child={DRAIN_MEMORY_KIB_MAX}")

    return Service(f"drain-{index}", WORKERS, command)


def worker_queues(runtime: Runtime) -> dict[str, str]:
    """One queue of each worker, by the worker's name."""
    drains = {f"drain-{index}": f"shard.{index}" for index in range(min(DRAIN_PROCESSES, runtime.shard_count))}
    return {**drains, "trade": "trade", "misc": "misc"}


def _beat(_runtime: Runtime, home: Home) -> tuple[str, ...]:
    return _celery("beat", f"--schedule={home.root}/run/beat", "--pidfile=", "--loglevel=INFO")


def _web(runtime: Runtime, _home: Home) -> tuple[str, ...]:
    where = ("cdb_project.asgi:application", "--host=127.0.0.1", f"--port={runtime.port}")
    # The sans-I/O implementation waits while a slow browser's buffer is full; the older one is deprecated.
    sockets = ("--ws=websockets-sansio", "--ws-max-size=65536", "--ws-ping-interval=20", "--ws-ping-timeout=20")
    quiet = ("--http=h11", "--no-access-log", "--lifespan=auto", "--timeout-graceful-shutdown=2", "--no-server-header")
    return (sys.executable, "-m", "uvicorn", *where, *sockets, *quiet)


def _embedded(_runtime: Runtime, _home: Home) -> tuple[str, ...]:
    return ()  # started by the embedded package, as another user where needed


_ALL = (
    Service("postgres", SERVERS, _embedded, 10, signal.SIGINT),
    Service("valkey", SERVERS, _embedded),
    Service("exchange", EXCHANGE, _manage("run_exchange"), 3),
    *(_drain(index) for index in range(DRAIN_PROCESSES)),
    Service("trade", WORKERS, lambda *_: _worker("trade", "trade")),
    Service("misc", WORKERS, lambda *_: _worker("misc", "misc"), niceness=5),
    # Simulations take long and all of a core: they have a process of their own, and what trades goes first.
    Service("study", WORKERS, lambda *_: _worker("study", "study"), niceness=10),
    Service("steward", WORKERS, _manage("steward"), niceness=5),
    # Whichever of the two holds the lease writes; the other one waits to take over.
    Service("ingest", EDGES, _manage("run_ingest"), 4),
    Service(STANDBY, EDGES, _manage("run_ingest", "--standby"), 4),
    Service("beat", EDGES, _beat, 3, niceness=5),
    Service("web", EDGES, _web, 4, role="web", niceness=5),
    Service("flower", EDGES, lambda _, home: _celery("flower", f"--conf={home.root}/run/flower.py"), 3, niceness=10),
)
