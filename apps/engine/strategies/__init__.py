"""The strategies. Each is one module: a state dtype, `on_bar`, `on_trade`, its parameters."""

from __future__ import annotations

from typing import Final

from apps.engine import exit_kernel
from apps.engine.strategies import mean_reversion, momentum
from apps.engine.strategies.base import StrategyModule

STRATEGIES: Final[dict[str, StrategyModule]] = {
    module.name: module for module in (momentum.MODULE, mean_reversion.MODULE)
}


def warm_up_kernels() -> None:
    """Load every compiled kernel, or compile it: once per process, so that the first trades do not wait for that."""
    for module in STRATEGIES.values():
        module.kernel.load()
    exit_kernel.warm_up()
