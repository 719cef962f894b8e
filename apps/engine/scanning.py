"""One strategy over one tape: the compiled scan, with what a simulation needs to know of each signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from apps.engine.judging import Columns, Scanner
from apps.engine.kernel import EXIT, KINDS, MINUTE_MS, Array
from apps.engine.plans import Plan
from apps.engine.shard import same_ms_before
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


def scan_tape(plan: Plan, state: Array, tape: Tape, scanner: Scanner | None = None) -> Iterator[Found]:
    """Every signal of the strategy on the tape (at least one trade). `state` goes on to the next slice.

    A `scanner` that is given is busy until the last signal has been taken.
    """
    for events, _ in (scanner or Scanner()).scan(plan, state, tape.scale, Columns(tape.ts, tape.price, tape.quantity)):
        for event in events:
            ts = int(tape.ts[event.row])
            judge = plan.at(ts // MINUTE_MS)
            trade_id = str(tape.trade_id[event.row]) or f"#{same_ms_before(tape.ts, event.row)}"
            told = (event.change, event.rsi, event.turnover)
            is_exit = event.kind == KINDS[EXIT]
            yield Found(event.row, ts, trade_id, judge.version_id, judge.window_minutes, is_exit, told)
