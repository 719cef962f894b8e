"""Points at which a process can be told to fail: off unless the environment names them, for the tests of faults.

`CDB_FAIL=name:n[:action]`, several separated by commas. The n-th time a process passes that point, and only then, it
does the action: `exit` (the default: it ends at once with status 137, as after a kill -9), `stop` (it stands still
until somebody sends SIGCONT), `raise` (`FailpointReached`), or `sleep_ms=1500`.

`CDB_FAIL_FOLDER` names a folder in which each point that fired leaves a note, whose name is the point's and whose text
is the process id. A point that has its note does not fire again, in no process: so a supervised process that
starts again with the same environment is not killed for ever, and a test knows what happened and when.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

VARIABLE: Final = "CDB_FAIL"
FOLDER_VARIABLE: Final = "CDB_FAIL_FOLDER"
EXIT_STATUS: Final = 137
SLEEP_MS_MAX: Final = 600_000

# Every point of the code, in the order of the road, and where it lies.
POINTS: Final[Mapping[str, str]] = {
    "ingest.recv": "frames were received and not handed to the decoder",
    "ingest.appended": "a batch is on the stream and nobody was woken",
    "drain.before_lock": "a drain was woken and has not asked for the cursor's lock",
    "drain.after_lock": "it holds the lock, the flag still stands",
    "drain.after_read": "the flag is cleared and the entries are read",
    "drain.before_commit": "everything is written and nothing is committed",
    "drain.after_commit": "it is committed, and the flag was not looked at again",
    "drain.before_ack": "the task is done and its message is not acknowledged",
    "risk.after_lock": "the account is locked and nothing is decided",
    "risk.before_commit": "verdict, reservation, intent and event are written and not committed",
    "sender.before_submitting": "the order is SUBMITTING and that is not committed",
    "sender.after_submitting": "that is committed, and the venue knows nothing",
    "sender.at_venue": "the venue has the order, and its answer is on the way",
    "sender.after_reply": "the venue has answered, and that is not committed",
    "outbox.after_publish": "an event was published and not marked",
}


class FailpointError(ValueError):
    """`CDB_FAIL` cannot be understood; the message is one line that says how it should look."""


class FailpointReached(Exception):
    """What a point with the action `raise` raises."""


@dataclass(slots=True)
class _Plan:
    """What one point is to do: at which passing, and what. `passed` counts."""

    name: str
    at: int
    action: str
    passed: int = 0


@dataclass(slots=True)
class _Armed:
    plans: dict[str, _Plan] = field(default_factory=dict)
    folder: Path | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_armed: _Armed | None = None


def failpoint(name: str) -> None:
    """Pass a point. Without a plan for it nothing happens."""
    if _armed is not None:
        _pass(_armed, name)


def arm_from(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Arm what the environment asks for, or nothing; the names. Raises `FailpointError`."""
    return arm(environment.get(VARIABLE, ""), folder=environment.get(FOLDER_VARIABLE, ""))


def arm(text: str, *, folder: str = "") -> tuple[str, ...]:
    """Arm the points of a text such as `drain.after_lock:3,risk.before_commit:1:stop`; "" disarms all.

    Raises `FailpointError` for a point that the code does not have, a count below one, an action that does not exist,
    or a folder that is not there.
    """
    global _armed
    plans = [_read(part.strip()) for part in text.split(",") if part.strip()]
    if folder and not Path(folder).is_dir():
        raise FailpointError(f"{FOLDER_VARIABLE} names no folder")
    if len({plan.name for plan in plans}) < len(plans):
        raise FailpointError(f"{VARIABLE} names a point twice")
    _armed = _Armed({plan.name: plan for plan in plans}, Path(folder) if folder else None) if plans else None
    return tuple(plan.name for plan in plans)


def _read(text: str) -> _Plan:
    name, _, rest = text.partition(":")
    count, _, action = rest.partition(":")
    if name not in POINTS:
        raise FailpointError(f"{VARIABLE}: {name!r} is none of {', '.join(POINTS)}")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", count):
        raise FailpointError(f"{VARIABLE}: {text!r} does not say at which passing, such as {name}:1")
    action = action or "exit"
    sleep = re.fullmatch(r"sleep_ms=([0-9]{1,7})", action)
    if action not in ("exit", "stop", "raise") and not (sleep and int(sleep[1]) <= SLEEP_MS_MAX):
        raise FailpointError(f"{VARIABLE}: {action!r} is none of exit, stop, raise, sleep_ms=0 to {SLEEP_MS_MAX}")
    return _Plan(name, int(count), action)


def _pass(armed: _Armed, name: str) -> None:
    plan = armed.plans.get(name)
    if plan is None:
        assert name in POINTS, f"{name} is missing in the table of failpoints"
        return
    with armed.lock:
        plan.passed += 1
        due = plan.passed == plan.at
    if due and _first(armed.folder, name):
        _act(plan)


def _first(folder: Path | None, name: str) -> bool:
    """Leave the note; False if another process left it before."""
    if folder is None:
        return True
    try:
        with (folder / name).open("x", encoding="ascii") as note:
            note.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _act(plan: _Plan) -> None:
    if plan.action == "exit":
        os._exit(EXIT_STATUS)
    if plan.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif plan.action == "raise":
        raise FailpointReached(plan.name)
    else:
        time.sleep(int(plan.action.partition("=")[2]) / 1000)
