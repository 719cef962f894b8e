"""From a taken run to its end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from apps.backtest.models import BacktestRun
from apps.backtest.services import runs


def carry_out(*, run: BacktestRun, clock: Callable[[], datetime]) -> None:
    """Simulate what the run asks."""
    runs.fail(run=run, words="no simulation is built in yet", now=clock())
