"""Which version of a strategy judges which minute: its packed parameters, changed at minutes that are known beforehand.

A change at minute F means: every trade of minute F or later is judged by the new parameters, and so is what a close
works out for minute F. So minutes before F - 1 are closed with the old parameters, F - 1 and later ones with the new.
That depends on trades and minutes alone, never on how they were cut into batches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from apps.engine.kernel import MINUTE_MS, Array
from apps.engine.strategies.base import StrategyModule

ALWAYS: Final = -1
"""An event minute before all others: from here on until the first change."""


@dataclass(frozen=True, slots=True)
class Stage:
    """From this event minute on (until the next stage) this version judges."""

    from_minute: int
    version_id: int
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Packed:
    """A stage as the kernel needs it. `window_minutes`: how far its figures reach back."""

    from_minute: int
    version_id: int
    parameters: Array
    window_minutes: int


class Plan:
    """The stages of one strategy. Of several from the same minute the last one given is in force."""

    def __init__(self, module: StrategyModule, stages: Sequence[Stage]) -> None:
        """`stages` in the order in which they were decided, minutes never decreasing; the first is in force before.

        Raises ValueError if a parameter is out of range or the minutes go back.
        """
        starts = [stage.from_minute for stage in stages[1:]]
        if starts != sorted(starts):
            raise ValueError("a change of parameters is from an earlier minute than the one before it")
        module.kernel.load()
        self.module = module
        last = {stage.from_minute: stage for stage in stages[1:]}
        first = Stage(ALWAYS, stages[0].version_id, stages[0].parameters)
        self._packed = [
            Packed(
                stage.from_minute,
                stage.version_id,
                module.pack(stage.parameters),
                module.window_minutes(stage.parameters),
            )
            for stage in ({ALWAYS: first} | last).values()
        ]
        self._starts = [packed.from_minute for packed in self._packed]

    def at(self, minute: int) -> Packed:
        """What judges the trades of an event minute."""
        return self._packed[max(bisect_right(self._starts, minute) - 1, 0)]

    def roll(self, strategy: Array, minute: int) -> None:
        """Close every minute before `minute`, each with the parameters that judge the minute after it."""
        for change in self._changes(strategy, minute):
            self._close_before(strategy, change)
        self.module.kernel.roll(strategy, self.at(minute).parameters, minute)

    def warm(self, strategy: Array, minute: int, close: float, turnover: float) -> None:
        """A closed minute from the exchange's history (see `Kernel.warm`)."""
        self.roll(strategy, minute)
        self.module.kernel.warm(strategy, self.at(minute + 1).parameters, minute, close, turnover)

    def pieces(self, strategy: Array, ts: Array) -> Iterator[tuple[int, int, Array]]:
        """Cut trades (event times in ms, at least one) where the parameters change: (start, end, parameters).

        Each piece must have been scanned before the next one is asked for: minutes are closed in between.
        """
        if len(self._packed) == 1:
            yield 0, len(ts), self._packed[0].parameters
            return
        minutes = ts // MINUTE_MS
        newest, start = int(minutes.max()), 0
        for change in self._changes(strategy, newest):
            end = start + int(np.argmax(minutes[start:] >= change))
            if end > start:
                yield start, end, self.at(change - 1).parameters
            self._close_before(strategy, change)
            start = end
        yield start, len(ts), self.at(newest).parameters

    def _changes(self, strategy: Array, minute: int) -> list[int]:
        """Where stages begin after the open minute, up to and including `minute`."""
        if len(self._starts) == 1:
            return []
        open_minute = int(strategy["minute"][0])
        return [start for start in self._starts[1:] if open_minute < start <= minute]

    def _close_before(self, strategy: Array, change: int) -> None:
        """Close what must be closed with the parameters before a change: all minutes before the last one."""
        self.module.kernel.roll(strategy, self.at(change - 1).parameters, change - 1)
