"""The shard engine: bars, coverage and signals are a function of the stream alone."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.bars import BarBuilder, trade_hash
from apps.engine.events import BUY, CoverageStart, Event, Loss, WarmupBar, Watermark
from apps.engine.model import ClosedBar
from apps.engine.shard import Effects, ShardEngine, StrategySpec
from apps.engine.strategies import STRATEGIES
from apps.signals.services.state import pack_market, restore_market
from tests.engine.market_stream import (
    PARAMETERS,
    SCALE,
    START_MS,
    Entry,
    Print,
    block_of,
    make_prints,
    quote_block,
    to_entries,
)

MINUTE = START_MS // 60_000
SEEDS = st.integers(0, 10_000)


def new_engine(*symbols: str, **parameters: Any) -> ShardEngine:
    names = symbols or ("AAAUSDT", "BBBUSDT")
    return ShardEngine(dict.fromkeys(names, SCALE), [StrategySpec(1, "momentum", {**PARAMETERS, **parameters})])


def run(engine: ShardEngine, entries: list[Entry]) -> Effects:
    total = Effects()
    for entry_id, events in entries:
        total.extend(engine.apply(entry_id, events))
    return total


def bars_straight_from(prints: list[Print], symbol: str) -> list[tuple[Any, ...]]:
    """What the bars must be, computed without the engine."""
    own = [row for row in prints if row.symbol == symbol]
    first, last = own[0].ts_event // 60_000, prints[-1].ts_event // 60_000
    close, rows = 0, []
    for minute in range(first, last + 1):
        inside = [row for row in own if row.ts_event // 60_000 == minute]
        prices = [row.price for row in inside] or [close]
        close = prices[-1]
        rows.append(
            (
                minute, prices[0], max(prices), min(prices), close,
                sum(row.quantity for row in inside), sum(row.price * row.quantity for row in inside), len(inside),
                inside[0].trade_id if inside else "", inside[-1].trade_id if inside else "",
                sum(trade_hash(r.ts_event, r.trade_id, r.side, r.price, r.quantity) for r in inside) % 2**64,
            )
        )  # fmt: skip
    return rows


def flat(bar: ClosedBar) -> tuple[Any, ...]:
    return (
        bar.minute, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.turnover, bar.count,
        bar.first_trade_id, bar.last_trade_id, bar.hash_sum,
    )  # fmt: skip


def comparable(signals: Effects) -> list[Any]:
    """Signals without what may differ between two cuts of the same stream: the entry they stood in."""
    rows = [replace(row, entry_id="", ts_init=0) for row in signals.signals]
    return sorted(rows, key=lambda row: (row.ts_event, row.symbol))


@given(SEEDS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_bars_equal_those_computed_straight_from_the_trades(market: int, cut: int) -> None:
    prints = make_prints(market)
    effects = run(new_engine(), to_entries(prints, cut))
    for symbol in ("AAAUSDT", "BBBUSDT"):
        found = [flat(bar) for bar in effects.bars if bar.symbol == symbol]
        expected = bars_straight_from(prints, symbol)
        assert found[: len(expected)] == expected
    assert not effects.errors
    assert not effects.unproven


@given(SEEDS, SEEDS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_any_cut_into_frames_gives_the_same_bars_and_signals(market: int, one: int, other: int) -> None:
    prints = make_prints(market, minutes=90)
    first = run(new_engine(), to_entries(prints, one))
    second = run(new_engine(), to_entries(prints, other, frame_ms=(250, 30_000)))
    shared = min(bar.minute for bar in (first.bars[-1], second.bars[-1]))
    assert sorted(flat(b) for b in first.bars if b.minute < shared) == sorted(
        flat(b) for b in second.bars if b.minute < shared
    )
    assert comparable(first) == comparable(second)


@given(SEEDS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_dropping_watermarks_changes_no_signal(market: int, drop: int) -> None:
    entries = to_entries(make_prints(market, minutes=90), 3)
    thinned = [
        (entry_id, [event for event in events if not isinstance(event, Watermark) or hash((entry_id, drop)) % 2])
        for entry_id, events in entries[:-1]
    ] + entries[-1:]
    assert comparable(run(new_engine(), entries)) == comparable(run(new_engine(), thinned))


@given(SEEDS, st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_a_shard_restored_from_its_stored_state_goes_on_as_if_never_stopped(market: int, stop: int) -> None:
    entries = to_entries(make_prints(market, minutes=90), 5)
    stop = min(stop, len(entries) - 1)
    whole = run(new_engine(), entries)
    before = new_engine()
    effects = run(before, entries[:stop])
    after = new_engine()
    for symbol, state in before.symbols.items():
        restore_market(after, symbol, pack_market(before, symbol))
        after.symbols[symbol].strategies = [
            np.frombuffer(part.tobytes(), dtype=part.dtype).copy() for part in state.strategies
        ]
    effects.extend(run(after, entries[stop:]))
    assert effects == whole
    assert (after.processed, after.watermark_ms) == (len(make_prints(market, minutes=90)), after.watermark_ms)


def test_some_of_the_made_up_markets_do_raise_signals() -> None:
    """Guards the property tests above against comparing nothing with nothing."""
    found = [len(run(new_engine(), to_entries(make_prints(seed, minutes=90), 1)).signals) for seed in range(20)]
    assert sum(found) >= 10


# --- indicators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rsi_equals_talib_over_the_closed_minutes(seed: int) -> None:
    engine = new_engine("AAAUSDT")
    effects = run(engine, to_entries(make_prints(seed, symbols=("AAAUSDT",), minutes=80), 1))
    closes = np.array([float(SCALE.price(bar.close)) for bar in effects.bars])
    state = engine.symbols["AAAUSDT"].strategies[0][0]
    ours = 100 * state["gain"] / (state["gain"] + state["loss"])
    assert ours == pytest.approx(talib.RSI(closes, 14)[-1], abs=1e-9)


def test_rsi_is_zero_where_nothing_moved_as_in_talib() -> None:
    engine = new_engine("AAAUSDT", rsi_min=0, threshold_pct=0.01)
    still = [Print(START_MS + n * 60_000, "AAAUSDT", 100, 1, BUY, str(n)) for n in range(40)]
    assert run(engine, to_entries(still, 1)).signals == []
    assert talib.RSI(np.full(40, 1.0), 14)[-1] == 0.0


def test_the_rule_is_warm_only_after_lookback_and_one_minute() -> None:
    rows = [Print(START_MS + n * 60_000, "AAAUSDT", 10_000 + 100 * n, 1, BUY, str(n)) for n in range(20)]
    engine = new_engine("AAAUSDT")
    signals = run(engine, to_entries(rows, 1, frame_ms=(60_000,))).signals
    assert [row.trade_id for row in signals] == ["16"]
    assert engine.evaluated == 4


def test_a_strategy_parameter_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="lookback_minutes"):
        STRATEGIES["momentum"].pack({**PARAMETERS, "lookback_minutes": 500})
    with pytest.raises(ValueError, match="rsi_min is missing"):
        STRATEGIES["momentum"].pack({key: value for key, value in PARAMETERS.items() if key != "rsi_min"})


# --- late trades, loss, coverage --------------------------------------------------------------------------------------


def trade(minute: int, number: int, price: int = 100, second: int = 1) -> Print:
    return Print((MINUTE + minute) * 60_000 + second * 1000, "AAAUSDT", price, 5, BUY, str(number))


def started(token: int = 1, since_ms: int = START_MS) -> CoverageStart:
    return CoverageStart(token, since_ms, 0, ["AAAUSDT"], "test")


def watermark(ts_event: int, ordinal: int, token: int = 1) -> Watermark:
    return Watermark(token, ts_event, 0, {"AAAUSDT": ordinal})


def test_a_late_trade_revises_its_bar_and_leaves_the_indicators_alone() -> None:
    engine = new_engine("AAAUSDT")
    run(engine, [("1-0", [started(), block_of([trade(0, 1)], 1)]), ("2-0", [watermark(START_MS + 60_000, 1)])])
    strategy = engine.symbols["AAAUSDT"].strategies[0].copy()
    effects = engine.apply("3-0", [block_of([trade(0, 2, price=999)], 2)])
    assert [(late.minute, late.price) for late in effects.late] == [(MINUTE, 999)]
    assert engine.symbols["AAAUSDT"].strategies[0] == strategy


def minutes_marked(effects: Effects) -> list[int]:
    return [mark.minute - MINUTE for mark in effects.unproven]


LOSSES: list[tuple[str, list[Event], list[int]]] = [
    ("a missing ordinal", [block_of([trade(2, 9)], 3)], [0, 1, 2]),
    ("a watermark that counts more trades than arrived", [watermark(START_MS + 125_000, 5)], [0, 1, 2]),
    ("a new ingest that starts later", [started(2, START_MS + 200_000)], [0, 1, 2, 3]),
    ("a reconnect of the same ingest", [started(1, START_MS + 70_000)], [0, 1]),
    ("a declared loss", [Loss(1, START_MS + 61_000, START_MS + 62_000, 0, ["AAAUSDT"], "ring overflow")], [1]),
    ("a new ingest without an announcement", [block_of([trade(2, 9)], 1, token=2)], [2]),
    ("a new ingest that starts where the last one stood", [started(2, START_MS + 30_001)], []),
    ("a start in the past", [started(2, START_MS)], []),
]


@pytest.mark.parametrize(("what", "events", "expected"), LOSSES, ids=[row[0] for row in LOSSES])
def test_the_minutes_of_a_gap_become_unproven(what: str, events: list[Event], expected: list[int]) -> None:
    engine = new_engine("AAAUSDT")
    run(engine, [("1-0", [started(), block_of([trade(0, 1)], 1), watermark(START_MS + 30_000, 1)])])
    assert minutes_marked(engine.apply("2-0", events)) == expected, what


def test_a_feed_that_begins_inside_a_minute_cannot_prove_that_minute() -> None:
    assert minutes_marked(new_engine("AAAUSDT").apply("1-0", [started(1, START_MS + 10)])) == [0]
    assert minutes_marked(new_engine("AAAUSDT").apply("1-0", [started(1, START_MS)])) == []


def test_a_signal_knows_the_unproven_minutes_of_its_window() -> None:
    rows = [trade(n, n, price=10_000 + 100 * n) for n in range(18)]
    engine = new_engine("AAAUSDT")
    entries = to_entries(rows, 1, frame_ms=(60_000,))
    lost = Loss(1, START_MS + 5 * 60_000, START_MS + 5 * 60_000, 0, ["AAAUSDT"], "ring overflow")
    entries[6][1].append(lost)
    (signal,) = run(engine, entries).signals
    assert (signal.unproven_minutes, signal.unproven_reason) == (1, "ring overflow")


def test_a_block_that_was_read_before_counts_once() -> None:
    engine = new_engine("AAAUSDT")
    block = block_of([trade(0, 1), trade(0, 2)], 1)
    engine.apply("1-0", [started(), block])
    engine.apply("2-0", [block])
    engine.apply("3-0", [block_of([trade(0, 2), trade(0, 3)], 2)])
    assert engine.processed == 3


def test_an_event_for_an_unknown_symbol_is_named_and_the_rest_of_the_entry_applies() -> None:
    engine = new_engine("AAAUSDT")
    stranger = replace(block_of([trade(0, 1)], 1), symbol="ZZZUSDT")
    effects = engine.apply("1-0", [started(), stranger, block_of([trade(0, 1)], 1)])
    assert effects.errors == ["ZZZUSDT is not followed by this shard"]
    assert engine.processed == 1


def test_a_jump_of_time_by_more_than_a_month_is_an_error_and_no_endless_roll() -> None:
    engine = new_engine("AAAUSDT")
    engine.apply("1-0", [started(), block_of([trade(0, 1)], 1)])
    effects = engine.apply("2-0", [watermark(START_MS + 10**12, 1)])
    assert "time would jump" in effects.errors[0]
    assert effects.bars == []


# --- warm-up ----------------------------------------------------------------------------------------------------------


def history(minutes: int) -> list[Event]:
    return [
        WarmupBar("AAAUSDT", MINUTE - minutes + n, 100, 101, 99, 10_000 + 100 * n, 7, 700, 0) for n in range(minutes)
    ]


def test_history_warms_the_rule_and_raises_nothing_itself() -> None:
    engine = new_engine("AAAUSDT")
    effects = engine.apply("1-0", [*history(20), started()])
    assert len(effects.bars) == 20
    assert all(bar.from_klines and bar.count == 0 for bar in effects.bars)
    assert effects.signals == []
    assert len(engine.apply("2-0", [block_of([trade(0, 1, price=12_500)], 1)]).signals) == 1


def test_history_that_comes_again_after_trades_is_ignored() -> None:
    engine = new_engine("AAAUSDT")
    engine.apply("1-0", [*history(20), started(), block_of([trade(0, 1, price=12_000)], 1)])
    assert engine.apply("2-0", history(20)) == Effects()


# --- what a signal says about its moment ------------------------------------------------------------------------------


def test_a_signal_carries_the_quote_in_force_and_the_median_of_the_last_minute() -> None:
    engine = new_engine("AAAUSDT")
    engine.apply("1-0", [*history(20), started()])
    at = (MINUTE * 60_000) + 1_000
    quotes = quote_block("AAAUSDT", (at - 500, 11_990, 5, 12_010, 6), (at + 1, 1, 1, 2, 1))
    cheap = [Print(at - 900 + n, "AAAUSDT", 10_000 + n, 1, BUY, f"c{n}") for n in range(2)]
    effects = engine.apply("2-0", [quotes, block_of([*cheap, Print(at, "AAAUSDT", 12_500, 1, BUY, "x")], 1)])
    (signal,) = effects.signals
    assert signal.quote is not None
    assert (signal.quote.bid, signal.quote.ask) == (11_990, 12_010)
    assert signal.median_price == Decimal(10_001)


def test_without_trade_ids_a_trigger_is_named_by_its_place_in_the_millisecond() -> None:
    engine = new_engine("AAAUSDT")
    engine.apply("1-0", [*history(20), started()])
    at = MINUTE * 60_000 + 1_000
    rows = [Print(at, "AAAUSDT", price, 1, BUY, "") for price in (10_450, 10_450, 12_500)]
    (signal,) = engine.apply("2-0", [block_of(rows, 1)]).signals
    assert signal.trade_id == "#2"


def test_stored_bar_state_of_another_version_is_refused() -> None:
    row = BarBuilder("AAAUSDT").row()
    with pytest.raises(ValueError, match="version 99"):
        BarBuilder.from_row("AAAUSDT", [99, *row[1:]])
