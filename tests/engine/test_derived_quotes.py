"""Quotes derived from columns are those that the local exchange sends in a replay, and an oracle's."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.derived_quotes import QuoteDeriver, derive_quotes
from apps.engine.model import Scale
from apps.engine.quotes import BUY, EMPTY, SELL, derive
from apps.engine.recording import Recording, parse_instruments, parse_recording
from apps.engine.tapes import QuoteColumns, Tape
from tests.road import checker
from tests.road.recordings import make_recording
from workers.exchange.replay import ReplaySource

Row = tuple[int, int, int, int, int]
Print = tuple[int, int, int, int]  # time, side, ticks, steps


def rows_of(quotes: QuoteColumns) -> list[Row]:
    columns = (quotes.ts, quotes.bid, quotes.bid_quantity, quotes.ask, quotes.ask_quantity)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def tape_of(prints: list[Print]) -> Tape:
    ts, side, price, quantity = (np.array([row[place] for row in prints], np.int64) for place in range(4))
    return Tape("AAAUSDT", Scale(2, 2), ts, price, quantity, side.astype(np.int8), [""] * len(prints))


def by_the_rule(prints: list[Print]) -> list[Row]:
    """The change that each millisecond makes, by the pure rule, one print at a time."""
    rows: list[Row] = []
    state = EMPTY
    for ts in sorted({row[0] for row in prints}):
        before = state.quote
        for _, side, ticks, steps in (row for row in prints if row[0] == ts):
            state = derive(state, side, ticks, steps)
        if state.quote is not None and state.quote != before:
            rows.append((ts, *state.quote))
    return rows


def read(path: Path) -> Recording:
    beside = path.with_name(path.name.removesuffix(".csv.gz") + ".instruments.json")
    instruments = parse_instruments(beside.read_text(), path.name)
    with gzip.open(path, "rt") as file:
        return parse_recording(file, path.name, instruments)


def tapes_of(recording: Recording) -> dict[str, Tape]:
    tapes = {}
    for index, symbol in enumerate(recording.symbols):
        rows = np.flatnonzero(recording.symbol_index == index)
        spec = recording.instruments[symbol]
        tapes[symbol] = Tape(
            symbol=symbol,
            scale=Scale(spec.price_decimals, spec.quantity_decimals),
            ts=recording.time_ms[rows],
            price=recording.price_ticks[rows],
            quantity=recording.quantity_steps[rows],
            side=recording.sides[rows],
            trade_id=recording.trade_ids[rows],
        )
    return tapes


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recording(tmp_path_factory.mktemp("recording"), minutes=60)


def test_a_recording_gives_what_the_local_exchange_sends(path: Path) -> None:
    recording = read(path)
    moves = ReplaySource(recording).feed().advance(int(recording.time_ms[-1]))
    for symbol, tape in tapes_of(recording).items():
        sent = [(timed.time_ms, *timed.quote) for timed in moves[symbol].quotes]
        assert len(sent) > 100
        assert rows_of(derive_quotes(tape)) == sent


def test_a_recording_gives_what_the_oracle_reads_from_the_file(path: Path) -> None:
    oracle = checker.read([path])
    compared = 0
    for symbol, tape in tapes_of(read(path)).items():
        quotes, scale = derive_quotes(tape), tape.scale
        for time_ms in tape.ts.tolist():
            found, expected = quotes.at(time_ms), oracle[symbol].quote_at(time_ms)
            assert found is not None
            prices = scale.price(found.bid), scale.quantity(found.bid_quantity)
            assert (*prices, scale.price(found.ask), scale.quantity(found.ask_quantity)) == expected
            compared += 1
    assert compared > 1000


prints = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([BUY, SELL]), st.integers(1, 6), st.integers(1, 3)), max_size=30
).map(lambda rows: sorted(rows, key=lambda row: row[0]))


@settings(deadline=None)
@given(prints)
def test_any_trades_give_the_rule_per_millisecond(rows: list[Print]) -> None:
    assert rows_of(derive_quotes(tape_of(rows))) == by_the_rule(rows)


@settings(deadline=None)
@given(prints, st.sets(st.integers(1, 6)))
def test_any_slices_between_milliseconds_give_the_same(rows: list[Print], cuts: set[int]) -> None:
    deriver = QuoteDeriver()
    found: list[Row] = []
    edges = [0, *sorted(cuts), 10]
    for first, last in pairwise(edges):
        found += rows_of(deriver.feed(tape_of([row for row in rows if first <= row[0] < last])))
    assert found == by_the_rule(rows)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(prints, max_size=2),
    st.integers(0, 10_000),
    st.integers(1, 300),
    st.sampled_from([1, 100, 1_000]),
    st.sampled_from([0.004, 0.02, 0.5, 0.98]),
    st.integers(2, 5),
)
def test_the_newest_trades_tell_the_quote_that_all_of_them_tell(
    first: list[list[Print]], seed: int, length: int, span: int, buys: float, dearest: int
) -> None:
    dice = np.random.default_rng(seed)
    ts = np.sort(dice.integers(10, 10 + span, length))
    sides = np.where(dice.random(length) < buys, BUY, SELL)
    rows = np.stack([ts, sides, dice.integers(1, dearest, length), dice.integers(1, dearest, length)], axis=1)
    tape = tape_of([(at, side, price, quantity) for at, side, price, quantity in rows.tolist()])
    whole, quick = QuoteDeriver(), QuoteDeriver()
    for before in first:
        whole.feed(tape_of(before))
        quick.skip(tape_of(before))
    times = [9, *ts[:: length // 40 + 1].tolist(), 10 + span]
    found = [quick.last(tape, at) for at in times]
    expected = whole.feed(tape)
    assert found == [expected.at(at) for at in times]
    quick.skip(tape)
    tail = tape_of([(10_000, BUY, 5, 1), (10_001, SELL, 3, 2)])
    assert rows_of(quick.feed(tail)) == rows_of(whole.feed(tail))
