"""Starting a stack: phase by phase, each one awaited until it really answers; a failed start leaves nothing behind."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.status import Status as Spinner

from apps.ops.embedded import postgres, valkey
from apps.ops.embedded.home import Home, Refusal, port_is_free
from apps.ops.embedded.ready import wait_for_postgres, wait_for_redis
from apps.ops.stack import bootstrap
from apps.ops.stack.manager import REPOSITORY, Manager
from apps.ops.stack.progress import Progress
from apps.ops.stack.runtime import Options, Runtime, plan_runtime
from apps.ops.stack.services import EXCHANGE, SERVERS, WORKERS, services, worker_queues
from apps.ops.stack.status import Status, complaints, read_status
from apps.ops.stack.stop import stop_stack

EXCHANGE_SECONDS = 90
HEALTHY_SECONDS = 90
WORKERS_SECONDS = 90
POLL_SECONDS = 0.5
LAST_LINES = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    runtime: Runtime
    credentials: dict[str, Any]
    status: Status


def start_stack(
    home: Home, options: Options, previous: Runtime | None, given: dict[str, str], progress: Progress
) -> Started:
    """Start everything and wait until it is healthy. `given` holds DATABASE_URL and REDIS_URL of external servers.

    Raises Refusal, after stopping whatever had been started.
    """
    if previous and Manager(home, previous).survivors():
        stop_stack(home, previous)  # left by a manager that was killed
    if not port_is_free(options.port):
        raise Refusal(f"port {options.port} is busy: stop what uses it, or choose another one with PORT=")
    with progress.phase("settings and addresses"):
        runtime = _plan(home, options, previous, given)
    try:
        credentials = _start(Manager(home, runtime), progress, options)
        return Started(runtime, credentials, _wait_until_healthy(home, runtime, progress))
    except BaseException:
        stop_stack(home, runtime)
        raise


def check_replay(files: tuple[str, ...]) -> None:
    """Let the exchange read the files once, before anything is touched. Raises Refusal with its line."""
    command = [sys.executable, "-m", "workers.exchange", "--check"]
    command += [part for path in files for part in ("--replay", path)]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise Refusal((answer.stderr.strip() or "the replay cannot be read").splitlines()[-1])


def _plan(home: Home, options: Options, previous: Runtime | None, given: dict[str, str]) -> Runtime:
    os.environ.update(given)
    runtime = plan_runtime(home, options, previous, given)
    runtime.write(home)
    bootstrap.load_settings(home, runtime)
    bootstrap.refuse_unknown_tier(options.tier)
    from django.conf import settings

    real = {"ws_url": settings.EXCHANGE_WS_URL, "rest_url": settings.EXCHANGE_REST_URL}
    runtime = dataclasses.replace(runtime, shard_count=settings.SHARD_COUNT, exchange=runtime.exchange or real)
    if not settings.INGEST_STANDBY:
        runtime = dataclasses.replace(runtime, standby_http_port=None)
    runtime.write(home)
    return runtime


def _start(manager: Manager, progress: Progress, options: Options) -> dict[str, Any]:
    home, runtime = manager.home, manager.runtime
    with progress.phase("PostgreSQL and Valkey"):
        _start_servers(manager)
    with progress.phase("migrations"):
        bootstrap.migrate()
        bootstrap.end_unfit_session(runtime, new_session=options.new_session)
    everything = services(runtime)
    manager.start_services(one for one in everything if one.stage == EXCHANGE)
    with progress.phase("static files and staff user"):
        bootstrap.collect_static_files()
        bootstrap.write_flower_configuration(home, runtime)
        credentials = bootstrap.ensure_staff_user(home, runtime)
    if any(one.stage == EXCHANGE for one in everything):
        with progress.phase("local exchange"):
            _wait_for_exchange(manager)
    with progress.phase("trading session"):
        bootstrap.prepare_session(runtime, name=options.name, days=options.days)
    bootstrap.start_trading(home, runtime, progress)
    bootstrap.close_connections()
    manager.start_services(one for one in everything if one.stage == WORKERS)
    with progress.phase("workers"):
        _wait_for_workers(manager)
    manager.start_services(one for one in everything if one.stage > WORKERS)
    return credentials


def _wait_for_workers(manager: Manager) -> None:
    """Until each has done a task. The feed begins after that, so the first signals do not grow old in a queue."""
    asked_ms = time.time_ns() // 1_000_000
    queues = worker_queues(manager.runtime)
    bootstrap.ask_workers(queues)
    deadline = time.monotonic() + WORKERS_SECONDS
    while silent := bootstrap.silent_workers(list(queues), asked_ms):
        if time.monotonic() > deadline:
            raise Refusal(f"{silent[0]} does not answer{last_lines(manager.home, silent[0])}")
        time.sleep(POLL_SECONDS)


def _start_servers(manager: Manager) -> None:
    home, runtime = manager.home, manager.runtime
    if runtime.postgres_port:
        postgres.prepare(home, runtime.postgres_port)
    if runtime.valkey_port:
        valkey.prepare(home, runtime.valkey_port)
    manager.start()
    manager.start_services(one for one in services(runtime) if one.stage == SERVERS)

    def alive(name: str) -> Callable[[], bool]:
        return lambda: all(one.restarts == 0 for one in manager.states() if one.name == name)

    _with_log(home, "postgres", lambda: wait_for_postgres(runtime.database_url, alive=alive("postgres")))
    _with_log(home, "valkey", lambda: wait_for_redis(runtime.redis_url, alive=alive("valkey")))


def _wait_for_exchange(manager: Manager) -> None:
    def answered() -> bool:
        try:
            with urllib.request.urlopen(f"{manager.runtime.exchange['rest_url']}/api/v3/ping", timeout=2):  # noqa: S310
                return True
        except OSError:
            return False

    def wait() -> None:
        deadline = time.monotonic() + EXCHANGE_SECONDS
        while not answered():
            restarts = next(one.restarts for one in manager.states() if one.name == "exchange")
            if restarts > 1 or time.monotonic() > deadline:
                raise Refusal("the local exchange does not answer")
            time.sleep(POLL_SECONDS)

    _with_log(manager.home, "exchange", wait)


def _wait_until_healthy(home: Home, runtime: Runtime, progress: Progress) -> Status:
    """The status when it became healthy, or when waiting no longer helps and only the health page complains."""
    with progress.phase("pages, first market data") as spinner:
        deadline = time.monotonic() + HEALTHY_SECONDS
        while True:
            status = read_status(home, runtime)
            if status.healthy:
                return status
            if time.monotonic() > deadline:
                break
            _say(spinner, status)
            time.sleep(POLL_SECONDS)
    if status.not_running:
        name = status.not_running[0]
        raise Refusal(f"{', '.join(status.not_running)} did not start{last_lines(home, name)}")
    return status


def _say(spinner: Spinner, status: Status) -> None:
    spinner.update("pages, first market data: " + "; ".join(complaints(status)[:3]))


def _with_log(home: Home, name: str, wait: Callable[[], None]) -> None:
    try:
        wait()
    except Refusal as refusal:
        raise Refusal(f"{refusal}{last_lines(home, name)}") from refusal


def last_lines(home: Home, name: str) -> str:
    """The end of a service's log, indented, to follow a message; empty if there is none."""
    path = Path(home.root / "logs" / f"{name}.log")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return "".join(f"\n  {line}" for line in lines[-LAST_LINES:])
