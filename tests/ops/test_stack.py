"""The process manager with the real servers under it: restarts, kills, stops. Whole stacks: test_stack_road.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from xmlrpc.client import ServerProxy

import psutil
import psycopg
import pytest
from supervisor.xmlrpc import SupervisorTransport

from apps.ops.embedded import postgres, valkey
from apps.ops.embedded.binaries import postgres_folder
from apps.ops.embedded.home import Home, open_home, pick_port, remove_servers
from apps.ops.embedded.ready import wait_for_postgres, wait_for_redis
from apps.ops.embedded.server import run_program
from apps.ops.stack.manager import REPOSITORY, Manager, kill_all
from apps.ops.stack.plugin import PAUSES_SECONDS
from apps.ops.stack.runtime import Options, plan_runtime
from apps.ops.stack.services import SERVERS, services
from apps.ops.stack.stop import stop_stack

pytestmark = pytest.mark.alone


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = open_home(tmp_path / "data")
    yield home
    remove_servers(home)


@pytest.fixture
def manager(home: Home) -> Iterator[Manager]:
    """A manager with PostgreSQL and Valkey under it, both answering."""
    made = start_servers(home)
    yield made
    stop_stack(home, made.runtime)


def start_servers(home: Home) -> Manager:
    runtime = plan_runtime(home, Options(port=pick_port()), None, {})
    postgres.prepare(home, runtime.postgres_port or 0, lasting=False)
    valkey.prepare(home, runtime.valkey_port or 0)
    runtime.write(home)
    manager = Manager(home, runtime)
    manager.start()
    manager.start_services(one for one in services(runtime) if one.stage == SERVERS)
    wait_for_postgres(runtime.database_url)
    wait_for_redis(runtime.redis_url)
    return manager


def pid_of(manager: Manager, name: str) -> int | None:
    return next(one.pid for one in manager.states() if one.name == name)


def was_shut_down(home: Home) -> bool:
    """Whether PostgreSQL wrote its last checkpoint, so that the next start has nothing to recover."""
    facts = run_program(home, [str(postgres_folder(home) / "pg_controldata"), "-D", str(postgres.cluster(home))])
    return bool(re.search(r"cluster state: +shut down\n", facts))


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_killed_server_is_started_again_and_counted(manager: Manager, name: str) -> None:
    first = pid_of(manager, name)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: pid_of(manager, name) not in (None, first))
    wait_for_postgres(manager.runtime.database_url)
    wait_for_redis(manager.runtime.redis_url)
    found = {one.name: one.restarts for one in manager.states()}
    assert found[name] >= 1
    assert sum(found.values()) == found[name]


def test_a_stop_that_was_asked_for_is_no_restart(manager: Manager) -> None:
    chosen = [one for one in services(manager.runtime) if one.name == "valkey"]
    manager.stop_services(chosen)
    assert [one.state for one in manager.states() if one.name == "valkey"] == ["STOPPED"]
    manager.start_services(chosen)
    wait_for_redis(manager.runtime.redis_url)
    assert [one.restarts for one in manager.states() if one.name == "valkey"] == [0]


def test_a_stop_leaves_no_process_and_no_unclean_database(manager: Manager) -> None:
    assert len(manager.survivors()) > 3
    began = time.monotonic()
    assert stop_stack(manager.home, manager.runtime) == 0
    assert time.monotonic() - began < 15
    assert manager.survivors() == []
    assert manager.pid() is None
    assert was_shut_down(manager.home)
    assert stop_stack(manager.home, manager.runtime) == 0  # a second stop has nothing to do


def test_when_the_manager_is_killed_its_services_end_too(manager: Manager) -> None:
    pid = manager.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: manager.survivors() == [])
    assert was_shut_down(manager.home)


def test_a_stop_ends_what_a_service_started_and_left_behind(manager: Manager) -> None:
    inherited = {"SUPERVISOR_SERVER_URL": f"unix://{manager.runtime.manager_socket}", "PATH": os.defpath}
    orphan = subprocess.check_output(["/bin/sh", "-c", "sleep 300 >/dev/null & echo $!"], env=inherited, text=True)
    assert stop_stack(manager.home, manager.runtime) == 1
    wait_until(lambda: not psutil.pid_exists(int(orphan)))
    assert manager.survivors() == []


def test_a_start_after_kills_finds_the_data(home: Home) -> None:
    for expected in ([], [(7,)]):
        manager = start_servers(home)
        with psycopg.connect(manager.runtime.database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (seven int)")
            assert connection.execute("SELECT seven FROM kept").fetchall() == expected
            connection.execute("INSERT INTO kept VALUES (7)")
        kill_all(manager.survivors())
        wait_until(lambda manager=manager: manager.survivors() == [])  # type: ignore[misc]
    stop_stack(home, manager.runtime)


def test_a_data_directory_may_be_deeper_than_any_unix_socket(tmp_path: Path) -> None:
    home = open_home(tmp_path / ("a folder 100% full, of spaces" + "x" * 60) / ("y" * 60))
    try:
        manager = start_servers(home)
        assert {one.state for one in manager.states() if one.name in ("postgres", "valkey")} <= {"STARTING", "RUNNING"}
        socket = Path(manager.runtime.manager_socket)
        assert socket.parent.stat().st_mode & 0o077 == 0
        stop_stack(home, manager.runtime)
        assert manager.survivors() == []
        socket.parent.rmdir()
    finally:
        remove_servers(home)


def test_a_service_that_always_fails_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    """A manager of its own, with the same plugin and a service that notes the time and fails."""
    starts = tmp_path / "starts"
    configuration = tmp_path / "manager.conf"
    configuration.write_text(f"""
[unix_http_server]
file={tmp_path}/socket
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={tmp_path}/pid
{"user=root" if os.geteuid() == 0 else ""}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[rpcinterface:cdb]
supervisor.rpcinterface_factory=apps.ops.stack.plugin:make
[program:broken]
command=/bin/sh -c "date +%%s.%%N >> {starts}; exit 1"
autorestart=true
startretries=1000
startsecs=2
""")
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: starts.exists() and len(starts.read_text().split()) >= 5, seconds=30)
        with ServerProxy("http://localhost", SupervisorTransport(None, None, f"unix://{tmp_path}/socket")) as server:
            restarts = server.cdb.restarts()
            state = server.supervisor.getProcessInfo("broken")
        assert restarts == {"broken": 5}  # the fifth one is being waited for
        assert isinstance(state, dict)
        assert state["statename"] == "BACKOFF"
    finally:
        process.terminate()
        process.wait(timeout=20)
    times = [float(text) for text in starts.read_text().split()]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    for pause, least in zip(pauses, PAUSES_SECONDS, strict=False):
        assert least <= pause < least + 3
