"""Commands with their times: a JSON list that is played while the exchange runs.

Each item is a command and one of `at_s` (seconds of this machine since the exchange listens), `at_event_s` (seconds of
event time since its start) or `on_connection` (when the connection of this number has been opened); `every_s` repeats
it so often after the first time, `until_s` (since the exchange listens) ends that.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from workers.exchange.faults.commands import BadCommandError, Command, read_command

_EVERY_SECONDS_MIN: Final = 0.01
Trigger = Literal["at_s", "at_event_s", "on_connection"]
TRIGGERS: Final[tuple[Trigger, ...]] = ("at_s", "at_event_s", "on_connection")


class ScriptError(Exception):
    """A script that cannot be played; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A command and when it is due; `every_s` repeats it until `until_s`."""

    trigger: Trigger
    at: float
    command: Command
    every_s: float | None
    until_s: float | None


def read_script(path: Path) -> list[Cue]:
    """The cues of a file; raises ScriptError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScriptError(f"{path}: cannot be read: {error}") from None
    if not isinstance(document, list):
        raise ScriptError(f"{path}: must be a list of commands")
    cues = []
    for number, item in enumerate(document, 1):
        try:
            cues.append(read_cue(item))
        except BadCommandError as error:
            raise ScriptError(f"{path}: command {number}: {error}") from None
    return cues


def read_cue(document: object) -> Cue:
    """One item of a script; raises BadCommandError."""
    if not isinstance(document, dict):
        raise BadCommandError("must be an object")
    values: dict[str, Any] = dict(document)
    given = [name for name in TRIGGERS if name in values]
    if len(given) != 1:
        raise BadCommandError(f"needs exactly one of {', '.join(TRIGGERS)}")
    at = _seconds(given[0], values.pop(given[0]))
    every_s, until_s = values.pop("every_s", None), values.pop("until_s", None)
    if every_s is not None and _seconds("every_s", every_s) < _EVERY_SECONDS_MIN:
        raise BadCommandError(f"every_s must be at least {_EVERY_SECONDS_MIN}")
    if until_s is not None:
        _seconds("until_s", until_s)
    return Cue(given[0], at, read_command(values), every_s, until_s)


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise BadCommandError(f"{name} must be a number that is not negative")
    return float(value)


class Script:
    """Says which commands are due."""

    def __init__(self, cues: list[Cue]) -> None:
        self._order = count()
        self._waiting: dict[Trigger, list[tuple[float, int, Cue]]] = {trigger: [] for trigger in TRIGGERS}
        for cue in cues:
            self._wait(cue.trigger, cue.at, cue)

    def _wait(self, trigger: Trigger, at: float, cue: Cue) -> None:
        heapq.heappush(self._waiting[trigger], (at, next(self._order), cue))

    def due(self, elapsed_s: float, event_s: float, connections: int) -> Iterator[Command]:
        """The commands whose time has come, in the order of their times."""
        for trigger, now in zip(TRIGGERS, (elapsed_s, event_s, float(connections)), strict=True):
            waiting = self._waiting[trigger]
            while waiting and waiting[0][0] <= now:
                _, _, cue = heapq.heappop(waiting)
                yield cue.command
                self._repeat(cue, elapsed_s)

    def _repeat(self, cue: Cue, elapsed_s: float) -> None:
        """Every repetition is timed by this machine's clock; those missed are left out."""
        if cue.every_s is None:
            return
        again = elapsed_s + cue.every_s
        if cue.until_s is None or again <= cue.until_s:
            self._wait("at_s", again, cue)
