"""One strategy over one tape: the compiled scan, with what a simulation needs to know of each signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from apps.engine.kernel import FIGURES, Array
from apps.engine.shard import StrategySpec, same_ms_before
from apps.engine.tapes import Tape


class Found(NamedTuple):
    """A signal on a tape: its row, and the version that was in force in its minute."""

    row: int
    ts: int
    trade_id: str
    version_id: int
    window_minutes: int
    is_exit: bool
    figures: tuple[float, ...]


def scan_tape(spec: StrategySpec, state: Array, tape: Tape) -> Iterator[Found]:
    """Every signal of the strategy on the tape (at least one trade). `state` goes on to the next slice."""
    plan = spec.plan
    price = tape.price / 10.0**tape.scale.price_decimals
    quantity = tape.quantity / 10.0**tape.scale.quantity_decimals
    for start, end, parameters in plan.pieces(state, tape.ts):
        part = slice(start, end)
        fired = np.empty(end - start, dtype=np.int64)
        figures = np.empty((end - start, FIGURES), dtype=np.float64)
        count, _ = plan.module.kernel.scan(
            state, parameters, tape.ts[part], price[part], quantity[part], fired, figures
        )
        for k in range(count):
            row = start + int(fired[k])
            ts = int(tape.ts[row])
            judge = plan.at(ts // 60_000)
            trade_id = str(tape.trade_id[row]) or f"#{same_ms_before(tape.ts, row)}"
            told = tuple(float(figure) for figure in figures[k])
            yield Found(row, ts, trade_id, judge.version_id, judge.window_minutes, False, told)
