"""What a strategy module hands to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.engine.kernel import NO_MINUTE, Array, Kernel
from apps.engine.strategies import parameters
from apps.engine.strategies.parameters import ParameterSpec


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
    kept: tuple[str, ...]  # fields that no minute's bar gives: they outlive beginning anew from repaired minutes

    def validate(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a new version, defaults filled in. Raises ValueError naming parameter, unit and bounds."""
        return parameters.validate(self.parameters, given)

    def new_state(self) -> Array:
        """The state of an instrument that has never traded: an array of one record."""
        state = np.zeros(1, dtype=self.dtype)
        state["minute"] = NO_MINUTE
        return state

    def anew(self, old: Array, parameters: Array, minutes: Sequence[tuple[int, float, float]]) -> Array:
        """The state after these closed minutes (number, close, turnover), in the same open minute as `old`."""
        state = self.new_state()
        for minute, close, turnover in minutes:
            self.kernel.warm(state, parameters, minute, close, turnover)
        for name in ("open_turnover", *self.kept):
            state[name] = old[name]
        return state
