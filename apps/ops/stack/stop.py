"""Stopping a stack so that nothing of it is left, whatever state it is in."""

from __future__ import annotations

import contextlib
import signal
import xmlrpc.client
from pathlib import Path

import psutil

from apps.ops.embedded.home import Home
from apps.ops.stack.manager import Manager, kill_all
from apps.ops.stack.runtime import Runtime
from apps.ops.stack.services import services

POSTGRES_STOP_SECONDS = 5


def stop_stack(home: Home, runtime: Runtime) -> int:
    """Stop in reverse order of starting, then kill what is left. The number of processes that had to be killed."""
    manager = Manager(home, runtime)
    if manager.pid() is not None:
        # Should the manager die meanwhile, what it leaves is found below.
        with contextlib.suppress(OSError, xmlrpc.client.Error):
            _stop_in_order(manager)
    left = manager.survivors()
    if left:
        _end(left)
    Path(runtime.manager_socket).unlink(missing_ok=True)
    return len(left)


def _stop_in_order(manager: Manager) -> None:
    everything = services(manager.runtime)
    for stage in sorted({service.stage for service in everything}, reverse=True):
        manager.stop_services(service for service in everything if service.stage == stage)
    manager.shut_down()


def _end(left: list[psutil.Process]) -> None:
    """PostgreSQL may write its last checkpoint; everything else is built to be killed."""
    kill_all([process for process in left if not _is_postgres(process)])
    servers = [process for process in left if _is_postgres(process)]
    for process in servers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(servers, timeout=POSTGRES_STOP_SECONDS)
    kill_all(alive)


def _is_postgres(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "postgres")
    except psutil.NoSuchProcess:
        return False
