"""A server program in the foreground: as whom it runs, what it inherits, and how it ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from apps.ops.embedded.account import Account
from apps.ops.embedded.home import Home, Refusal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class RunAs(TypedDict, total=False):
    """The part of subprocess.Popen's arguments that gives up root."""

    user: int
    group: int
    extra_groups: list[int]


def run_as(account: Account | None) -> RunAs:
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def server_environment() -> Mapping[str, str]:
    """Servers get nothing of our environment but the path: no secrets, no locale, no PG* variables."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    command: tuple[str, ...]
    account: Account | None

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Start as a child that is killed when we die, in a session of its own: a Ctrl-C is not meant for it."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=server_environment(),
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
                **run_as(self.account),
            )

    def replace_this_process(self, death_signal: signal.Signals) -> None:
        """Become the server (under a process manager). Does not return."""
        parent = os.getppid()
        if self.account:
            os.setgroups([])
            os.setgid(self.account.gid)
            os.setuid(self.account.uid)
        os.chdir("/")
        die_with_parent(death_signal, parent)()
        os.execve(self.command[0], self.command, server_environment())  # noqa: S606


def die_with_parent(death_signal: signal.Signals, parent: int | None = None) -> Callable[[], None]:
    """A function for the child, after it changed its user: the kernel sends `death_signal` when `parent` dies."""
    parent = os.getpid() if parent is None else parent

    def arrange() -> None:
        if sys.platform == "linux":
            _libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return arrange


def adopt_orphans() -> None:
    """Let grandchildren whose parent ended become our children, so that none is left when we clean up."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def run_program(home: Home, command: Sequence[str], standard_input: str = "") -> str:
    """Run a program to its end as the servers' account and return its output. Raises Refusal if it fails."""
    answer = subprocess.run(
        command,
        input=standard_input,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=server_environment(),
        umask=0o077,
        **run_as(home.account),
    )
    # PostgreSQL's single-user mode ends with 0 also after a failed statement; it says ERROR or FATAL then.
    failed = [line for line in answer.stderr.splitlines() if "ERROR:" in line or "FATAL:" in line]
    if answer.returncode != 0 or failed:
        reason = (failed or answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Refusal(f"{Path(command[0]).name} failed with exit code {answer.returncode}: {reason}")
    return answer.stdout


def write_as_account(home: Home, path: Path, text: str) -> None:
    """Write a 0600 file as the servers' account: root must not write where another account could have put a link."""
    run_program(home, ["/bin/sh", "-c", 'rm -f "$1" && cat > "$1"', "sh", str(path)], text)
