"""Slices hold every trade once, in order, and end where they say; no quote is known before its time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.backtest.slicing import between, whole_minutes, whole_tapes
from apps.engine.tapes import QuoteColumns, Tape
from tests.backtest.tapes import START_MS, tape

SPAN_MS = 40 * 60_000
times = st.lists(st.integers(0, SPAN_MS), max_size=60).map(sorted)
markets = st.dictionaries(st.sampled_from(["AAAUSDT", "BBBUSDT", "CCCUSDT"]), times, min_size=1)
cuts = st.lists(st.integers(0, SPAN_MS), max_size=6).map(sorted)


def ids_of(one: Tape) -> list[str]:
    return [str(one.trade_id[row]) for row in range(len(one))]


def quoted(column: list[int], symbol: str) -> Tape:
    """A tape with a quote every seven seconds, whose bid is its own number."""
    ts = np.arange(0, SPAN_MS, 7_000, dtype=np.int64) + START_MS
    numbers = np.arange(1, len(ts) + 1, dtype=np.int64)
    return replace(tape(column, symbol=symbol), quotes=QuoteColumns(ts, numbers, numbers, numbers + 1, numbers))


def in_parts(tapes: dict[str, Tape], edges: list[int]) -> list[dict[str, Tape]]:
    """Each part later than the one before it, and cut anywhere."""
    bounds = [None, *(START_MS + edge for edge in edges), None]
    parts = [{symbol: between(one, first, last) for symbol, one in tapes.items()} for first, last in pairwise(bounds)]
    return [{symbol: part for symbol, part in found.items() if len(part)} for found in parts]


@settings(deadline=None, max_examples=80)
@given(markets, cuts)
def test_slices_hold_every_trade_once_and_end_at_whole_minutes(found: dict[str, list[int]], edges: list[int]) -> None:
    tapes = {symbol: quoted(column, symbol) for symbol, column in found.items()}
    parts: dict[str, list[Tape]] = {symbol: [] for symbol in tapes}
    before = 0
    slices = list(whole_minutes(in_parts(tapes, edges)))
    for number, (chunk, end_ms) in enumerate(slices, start=1):
        assert end_ms % 60_000 == 0
        assert end_ms > before
        assert chunk
        for symbol, part in chunk.items():
            assert before <= part.ts[0] <= part.ts[-1] < end_ms
            assert part.quotes is not None
            assert number == len(slices) or part.quotes.ts[-1] < end_ms  # behind the last one nothing is asked
            for row in range(len(part)):
                assert part.quotes.at(int(part.ts[row])) == tapes[symbol].quotes.at(int(part.ts[row]))  # type: ignore[union-attr]
            parts[symbol].append(part)
        before = end_ms
    for symbol, whole in tapes.items():
        assert [int(ts) for part in parts[symbol] for ts in part.ts] == whole.ts.tolist()
        assert [name for part in parts[symbol] for name in ids_of(part)] == ids_of(whole)


@settings(deadline=None, max_examples=40)
@given(markets, cuts)
def test_parts_make_the_tape_that_they_were_cut_from(found: dict[str, list[int]], edges: list[int]) -> None:
    tapes = {symbol: tape(column, symbol=symbol) for symbol, column in found.items() if column}
    joined = whole_tapes(in_parts(tapes, edges))
    assert list(joined) == sorted(tapes)
    for symbol, one in joined.items():
        assert one.ts.tolist() == tapes[symbol].ts.tolist()
        assert ids_of(one) == ids_of(tapes[symbol])
        assert one.trade_id[-1] == tapes[symbol].trade_id[-1]


def test_no_trades_make_no_slices() -> None:
    assert list(whole_minutes([])) == []
    assert list(whole_minutes([{"XRPUSDT": tape([])}])) == []


@settings(deadline=None, max_examples=60)
@given(times, st.none() | st.integers(0, SPAN_MS), st.none() | st.integers(0, SPAN_MS))
def test_a_part_of_the_time_holds_the_trades_of_that_time(
    column: list[int], first: int | None, last: int | None
) -> None:
    begin, end = (None if ms is None else START_MS + ms for ms in (first, last))
    part = between(quoted(column, "XRPUSDT"), begin, end)
    wanted = [START_MS + ms for ms in column if (first is None or ms >= first) and (last is None or ms < last)]
    assert part.ts.tolist() == wanted
