"""Repairs, losses, ends of coverage, take-overs: the engine stays a function of the stream and ends with the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.events import Backfill, CoverageEnd, CoverageStart, Event, Loss, WarmupBar, Watermark
from apps.engine.exits import ExitRule, ExitSearch
from apps.engine.history import HISTORY_MINUTES, REMEMBERED_MINUTES
from apps.engine.model import BackfilledMinute, CarriedClose, LateTrade, RefusedBackfill, ReplacedBar, UnprovenMinute
from apps.engine.shard import Effects
from apps.engine.strategies.momentum import LOOKBACK_MAX_MINUTES, RSI_PERIOD
from apps.signals.services.state import pack_market, restore_market
from tests.engine.damage import DamagedFeed, damaged, lost, passed, repair, repair_of, state_of
from tests.engine.market_stream import START_MS, Entry, Print, block_of, make_prints, to_entries
from tests.engine.test_shard import (
    MINUTE,
    bars_straight_from,
    new_engine,
    run,
    started,
    trade,
)

SEEDS = st.integers(0, 10_000)
Sums = dict[tuple[str, int], tuple[int, int, int, int, int, int]]


def stored_bars(effects: Effects) -> Sums:
    """The bars after every change: open, high, low, close, volume, turnover."""
    bars = {(b.symbol, b.minute): [b.open, b.high, b.low, b.close, b.volume, b.turnover] for b in effects.bars}
    for change in effects.changes:
        key = (change.symbol, change.minute)
        if isinstance(change, LateTrade):
            sums = bars[key]
            sums[1], sums[2] = max(sums[1], change.price), min(sums[2], change.price)
            sums[4], sums[5] = sums[4] + change.quantity, sums[5] + change.price * change.quantity
        elif isinstance(change, ReplacedBar):
            bars[key] = [change.open, change.high, change.low, change.close, change.volume, change.turnover]
        else:
            bars[key][:4] = [change.close] * 4
    return {key: tuple(sums) for key, sums in bars.items()}  # type: ignore[misc]


def stored_coverage(effects: Effects) -> dict[tuple[str, int], str]:
    """The ledger after every change; a minute without a word is PROVEN."""
    words: dict[tuple[str, int], str] = {}
    for change in effects.coverage:
        if not isinstance(change, RefusedBackfill):
            words[(change.symbol, change.minute)] = "unproven" if isinstance(change, UnprovenMinute) else "backfilled"
    return words


def truth(prints: list[Print], symbol: str) -> Sums:
    return {(symbol, row[0]): row[1:7] for row in bars_straight_from(prints, symbol)}


@given(SEEDS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_feed_whose_holes_were_all_repaired_has_the_bars_of_what_happened(market: int, seed: int) -> None:
    prints = make_prints(market, minutes=70)
    effects = run(new_engine(), DamagedFeed(prints, seed).entries_of_all())
    assert not effects.errors
    found, words = stored_bars(effects), stored_coverage(effects)
    for symbol in ("AAAUSDT", "BBBUSDT"):
        for key, sums in truth(prints, symbol).items():
            assert found[key] == sums, (key, words.get(key, "proven"))
    assert set(words.values()) <= {"backfilled"}


@given(SEEDS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_minute_that_is_not_unproven_has_the_bar_of_what_happened(market: int, seed: int) -> None:
    prints = make_prints(market, minutes=70)
    effects = run(new_engine(), DamagedFeed(prints, seed, repair_all=False).entries_of_all())
    assert not effects.errors
    found, words = stored_bars(effects), stored_coverage(effects)
    for symbol in ("AAAUSDT", "BBBUSDT"):
        for key, sums in truth(prints, symbol).items():
            if words.get(key) != "unproven" and sums[4]:  # an empty minute closes where one before it did
                assert found[key] == sums, (key, words.get(key, "proven"))


@given(SEEDS, SEEDS, st.integers(1, 300), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_damaged_stream_gives_the_same_for_any_batches_and_restarts(
    market: int, seed: int, stop: int, repair_all: bool
) -> None:
    entries = DamagedFeed(make_prints(market, minutes=70), seed, repair_all).entries_of_all()
    stop = min(stop, len(entries) - 1)
    engine, before, after = new_engine(), new_engine(), new_engine()
    whole = run(engine, entries)
    one_by_one = [(entry_id, [event]) for entry_id, events in entries[:stop] for event in events]
    effects = run(before, one_by_one)
    for symbol, state in before.symbols.items():
        restore_market(after, symbol, pack_market(before, symbol))
        after.symbols[symbol].strategies = [
            np.frombuffer(part.tobytes(), dtype=part.dtype).copy() for part in state.strategies
        ]
    effects.extend(run(after, entries[stop:]))
    assert effects == whole
    assert state_of(after) == state_of(engine)


@given(SEEDS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_after_the_repairs_indicators_are_what_they_would_be_without_the_damage(market: int, seed: int) -> None:
    prints = make_prints(market, minutes=70)
    damaged, whole = new_engine(), new_engine()
    entries = DamagedFeed(prints, seed).entries_of_all()
    run(damaged, entries)
    run(whole, to_entries(prints, 1))
    last = entries[-2][1][0] if isinstance(entries[-2][1][0], Watermark) else entries[-1][1][0]
    assert isinstance(last, Watermark)
    for engine in (damaged, whole):
        token = engine.fence.token
        ordinals = {symbol: state.builder.ordinal for symbol, state in engine.symbols.items()}
        engine.apply("9-0", [Watermark(token, last.ts_event + 60_000, 0, ordinals)])
    for symbol, state in damaged.symbols.items():
        ours, theirs = state.strategies[0][0], whole.symbols[symbol].strategies[0][0]
        for name in ("closed", "warm", "minute", "last_price", "ref"):
            assert ours[name] == theirs[name], name
        for name in ("rsi", "window", "gain", "loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-9, abs=1e-12), name


def test_the_damage_holds_every_kind_of_event_and_outcome() -> None:
    """Guards the properties above against comparing nothing with nothing."""
    kinds: set[str] = set()
    for seed in range(30):
        entries = DamagedFeed(make_prints(seed, minutes=70), seed, seed % 2 == 0).entries_of_all()
        effects = run(new_engine(), entries)
        kinds |= {type(event).__name__ for _, events in entries for event in events}
        kinds |= {type(change).__name__ for change in [*effects.changes, *effects.coverage]}
    expected = {
        CoverageStart,
        CoverageEnd,
        Loss,
        Backfill,
        ReplacedBar,
        CarriedClose,
        BackfilledMinute,
        RefusedBackfill,
    }
    assert {kind.__name__ for kind in expected} <= kinds


# --- one repair -------------------------------------------------------------------------------------------------------


def test_a_repair_replaces_the_bar_and_says_what_it_was_made_of() -> None:
    effects = damaged().apply("3-0", [repair(0, (100, 5), (130, 2), (90, 1), (110, 1))])
    bar = ReplacedBar("AAAUSDT", MINUTE, 100, 130, 90, 110, 9, 100 * 5 + 130 * 2 + 90 + 110, 4)
    carried: list[Any] = [CarriedClose("AAAUSDT", MINUTE + n, 110) for n in (1, 2)]
    assert effects.changes == [bar, *carried]
    assert effects.coverage == [BackfilledMinute("AAAUSDT", MINUTE, "trades", 4)]
    assert (effects.signals, effects.bars, effects.errors) == ([], [], [])


def test_the_open_minute_goes_on_from_the_repaired_close_unless_it_has_a_price_of_its_own() -> None:
    engine = damaged()
    engine.apply("3-0", [repair(0, (100, 5), (110, 1))])
    assert [bar.close for bar in engine.apply("4-0", [passed(4)]).bars] == [110]
    engine = damaged()
    engine.apply("3-0", [block_of([trade(3, 2, price=70)], 2), repair(0, (100, 5), (110, 1))])
    assert [bar.close for bar in engine.apply("4-0", [passed(4, 2)]).bars] == [70]


def test_a_repair_without_rows_is_an_empty_minute_at_the_close_before_it() -> None:
    engine = damaged()
    engine.apply("3-0", [repair(0, (100, 5), (110, 1)), lost(2)])
    (bar,) = engine.apply("4-0", [repair(2)]).changes
    assert bar == ReplacedBar("AAAUSDT", MINUTE + 2, 110, 110, 110, 110, 0, 0, 0)


REFUSED: list[tuple[str, list[Event], str]] = [
    ("an open minute", [repair(3, (100, 9))], "is open"),
    ("a minute to come", [repair(9, (100, 9))], "is open"),
    ("rows of another minute", [replace(repair(0, (100, 9)), ts_event=[START_MS - 1])], "cannot be its own"),
    ("a price of nothing", [repair(0, (0, 9))], "cannot be its own"),
    ("a quantity of nothing", [repair(0, (100, 9), (100, 0))], "cannot be its own"),
    ("an unknown symbol", [replace(repair(0, (100, 9)), symbol="ZZZUSDT")], "not followed"),
]


@pytest.mark.parametrize(("what", "events", "words"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_repair_that_cannot_be_is_named_and_changes_nothing(what: str, events: list[Event], words: str) -> None:
    engine = damaged()
    before = state_of(engine)
    effects = engine.apply("3-0", events)
    assert words in effects.errors[0]
    assert effects == Effects(errors=effects.errors)
    assert state_of(engine) == before


def test_a_repair_before_any_price_is_an_error() -> None:
    engine = new_engine("AAAUSDT")
    assert "before any price" in engine.apply("1-0", [started(), lost(0), repair(0, (1, 1))]).errors[0]


def test_less_than_was_received_changes_nothing_and_is_told_with_both_volumes() -> None:
    engine = damaged()
    effects = engine.apply("3-0", [repair(0, (100, 4))])
    assert effects.changes == []
    assert effects.coverage == [RefusedBackfill("AAAUSDT", MINUTE, "REST tells less than was received", 4, 5)]
    assert effects.move_state
    late = block_of([trade(0, 2)], 2)
    engine.apply("4-0", [late])
    (refused,) = engine.apply("5-0", [repair(0, (100, 9))]).coverage
    assert isinstance(refused, RefusedBackfill)
    assert (refused.told, refused.received) == (9, 10)
    assert engine.apply("6-0", [repair(0, (100, 10))]).changes


def test_a_minute_that_is_not_unproven_needs_no_repair() -> None:
    engine = damaged()
    assert engine.apply("3-0", [repair(1, (100, 9))]) == Effects()
    engine.apply("4-0", [repair(0, (100, 9))])
    assert engine.apply("5-0", [repair(0, (100, 9))]) == Effects()


def test_a_late_trade_of_a_repaired_minute_changes_nothing() -> None:
    engine, restored = damaged(), new_engine("AAAUSDT")
    engine.apply("3-0", [repair(0, (100, 9))])
    restore_market(restored, "AAAUSDT", pack_market(engine, "AAAUSDT"))
    for one in (engine, restored):
        assert one.apply("4-0", [block_of([trade(0, 2)], 2)]) == Effects()
        assert one.processed == 2


def test_a_repaired_minute_can_be_lost_and_repaired_again_with_whatever_rest_says_then() -> None:
    engine = damaged()
    engine.apply("3-0", [repair(0, (100, 9))])
    assert engine.apply("4-0", [lost(0)]).coverage == [UnprovenMinute("AAAUSDT", MINUTE, "a test lost it")]
    assert len(engine.apply("5-0", [repair(0, (100, 7))]).changes) == 1


def test_a_proven_minute_that_klines_contradict_is_unproven_from_then_on() -> None:
    engine = damaged()
    assert engine.apply("3-0", [lost(1)]).coverage == [UnprovenMinute("AAAUSDT", MINUTE + 1, "a test lost it")]
    assert engine.apply("4-0", [repair(1, (100, 9))]).changes


def test_history_from_klines_is_backfilled_also_where_the_feed_had_begun() -> None:
    engine = new_engine("AAAUSDT")
    run(engine, [("1-0", [started(1, START_MS + 5_000)])])
    bar = WarmupBar("AAAUSDT", MINUTE, 100, 101, 99, 100, 7, 700, 0)
    assert engine.apply("2-0", [bar]).coverage == [BackfilledMinute("AAAUSDT", MINUTE, "klines", 0)]
    assert engine.symbols["AAAUSDT"].builder.unproven == {}


def rising(minutes: int) -> list[Entry]:
    """A symbol that rises every minute, so that it fires in minute 16 and then waits for its cooldown."""
    return to_entries([trade(n, n, price=10_000 + 200 * n) for n in range(minutes)], 1, frame_ms=(60_000,))


def test_a_repair_raises_nothing_and_keeps_the_cooldown() -> None:
    engine = new_engine("AAAUSDT")
    assert len(run(engine, rising(20)).signals) == 1
    strategy = engine.symbols["AAAUSDT"].strategies[0].copy()
    assert engine.apply("98-0", [lost(5), repair(5, (11_000, 5), (99_000, 9))]).signals == []
    after = engine.symbols["AAAUSDT"].strategies[0]
    assert after["rsi"] != strategy["rsi"]
    assert (after["signals"], after["last_signal"]) == (strategy["signals"], strategy["last_signal"])


def test_a_signal_after_the_repair_of_its_window_has_no_unproven_minute() -> None:
    rows = [trade(n, n, price=10_000 + 200 * n) for n in range(18)]
    for repaired, unproven in ((True, 0), (False, 1)):
        engine, entries = new_engine("AAAUSDT"), rising(18)
        entries[6][1].append(lost(2))
        if repaired:
            entries[9][1].append(repair_of(rows, "AAAUSDT", MINUTE + 2))
        (signal,) = run(engine, entries).signals
        assert signal.unproven_minutes == unproven


def test_a_repair_closes_no_position() -> None:
    search = ExitSearch(ExitRule(1, "AAAUSDT", START_MS - 1, 90, 120, 10**15), last_price=100)
    assert search.feed("1-0", [repair(0, (80, 5), (150, 1))]) is None


def test_minutes_are_remembered_as_long_as_they_may_be_repaired() -> None:
    engine = damaged()
    engine.apply("3-0", [passed(REMEMBERED_MINUTES)])
    assert len(engine.symbols["AAAUSDT"].builder.history.close) == REMEMBERED_MINUTES
    engine.apply("4-0", [passed(REMEMBERED_MINUTES + 1)])
    assert len(engine.symbols["AAAUSDT"].builder.history.close) == HISTORY_MINUTES
    (refused,) = engine.apply("5-0", [repair(0, (100, 9))]).coverage
    assert refused == RefusedBackfill("AAAUSDT", MINUTE, "further back than the engine remembers")


def test_the_history_reaches_back_as_far_as_any_strategy_looks() -> None:
    assert LOOKBACK_MAX_MINUTES + 1 + RSI_PERIOD <= HISTORY_MINUTES <= REMEMBERED_MINUTES
