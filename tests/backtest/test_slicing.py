"""Slices hold every trade once, in order, and end where they say."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.backtest.slicing import between, slices
from apps.engine.tapes import Tape
from tests.backtest.tapes import START_MS, tape

times = st.lists(st.integers(0, 40 * 60_000), max_size=60).map(sorted)


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(st.sampled_from(["AAAUSDT", "BBBUSDT", "CCCUSDT"]), times), st.integers(1, 50))
def test_slices_hold_every_trade_once_and_are_no_larger_than_asked(found: dict[str, list[int]], rows: int) -> None:
    tapes = {symbol: tape(column, symbol=symbol) for symbol, column in found.items()}
    parts: dict[str, list[Tape]] = {symbol: [] for symbol in tapes}
    before = 0
    for chunk, end_ms in slices(tapes, rows=rows):
        assert end_ms % 60_000 == 0
        assert end_ms > before
        count = sum(len(part) for part in chunk.values())
        newest = max((int(part.ts[-1]) for part in chunk.values()), default=0)
        oldest = min((int(part.ts[0]) for part in chunk.values()), default=0)
        assert count <= rows or newest // 60_000 == oldest // 60_000
        assert oldest >= before
        assert newest < end_ms
        before = end_ms
        for symbol, part in chunk.items():
            assert len(part)
            parts[symbol].append(part)
    for symbol, whole in tapes.items():
        joined = np.concatenate([part.ts for part in parts[symbol]] or [whole.ts])
        assert joined.tolist() == whole.ts.tolist()
        assert [name for part in parts[symbol] for name in part.trade_id] == list(whole.trade_id)


def test_no_trades_make_no_slices() -> None:
    assert list(slices({})) == []
    assert list(slices({"XRPUSDT": tape([])})) == []


@settings(deadline=None, max_examples=60)
@given(times, st.none() | st.integers(0, 2_500_000), st.none() | st.integers(0, 2_500_000))
def test_a_part_of_the_time_holds_the_trades_of_that_time(
    column: list[int], first: int | None, last: int | None
) -> None:
    begin, end = (None if ms is None else START_MS + ms for ms in (first, last))
    part = between(tape(column), begin, end)
    wanted = [START_MS + ms for ms in column if (first is None or ms >= first) and (last is None or ms < last)]
    assert part.ts.tolist() == wanted
