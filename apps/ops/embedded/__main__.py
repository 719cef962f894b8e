"""`python -m apps.ops.embedded exec --temporary -- COMMAND...`: run it with fresh servers, then leave nothing."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from types import FrameType

import psutil

from apps.ops.embedded.home import Refusal
from apps.ops.embedded.server import adopt_orphans, die_with_parent
from apps.ops.embedded.temporary import TemporaryServers

GRACE_SECONDS = 10


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m apps.ops.embedded", description=__doc__)
    commands = parser.add_subparsers(required=True)
    execute = commands.add_parser("exec", help="run COMMAND with DATABASE_URL, REDIS_URL and CDB_DATA_DIR set")
    execute.add_argument("--temporary", action="store_true", required=True, help="fresh servers, removed afterwards")
    execute.add_argument("command", nargs="+", metavar="COMMAND")
    try:
        return execute_with_servers(parser.parse_args(arguments).command)
    except Refusal as refusal:
        print(f"cdb: {refusal}", file=sys.stderr)
        return 2


def execute_with_servers(command: list[str]) -> int:
    """The command's exit code; 128 + n if signal n ended it or us."""
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    servers = TemporaryServers()
    try:
        servers.start()
        return _run(command, {**os.environ, **servers.environment})
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # nothing may cut the cleaning short
        servers.stop()
        _kill_descendants()


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _run(command: list[str], environment: dict[str, str]) -> int:
    try:
        child = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent(signal.SIGKILL))
    except OSError as error:
        raise Refusal(f"cannot run {command[0]}: {error.strerror}") from error
    try:
        code = _wait(child.pid)
    except KeyboardInterrupt:  # the terminal has sent it to the command as well
        code = _end(child, signal.SIGINT)
    except SystemExit:
        _end(child, signal.SIGTERM)
        raise
    return 128 - code if code < 0 else code


def _wait(pid: int) -> int:
    """Wait for the command, and meanwhile bury the orphans that we adopted, as an init process does.

    An orphan that nobody buries keeps its number; PostgreSQL would take it for a server that still runs.
    """
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _end(child: subprocess.Popen[bytes], number: signal.Signals) -> int:
    if number is not signal.SIGINT:
        child.send_signal(number)
    try:
        return child.wait(timeout=GRACE_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        return child.wait()


def _kill_descendants() -> None:
    """End what the command started and did not wait for; orphans have become our children."""
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            process.kill()
        psutil.wait_procs(descendants, timeout=5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
