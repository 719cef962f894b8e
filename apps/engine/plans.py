"""Which version of a strategy judges which minute: its packed parameters, changed at minutes that are known beforehand.

A change at minute F means: every trade of minute F or later is judged by the new parameters, and so is what a close
works out for minute F. So minutes before F - 1 are closed with the old parameters, F - 1 and later ones with the new.
That depends on trades and minutes alone, never on how they were cut into batches.

A stage may also say that nobody judges from its minute on: nothing is closed and nothing is asked then. The first stage
after it that judges begins anew, knowing nothing, as an instrument that has never traded.
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
    """From this event minute on (until the next stage) this version judges; if not `enabled`, nobody does."""

    from_minute: int
    version_id: int
    parameters: Mapping[str, Any]
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Packed:
    """A stage as the kernel needs it. `window_minutes`: how far its figures reach back.

    `anew`: nobody judged before it, so what the state knows is dropped where it begins.
    """

    from_minute: int
    version_id: int
    parameters: Array
    window_minutes: int
    enabled: bool
    anew: bool


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
        packed = {ALWAYS: self._pack(stages[0], ALWAYS, anew=False)}
        enabled = stages[0].enabled
        for stage in stages[1:]:
            same = packed.get(stage.from_minute)
            anew = stage.enabled and (not enabled or (same is not None and same.anew))
            packed[stage.from_minute] = self._pack(stage, stage.from_minute, anew=anew)
            enabled = stage.enabled
        self._packed = list(packed.values())
        self._starts = [row.from_minute for row in self._packed]

    def _pack(self, stage: Stage, from_minute: int, *, anew: bool) -> Packed:
        parameters, reach = self.module.pack(stage.parameters), self.module.window_minutes(stage.parameters)
        return Packed(from_minute, stage.version_id, parameters, reach, stage.enabled, anew)

    def at(self, minute: int) -> Packed:
        """What judges the trades of an event minute."""
        return self._packed[max(bisect_right(self._starts, minute) - 1, 0)]

    def resumes(self, minute: int) -> int | None:
        """Where the next stage begins, after an event minute, that judges anew; None if none is known."""
        return next((row.from_minute for row in self._packed if row.anew and row.from_minute > minute), None)

    def begin_anew(self, strategy: Array, minute: int) -> None:
        """Drop what is known of minutes before `minute`, if that has not been done yet."""
        if int(strategy["minute"][0]) < minute:
            strategy[:] = self.module.new_state()

    def roll(self, strategy: Array, minute: int) -> None:
        """Close every minute before `minute`, each with the parameters that judge the minute after it."""
        for change in self._changes(strategy, minute):
            self._enter(strategy, change)
        judge = self.at(minute)
        if judge.enabled:
            self.module.kernel.roll(strategy, judge.parameters, minute)

    def warm(self, strategy: Array, minute: int, close: float, turnover: float) -> None:
        """A closed minute from the exchange's history (see `Kernel.warm`)."""
        self.roll(strategy, minute)
        judge = self.at(minute + 1)
        if judge.anew:
            self.begin_anew(strategy, judge.from_minute)
        if judge.enabled:
            self.module.kernel.warm(strategy, judge.parameters, minute, close, turnover)

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
            before = self.at(change - 1)
            if end > start and before.enabled:
                yield start, end, before.parameters
            self._enter(strategy, change)
            start = end
        judge = self.at(newest)
        if judge.enabled:
            yield start, len(ts), judge.parameters

    def _changes(self, strategy: Array, minute: int) -> list[int]:
        """Where stages begin after the open minute, up to and including `minute`."""
        if len(self._starts) == 1:
            return []
        open_minute = int(strategy["minute"][0])
        return [start for start in self._starts[1:] if open_minute < start <= minute]

    def _enter(self, strategy: Array, change: int) -> None:
        """Close what must be closed with the parameters before a change: all minutes before the last one."""
        judge = self.at(change)
        if judge.anew:
            self.begin_anew(strategy, change)
        elif judge.enabled:
            self.module.kernel.roll(strategy, self.at(change - 1).parameters, change - 1)
