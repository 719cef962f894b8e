"""What a strategy module hands to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.engine.kernel import NO_MINUTE, Array, Kernel


@dataclass(frozen=True, slots=True)
class StrategyModule:
    """A strategy. `layout` changes whenever `dtype` does: a stored state of another layout is refused."""

    name: str
    layout: str
    dtype: np.dtype[Any]
    kernel: Kernel
    pack: Callable[[Mapping[str, Any]], Array]
    window_minutes: Callable[[Mapping[str, Any]], int]  # closed minutes that a signal's figures reach back

    def new_state(self) -> Array:
        """The state of an instrument that has never traded: an array of one record."""
        state = np.zeros(1, dtype=self.dtype)
        state["minute"] = NO_MINUTE
        return state
