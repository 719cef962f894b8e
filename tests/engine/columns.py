"""Made-up trades as columns, and one strategy run over them in pieces of any length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from apps.engine.judging import Columns, Found, Scanner
from apps.engine.kernel import Array
from apps.engine.plans import ALWAYS, Plan, Stage
from apps.engine.strategies import STRATEGIES
from tests.engine.market_stream import SCALE, Print, make_prints

LIVELY_REVERSION = {
    "window_minutes": 8, "entry_deviations": 1.2, "exit_deviations": 0.2, "rsi_max": 70, "cooldown_minutes": 3,
}  # fmt: skip
LIVELY_MOMENTUM = {"lookback_minutes": 5, "threshold_pct": 0.8, "rsi_min": 40, "cooldown_minutes": 3}
LIVELY: Mapping[str, Mapping[str, Any]] = {"momentum": LIVELY_MOMENTUM, "mean_reversion": LIVELY_REVERSION}


def plan_of(name: str, **parameters: Any) -> Plan:
    """One version, defaults filled in, in force for ever."""
    module = STRATEGIES[name]
    return Plan(module, (Stage(ALWAYS, 1, module.validate(parameters)),))


def columns_of(rows: Iterable[Print]) -> Columns:
    table = np.array([(row.ts_event, row.price, row.quantity) for row in rows], dtype=np.int64).reshape(-1, 3)
    return Columns(*(np.ascontiguousarray(table[:, place]) for place in range(3)))


def market(seed: int, minutes: int = 90) -> Columns:
    return columns_of(make_prints(seed, symbols=("AAAUSDT",), minutes=minutes))


def run(
    plan: Plan, columns: Columns, cuts: Iterable[int] = (), events_max: int = 1024
) -> tuple[list[Found], int, Array]:
    """(events with rows of the whole, trades judged, final state)."""
    state, scanner = plan.module.new_state(), Scanner(events_max)
    rows = len(columns.ts)
    edges = sorted({0, rows, *(cut % (rows + 1) for cut in cuts)})
    found: list[Found] = []
    judged = 0
    for start, end in pairwise(edges):
        for events, count in scanner.scan(plan, state, SCALE, columns.cut(start, end)):
            found += [event._replace(row=event.row + start) for event in events]
            judged += count
    return found, judged, state
