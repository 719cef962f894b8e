"""Exits are found at the same trade however the stream is cut, whenever the fill becomes known, across restarts."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.events import BUY, Event, TradeBlock
from apps.engine.exit_kernel import trailing_parts
from apps.engine.exits import (
    EXIT_SIGNAL,
    MAX_HOLDING,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING_STOP,
    ExitCall,
    ExitRule,
    ExitSearch,
)
from apps.engine.model import RaisedExit
from tests.engine.believing import Plan
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


def what_counted(found: RaisedExit | None) -> Any:
    return found and (*what_happened(found), found.confirmed)


# --- any trades, any rule ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A market, a position in it, and the trades (by number) on which its strategy said: sell."""

    prints: list[Print]
    rule: ExitRule
    sells: frozenset[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dice = random.Random(draw(st.integers(0, 2**32)))
    ts, prints = START_MS, []
    level, count = 100, dice.randrange(1, 60)
    for number in range(count):
        ts += dice.choice((0, 1, 400, 900, 20_000))
        level = dice.choice((70, 100, 130)) if dice.random() < 0.05 else level
        price = dice.choice((1, 50, 85, 160)) if dice.random() < 0.1 else dice.randrange(level - 8, level + 10)
        prints.append(Print(ts, "AAAUSDT", price, 5, BUY, str(number)))
    opened = dice.choice(prints).ts_event + dice.choice((-1, 0, 1))
    retry = dice.choice((0, 0, opened + dice.randrange(300_000)))
    rule = ExitRule(
        1, "AAAUSDT", opened,
        stop=dice.choice((0, 92, 95)), target=dice.choice((0, 105, 110)),
        due_ts=max(opened + dice.choice((1, 60_000, 10**9)), retry),
        trailing=trailing_parts(Decimal(dice.choice(("0", "3", "7.5")))), retry_ts=retry,
        on_signal=dice.random() < 0.8,
    )  # fmt: skip
    return Case(prints, rule, frozenset(n for n in range(len(prints)) if dice.random() < 0.1))


def expected(case: Case) -> Any:
    """What the rules as the manual states them give, one trade after the other."""
    rule = case.rule
    plan = Plan(100, rule.opened_ts, rule.stop, rule.target, rule.trailing, rule.due_ts, rule.retry_ts)
    trades = [(row.ts_event, row.price) for row in case.prints]
    found = plan.ending(trades, case.sells if rule.on_signal else frozenset(), END_MS)
    if found is None:
        return None
    trade_id = "" if found.number is None else case.prints[found.number].trade_id
    return found.reason, found.ts, trade_id, found.price, found.counts


END_MS = START_MS + 10**8


def cut(case: Case, dice: random.Random) -> list[Entry]:
    """The case's trades in blocks of any length; some repeat the end of the one before, as a doubtful write does."""
    entries: list[Entry] = []
    start = number = 0
    while start < len(case.prints):
        end = start + dice.randrange(1, 12)
        again = max(start - dice.choice((0, 0, 2)), 0)
        number += 1
        entries.append((f"{number}-0", [block_of(case.prints[again:end], again + 1)]))
        start = end
    return [*entries, (f"{number + 1}-0", [watermark(END_MS, len(case.prints))])]


def calls_in(case: Case, events: list[Event]) -> list[ExitCall]:
    """A strategy judges each trade once, where it stood first; a repeated one is passed over."""
    ids = {name for event in events for name in getattr(event, "trade_id", [])}
    rows = [(number, row) for number, row in enumerate(case.prints) if row.trade_id in ids and number in case.sells]
    return [ExitCall(row.ts_event, row.trade_id) for _, row in rows]


@given(cases(), st.integers(0, 10_000))
@settings(max_examples=300, deadline=None)
def test_the_search_finds_what_the_rules_say_for_any_cut(case: Case, seed: int) -> None:
    search, found = ExitSearch(case.rule, last_price=100), None
    for entry_id, events in cut(case, random.Random(seed)):
        found = found or search.feed(entry_id, events, calls_in(case, events))
    assert what_counted(found) == expected(case)


@given(cases(), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_a_search_that_goes_on_after_restarts_finds_the_same(case: Case, seed: int) -> None:
    """Of what was searched only the last price and the watch are kept, and where the stream stood."""
    dice = random.Random(seed)
    search, found, read = ExitSearch(case.rule, last_price=100), None, 0
    for entry_id, events in cut(case, dice):
        if found is None:
            found = search.feed(entry_id, events, calls_in(case, events))
        for event in events:
            read = max(read, event.ordinal - 1 + len(event.ts_event)) if isinstance(event, TradeBlock) else read
        if dice.random() < 0.3:
            search = ExitSearch(case.rule, last_price=search.last_price, watch=search.watch)
            search.follow_on(1, read)
    assert what_counted(found) == expected(case)


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000))
@settings(max_examples=40, deadline=None)
def test_neither_the_cut_into_frames_nor_a_late_fill_changes_an_exit(market: int, one: int, other: int) -> None:
    """A fill that becomes known late is searched from its trigger's entry on, in whatever frames the trades came."""
    prints = make_prints(market, symbols=("AAAUSDT",), minutes=60)
    opened = prints[len(prints) // 3]
    rule = ExitRule(
        1, "AAAUSDT", opened.ts_event, opened.price * 98 // 100, opened.price * 103 // 100,
        opened.ts_event + 1_200_000, trailing_parts(Decimal("1.5")),
    )  # fmt: skip
    first, second = to_entries(prints, one), to_entries(prints, other, frame_ms=(500, 90_000))
    assert what_happened(find(rule, first)) == what_happened(find(rule, second))
    late = next(n for n, (_, events) in enumerate(first) if _holds(events, opened))
    assert what_happened(find(rule, first[late:])) == what_happened(find(rule, first))


def _holds(events: list[Event], wanted: Print) -> bool:
    return any(wanted.trade_id in getattr(event, "trade_id", []) for event in events)


# --- trailing stop, exit signal, a second attempt ---------------------------------------------------------------------

TRAILING = replace(RULE, stop=0, target=0, trailing=trailing_parts(Decimal(5)))
RISE = [at(2_000, 10_000, 1), at(3_000, 11_000, 2), at(4_000, 10_700, 3)]


@pytest.mark.parametrize(("price", "closes"), [(10_451, False), (10_450, True), (10_000, True)])
def test_the_trailing_stop_lies_below_the_highest_price_since_the_fill(price: int, closes: bool) -> None:
    found = find(TRAILING, [("1-0", [block_of([*RISE, at(5_000, price, 4)], 1)])])
    assert what_happened(found) == ((TRAILING_STOP, START_MS + 5_000, "4", price) if closes else None)


def test_what_the_price_was_before_the_fill_raises_no_trailing_stop() -> None:
    early = [at(100, 90_000, 1), at(1_000, 90_000, 2)]
    assert find(TRAILING, [("1-0", [block_of([*early, at(2_000, 10_000, 3)], 1)])]) is None


def test_a_price_below_both_stops_is_the_stop_loss() -> None:
    rule = replace(TRAILING, stop=9_800)
    found = find(rule, [("1-0", [block_of([*RISE, at(5_000, 9_700, 4)], 1)])])
    assert found is not None
    assert found.reason == STOP_LOSS


@pytest.mark.parametrize(
    ("what", "call", "changes", "closes"),
    [
        ("on a later trade", ExitCall(START_MS + 3_000, "2"), {}, True),
        ("on a trade that the exchange did not name", ExitCall(START_MS + 3_000, "#0"), {}, True),
        ("on the fill's own millisecond", ExitCall(START_MS + 2_000, "1"), {"opened_ts": START_MS + 2_000}, False),
        ("before the fill", ExitCall(START_MS + 2_000, "1"), {"opened_ts": START_MS + 2_500}, False),
        ("of a position that does not listen", ExitCall(START_MS + 3_000, "2"), {"on_signal": False}, False),
        ("before a second attempt", ExitCall(START_MS + 3_000, "2"), {"retry_ts": START_MS + 3_001}, False),
    ],
)
def test_an_exit_signal_closes_what_was_opened_before_it(
    what: str, call: ExitCall, changes: dict[str, Any], closes: bool
) -> None:
    search = ExitSearch(replace(RULE, target=0, **changes), last_price=10_000)
    found = search.feed("1-0", [block_of(RISE, 1)], [call])
    shown = (EXIT_SIGNAL, START_MS + 3_000, call.trade_id, 11_000)
    assert what_happened(found) == (shown if closes else None), what


def test_a_stop_on_the_trade_of_an_exit_signal_comes_first() -> None:
    search = ExitSearch(replace(RULE, target=11_000), last_price=10_000)
    found = search.feed("1-0", [block_of(RISE, 1)], [ExitCall(START_MS + 3_000, "2")])
    assert found is not None
    assert found.reason == TAKE_PROFIT


def test_after_a_failed_exit_the_price_of_the_meantime_still_raises_the_trailing_stop() -> None:
    rule = replace(TRAILING, retry_ts=START_MS + 4_000)
    rows = [at(2_000, 11_000, 1), at(3_000, 10_500, 2), at(4_000, 10_400, 3)]
    found = find(rule, [("1-0", [block_of(rows, 1)])])
    assert what_happened(found) == (TRAILING_STOP, START_MS + 4_000, "3", 10_400)
