"""The process manager (supervisor) of one data directory: its configuration, its start, and talking to it."""

from __future__ import annotations

import http.client
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from apps.ops.embedded import postgres, valkey
from apps.ops.embedded.home import Home, Refusal, write_private
from apps.ops.stack.runtime import Runtime
from apps.ops.stack.services import Service, services

REPOSITORY = Path(__file__).resolve().parents[3]
START_SECONDS = 15
NOT_RUNNING = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}

HEAD = """\
[unix_http_server]
file={socket}
chmod=0700

[supervisord]
logfile={root}/logs/manager.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={root}/run/manager.pid
umask=077
nocleanup=true
directory={repository}
{user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:cdb]
supervisor.rpcinterface_factory=apps.ops.stack.plugin:make
"""

PROGRAM = """
[program:{name}]
command={command}
autostart=false
autorestart=true
startretries=1000
startsecs=2
stopsignal={signal}
stopwaitsecs={seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """`state` is the manager's word: RUNNING, STARTING, BACKOFF (waits to start again), STOPPING, STOPPED."""

    name: str
    state: str
    pid: int | None
    uptime_s: int | None
    restarts: int


class Manager:
    def __init__(self, home: Home, runtime: Runtime) -> None:
        self.home, self.runtime = home, runtime
        self._address = f"unix://{runtime.manager_socket}"

    def call(self, method: str, *arguments: Any) -> Any:
        """Call the manager. Raises OSError if there is none, xmlrpc.client.Fault if it refuses."""
        transport = SupervisorTransport(None, None, self._address)
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
                return getattr(server, method)(*arguments)
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error

    def pid(self) -> int | None:
        """The manager's process id; None if none answers."""
        try:
            return int(self.call("supervisor.getPID"))
        except OSError:
            return None

    def states(self) -> list[ServiceState]:
        """One per service of the stack, in starting order. Raises OSError if no manager answers."""
        restarts: dict[str, int] = self.call("cdb.restarts")
        found = {info["name"]: info for info in self.call("supervisor.getAllProcessInfo")}
        return [_state(found[one.name], restarts.get(one.name, 0)) for one in services(self.runtime)]

    def start(self) -> None:
        """Start the manager with nothing running under it. Raises Refusal."""
        for folder in ("run", "logs"):
            (self.home.root / folder).mkdir(mode=0o700, exist_ok=True)
        path = self.home.root / "run" / "manager.conf"
        write_private(path, self._configuration())
        environment = {**os.environ, "CDB_DATA_DIR": str(self.home.root), "PORT": str(self.runtime.port)}
        answer = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + START_SECONDS
        while self.pid() is None:
            if answer.returncode != 0 or time.monotonic() > deadline:
                reason = (answer.stderr.strip() or "it does not answer").splitlines()[0]
                raise Refusal(f"the process manager did not start: {reason}")
            time.sleep(0.05)

    def start_services(self, chosen: Iterable[Service]) -> None:
        for service in chosen:
            self.call("supervisor.startProcess", service.name, False)

    def stop_services(self, chosen: Iterable[Service]) -> None:
        """Ask all of them to stop at once, then wait; the manager kills those that take too long."""
        chosen = list(chosen)
        for service in chosen:
            try:
                self.call("supervisor.stopProcess", service.name, False)
            except xmlrpc.client.Fault:  # it is not running
                continue
        names = {service.name for service in chosen}
        deadline = time.monotonic() + 5 + max((service.stop_seconds for service in chosen), default=0)
        while any(one.name in names and one.state not in NOT_RUNNING for one in self.states()):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def shut_down(self) -> None:
        pid = self.pid()
        if pid is not None:
            self.call("supervisor.shutdown")
            psutil.wait_procs([process for process in (_process(pid),) if process], timeout=5)

    def survivors(self) -> list[psutil.Process]:
        """Every process of this stack that is alive: the manager, its services and whatever they started."""
        folders = {str(postgres.cluster(self.home)), str(valkey.folder(self.home))}
        configuration = str(self.home.root / "run" / "manager.conf")
        return [one for one in psutil.process_iter() if self._is_ours(one, folders, configuration)]

    def _is_ours(self, process: psutil.Process, folders: set[str], configuration: str) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if process.environ().get("SUPERVISOR_SERVER_URL") == self._address or configuration in process.cmdline():
                return bool(process.pid != os.getpid())
            # The servers run without our environment (and write their titles over it), but in their own folders.
            return str(process.cwd()) in folders
        except (psutil.Error, OSError):
            return False

    def _configuration(self) -> str:
        def text(value: object) -> str:
            return str(value).replace("%", "%%")

        root = text(self.home.root)
        user = "user=root\n" if os.geteuid() == 0 else ""
        parts = [
            HEAD.format(socket=text(self.runtime.manager_socket), root=root, repository=text(REPOSITORY), user=user)
        ]
        for one in services(self.runtime):
            command = text(shlex.join([sys.executable, "-m", "apps.ops.stack.launch", one.name]))
            name, signal_name = one.name, one.stop_signal.name.removeprefix("SIG")
            logs = text(f"{root}/logs")  # the manager expands this option twice
            parts.append(
                PROGRAM.format(name=name, command=command, signal=signal_name, seconds=one.stop_seconds, logs=logs)
            )
        return "".join(parts)


def _state(info: dict[str, Any], restarts: int) -> ServiceState:
    running = info["statename"] in ("RUNNING", "STARTING")
    return ServiceState(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"] or None,
        uptime_s=max(0, info["now"] - info["start"]) if running else None,
        restarts=restarts,
    )


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=5)
