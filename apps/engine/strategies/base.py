"""What a strategy module hands to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.engine.kernel import NO_MINUTE, Array, Kernel
from apps.engine.strategies import parameters
from apps.engine.strategies.parameters import ParameterSpec

_OPEN_MINUTE: tuple[str, ...] = ("open_turnover", "quiet_until", "failed")


def _nothing_more(_parameters: Mapping[str, Any]) -> None:
    """No rule between parameters."""


@dataclass(frozen=True, slots=True)
class StrategyModule:
    """A strategy. `layout` changes whenever `dtype` does: a stored state of another layout is refused."""

    name: str
    layout: str
    dtype: np.dtype[Any]
    kernel: Kernel
    parameters: tuple[ParameterSpec, ...]  # of the entry and of the exits
    pack: Callable[[Mapping[str, Any]], Array]
    window_minutes: Callable[[Mapping[str, Any]], int]  # closed minutes that a signal's figures reach back
    bars_needed: Callable[[Mapping[str, Any]], int]  # closed minutes before the first decision
    kept: tuple[str, ...]  # fields that no minute's bar gives: they outlive beginning anew from repaired minutes
    agree: Callable[[Mapping[str, Any]], None] = _nothing_more  # raises ValueError if values contradict each other

    def validate(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a new version, defaults filled in. Raises ValueError naming parameter, unit and bounds."""
        values = parameters.validate(self.parameters, given)
        self.agree(values)
        return values

    def warm_up(self, state: Array, given: Mapping[str, Any]) -> tuple[int, int]:
        """(closed minutes known, closed minutes needed): "warming up, 9 of 15 bars". Equal once it can decide."""
        need = self.bars_needed(given)
        return min(int(state["closed"][0]), need), need

    def new_state(self) -> Array:
        """The state of an instrument that has never traded: an array of one record."""
        state = np.zeros(1, dtype=self.dtype)
        state["minute"] = NO_MINUTE
        return state

    def anew(self, old: Array, packed: Array, minutes: Sequence[tuple[int, float, float]]) -> Array:
        """The state after these closed minutes (number, close, turnover), in the same open minute as `old`."""
        state = self.new_state()
        for name in self.kept:
            state[name] = old[name]
        for minute, close, turnover in minutes:
            self.kernel.warm(state, packed, minute, close, turnover)
        for name in (*_OPEN_MINUTE, *self.kept):
            state[name] = old[name]
        return state
