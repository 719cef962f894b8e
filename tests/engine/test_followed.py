"""Whose events count, and whom a shard waits for: the fence, coverage that ends, symbols that come, years that pass."""

from __future__ import annotations

import pytest

from apps.engine.bars import ROLL_MINUTES_MAX
from apps.engine.events import CoverageEnd, CoverageStart, Event, QuoteBlock, Watermark
from apps.engine.shard import Effects
from apps.signals.services.state import pack_market, restore_market
from tests.engine.damage import damaged, lost, passed, repair, state_of
from tests.engine.market_stream import START_MS, Print, block_of, quote_block
from tests.engine.test_shard import MINUTE, history, new_engine, run, started, trade, watermark

OLD: list[Event] = [
    block_of([trade(3, 9, price=50)], 2, token=1),
    quote_block("AAAUSDT", (START_MS + 180_000, 1, 1, 2, 1)),
    passed(9),
    started(1, START_MS + 600_000),
    CoverageEnd(1, 0, ["AAAUSDT"], "refused"),
    lost(1),
    repair(0, (100, 9)),
]


@pytest.mark.parametrize("event", OLD, ids=[type(event).__name__ for event in OLD])
def test_what_a_replaced_ingest_writes_changes_nothing(event: Event) -> None:
    engine = damaged()
    engine.apply("3-0", [started(2, START_MS + 180_001)])
    before = state_of(engine)
    effects = engine.apply("4-0", [event])
    assert effects == Effects(errors=["written by an ingest that 2 has replaced"])
    assert state_of(engine) == before


def test_every_kind_of_event_with_a_token_is_fenced() -> None:
    kinds = {type(event) for event in OLD}
    with_token = {kind for kind in Event.__args__ if "token" in kind.__dataclass_fields__}
    assert kinds == with_token
    assert QuoteBlock in with_token


def test_the_fence_outlives_a_restart() -> None:
    engine, restored = damaged(), new_engine("AAAUSDT")
    engine.apply("3-0", [started(7, START_MS + 180_001)])
    restore_market(restored, "AAAUSDT", pack_market(engine, "AAAUSDT"))
    assert restored.apply("4-0", [lost(1, token=6)]).errors == ["written by an ingest that 7 has replaced"]


# --- who is waited for ------------------------------------------------------------------------------------------------


def test_a_symbol_whose_coverage_ended_is_not_waited_for_until_it_starts_again() -> None:
    engine = new_engine()
    both = ["AAAUSDT", "BBBUSDT"]
    engine.apply("1-0", [CoverageStart(1, START_MS, 0, both, "test")])
    engine.apply("2-0", [Watermark(1, START_MS + 60_000, 0, {"AAAUSDT": 0})])
    assert engine.watermark_ms == START_MS - 1
    engine.apply("3-0", [CoverageEnd(1, 0, ["BBBUSDT"], "refused")])
    assert (engine.watermark_ms, engine.closed_minute) == (START_MS + 60_000, MINUTE)
    engine.apply("4-0", [CoverageEnd(1, 0, ["AAAUSDT"], "refused")])
    assert [engine.watermark_ms, engine.closed_minute] == [None, None]
    engine.apply("5-0", [CoverageStart(1, START_MS + 90_000, 0, ["BBBUSDT"], "accepted")])
    assert engine.watermark_ms == START_MS + 89_999


def test_a_symbol_that_was_never_covered_holds_nobody_up() -> None:
    engine = new_engine()
    engine.apply("1-0", [started(), passed(2, 0)])
    assert engine.watermark_ms == START_MS + 120_000


def test_trouble_with_one_symbol_of_a_watermark_does_not_hold_the_others_up() -> None:
    engine = new_engine()
    engine.apply("1-0", [started(2), Watermark(2, START_MS + 60_000, 0, {"BBBUSDT": 0, "AAAUSDT": 0})])
    assert engine.watermark_ms == START_MS + 60_000


def test_a_symbol_that_comes_while_running_is_followed_from_then_on() -> None:
    engine = new_engine("AAAUSDT")
    stranger = CoverageStart(1, START_MS, 0, ["CCCUSDT"], "test")
    assert engine.unknown(stranger) == ["CCCUSDT"]
    engine.follow("CCCUSDT", engine.symbols["AAAUSDT"].scale)
    assert engine.apply("1-0", [stranger]).errors == []
    assert engine.watermark_ms == START_MS - 1


def test_after_more_than_a_month_a_symbol_begins_anew_instead_of_standing_still_for_ever() -> None:
    engine = new_engine("AAAUSDT")
    run(engine, [("1-0", [*history(20), started(), block_of([trade(0, 1)], 1), passed(1)])])
    later = START_MS + (ROLL_MINUTES_MAX + 2) * 60_000
    effects = engine.apply("2-0", [started(2, later)])
    assert [(mark.minute, mark.reason) for mark in effects.unproven] == [(MINUTE + 1, "test")]
    assert (effects.errors, effects.bars) == ([], [])
    row = Print(later + 1, "AAAUSDT", 9, 9, 1, "x")
    assert engine.apply("3-0", [block_of([row], 1, token=2), watermark(later + 60_000, 1, 2)]).bars[0].open == 9
    assert engine.processed == 2
