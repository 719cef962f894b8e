"""The strategies. Each is one module: a state dtype, `on_bar`, `on_trade`, its parameters."""

from __future__ import annotations

from typing import Final

import numpy as np

from apps.engine.kernel import FIGURES
from apps.engine.strategies import momentum
from apps.engine.strategies.base import StrategyModule

STRATEGIES: Final[dict[str, StrategyModule]] = {momentum.MODULE.name: momentum.MODULE}
PARAMETERS_MAX: Final = 16


def warm_kernels() -> None:
    """Load every compiled kernel, or compile it: the first trades must not wait for that."""
    nothing, parameters = np.empty(0), np.zeros(PARAMETERS_MAX)
    times = np.empty(0, dtype=np.int64)
    for module in STRATEGIES.values():
        module.kernel.scan(module.new_state(), parameters, times, nothing, nothing, times, np.empty((0, FIGURES)))
        module.kernel.roll(module.new_state(), parameters, 0)
        module.kernel.warm(module.new_state(), parameters, 0, 1.0, 1.0)
