"""`python -m apps.ops.stack.launch SERVICE`: become one service. The process manager runs nothing else."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from apps.ops.embedded import postgres, valkey
from apps.ops.embedded.home import Refusal, open_home
from apps.ops.embedded.server import die_with_parent
from apps.ops.stack.runtime import read_runtime
from apps.ops.stack.services import services

# One thread per process: the parallelism is processes, and two cores are shared by all of them.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main(name: str) -> None:
    """Does not return. Raises Refusal."""
    home = open_home(Path(os.environ["CDB_DATA_DIR"]))
    runtime = read_runtime(home.root)
    if runtime is None:
        raise Refusal(f"no stack was started in {home.root}")
    # Should the manager be killed, its services must not go on unwatched. They are built to be killed; the servers
    # write to disk first.
    if name == "postgres":
        postgres.server(home).replace_this_process(signal.SIGINT)
    if name == "valkey":
        valkey.server(home).replace_this_process(signal.SIGTERM)
    service = next(one for one in services(runtime) if one.name == name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FLOWER_")}
    environment |= {"CDB_PROCESS_ROLE": service.role, "PYTHONUNBUFFERED": "1", **ONE_THREAD}
    command = service.command(runtime, home)
    step_back(service.niceness)
    die_with_parent(signal.SIGKILL, os.getppid())()
    os.execve(command[0], command, environment)  # noqa: S606  (no shell)


def step_back(niceness: int) -> None:
    """Become a session of its own, `niceness` behind the others for the processor.

    Linux shares the processor between sessions first (sched_autogroup): each session process of PostgreSQL is one, and
    all services of one manager together would weigh no more than it. A system without that counts the process's own.
    """
    with suppress(OSError):
        os.setpgid(0, os.getpgid(os.getppid()))  # the leader of a process group cannot begin a session
        os.setsid()
    os.nice(niceness)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Refusal as refusal:
        print(f"cdb: {refusal}", file=sys.stderr)
        sys.exit(2)
