"""The strategies. Each is one module: a state dtype, `on_bar`, `on_trade`, its parameters."""

from __future__ import annotations

from typing import Final

from apps.engine.strategies import momentum
from apps.engine.strategies.base import StrategyModule

STRATEGIES: Final[dict[str, StrategyModule]] = {momentum.MODULE.name: momentum.MODULE}
