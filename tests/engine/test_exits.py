"""Exits are found at the same trade whenever the fill becomes known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.events import BUY, Event
from apps.engine.exits import MAX_HOLDING, STOP_LOSS, TAKE_PROFIT, ExitRule, ExitSearch
from apps.engine.model import RaisedExit
from tests.engine.market_stream import START_MS, Entry, Print, block_of, make_prints, quote_block, to_entries
from tests.engine.test_shard import watermark

RULE = ExitRule(1, "AAAUSDT", opened_ts=START_MS + 1_000, stop=9_800, target=10_600, due_ts=START_MS + 3_600_000)


def at(offset_ms: int, price: int, number: int = 1) -> Print:
    return Print(START_MS + offset_ms, "AAAUSDT", price, 5, BUY, str(number))


def find(rule: ExitRule, entries: list[Entry]) -> RaisedExit | None:
    search = ExitSearch(rule, last_price=10_000)
    for entry_id, events in entries:
        if found := search.feed(entry_id, events):
            return found
    return None


CASES: list[tuple[str, list[Event], tuple[str, int, int] | None]] = [
    ("a price at the stop", [block_of([at(2_000, 9_800)], 1)], (STOP_LOSS, 2_000, 9_800)),
    ("a price through the stop", [block_of([at(2_000, 9_000)], 1)], (STOP_LOSS, 2_000, 9_000)),
    ("a price at the target", [block_of([at(2_000, 10_600)], 1)], (TAKE_PROFIT, 2_000, 10_600)),
    ("a price between them", [block_of([at(2_000, 10_599), at(3_000, 9_801)], 1)], None),
    ("a price at the stop in the fill's own millisecond", [block_of([at(1_000, 9_000)], 1)], None),
    ("a price at the stop before the fill", [block_of([at(500, 9_000)], 1)], None),
    ("a trade after the time is over", [block_of([at(3_600_001, 9_000)], 1)], (MAX_HOLDING, 3_600_000, 10_000)),
    ("a watermark after the time is over", [watermark(START_MS + 3_600_000, 0)], (MAX_HOLDING, 3_600_000, 10_000)),
    (
        "the last price before the time",
        [block_of([at(9, 10_100), at(3_700_000, 1)], 1)],
        (MAX_HOLDING, 3_600_000, 10_100),
    ),
    ("the stop just before the time", [block_of([at(3_599_999, 9_700)], 1)], (STOP_LOSS, 3_599_999, 9_700)),
]


@pytest.mark.parametrize(("what", "events", "expected"), CASES, ids=[row[0] for row in CASES])
def test_an_exit_is_the_first_of_stop_target_and_time(
    what: str, events: list[Event], expected: tuple[str, int, int] | None
) -> None:
    found = find(RULE, [("1-0", events)])
    shown = found and (found.reason, found.ts_event - START_MS, found.price)
    assert shown == expected, what


def test_an_exit_carries_the_quote_in_force() -> None:
    quote = quote_block("AAAUSDT", (START_MS + 1_900, 9_790, 3, 9_810, 4), (START_MS + 2_100, 1, 1, 2, 1))
    found = find(RULE, [("1-0", [quote, block_of([at(2_000, 9_700)], 1)])])
    assert found is not None
    assert found.quote is not None
    assert (found.quote.bid, found.quote.ask) == (9_790, 9_810)


def what_happened(found: RaisedExit | None) -> Any:
    return found and (found.reason, found.ts_event, found.trade_id, found.price)


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000))
@settings(max_examples=60, deadline=None)
def test_neither_the_cut_into_frames_nor_a_late_fill_changes_an_exit(market: int, one: int, other: int) -> None:
    """A fill that becomes known late is searched from its trigger's entry on, in whatever frames the trades came."""
    prints = make_prints(market, symbols=("AAAUSDT",), minutes=60)
    opened = prints[len(prints) // 3]
    rule = ExitRule(
        1, "AAAUSDT", opened.ts_event, opened.price * 98 // 100, opened.price * 103 // 100, opened.ts_event + 1_200_000
    )
    first, second = to_entries(prints, one), to_entries(prints, other, frame_ms=(500, 90_000))
    assert what_happened(find(rule, first)) == what_happened(find(rule, second))
    late = next(n for n, (_, events) in enumerate(first) if _holds(events, opened))
    assert what_happened(find(rule, first[late:])) == what_happened(find(rule, first))


def _holds(events: list[Event], wanted: Print) -> bool:
    return any(wanted.trade_id in getattr(event, "trade_id", []) for event in events)
