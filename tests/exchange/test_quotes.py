"""The quote rule of a replay: a table of small histories, and any history against the rule written another way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.quotes import BUY, EMPTY, SELL, Quote, derive

Prints = list[tuple[int, int, int]]  # side, ticks, steps

TABLE: list[tuple[str, Prints, Quote | None]] = [
    ("no print gives no quote", [], None),
    ("a first buy puts the bid one tick below, with its own size", [(BUY, 100, 7)], Quote(99, 7, 100, 7)),
    ("a first sell puts the ask one tick above, with its own size", [(SELL, 100, 7)], Quote(100, 7, 101, 7)),
    ("both sides stand at their last prints", [(SELL, 98, 3), (BUY, 105, 4)], Quote(98, 3, 105, 4)),
    (
        "a newer print of one side moves that side only",
        [(SELL, 98, 3), (BUY, 105, 4), (BUY, 103, 5)],
        Quote(98, 3, 103, 5),
    ),
    ("a buy at the bid pushes the bid below it", [(SELL, 100, 3), (BUY, 100, 4)], Quote(99, 3, 100, 4)),
    ("a buy below the bid pushes the bid below it", [(SELL, 100, 3), (BUY, 90, 4)], Quote(89, 3, 90, 4)),
    ("a sell at the ask pushes the ask above it", [(BUY, 100, 3), (SELL, 100, 4)], Quote(100, 4, 101, 3)),
    ("a sell above the ask pushes the ask above it", [(BUY, 100, 3), (SELL, 110, 4)], Quote(110, 4, 111, 3)),
    (
        "a pushed side returns to its last print when there is room again",
        [(SELL, 100, 3), (BUY, 90, 4), (BUY, 105, 5)],
        Quote(100, 3, 105, 5),
    ),
    ("a first buy at one tick gives no quote yet", [(BUY, 1, 7)], None),
    ("a sell at one tick gives one", [(SELL, 1, 7)], Quote(1, 7, 2, 7)),
    ("a buy at one tick leaves the quote in force", [(SELL, 5, 2), (BUY, 9, 3), (BUY, 1, 7)], Quote(5, 2, 9, 3)),
    ("and is remembered as the last buy", [(SELL, 5, 2), (BUY, 1, 7), (SELL, 4, 3)], Quote(4, 3, 5, 7)),
]


def _last(prints: Prints) -> Quote | None:
    state = EMPTY
    for side, ticks, steps in prints:
        state = derive(state, side, ticks, steps)
    return state.quote


@pytest.mark.parametrize(("prints", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_history_gives_its_quote(prints: Prints, expected: Quote | None) -> None:
    assert _last(prints) == expected


def _from_whole_history(prints: Prints) -> Quote | None:
    """The rule read literally, from the full list of prints."""
    for end in range(len(prints), 0, -1):
        buys = [(ticks, steps) for side, ticks, steps in prints[:end] if side == BUY]
        sells = [(ticks, steps) for side, ticks, steps in prints[:end] if side == SELL]
        newest_side, newest_ticks, newest_steps = prints[end - 1]
        ask, ask_size = buys[-1] if buys else (None, newest_steps)
        bid, bid_size = sells[-1] if sells else (None, newest_steps)
        if ask is None or bid is None or bid >= ask:
            if newest_side == BUY:
                ask, bid = newest_ticks, newest_ticks - 1
            else:
                bid, ask = newest_ticks, newest_ticks + 1
        if bid > 0:
            return Quote(bid, bid_size, ask, ask_size)
    return None


histories = st.lists(st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 12), st.integers(1, 1_000)), max_size=30)


@given(histories)
def test_any_history_gives_what_the_rule_says(prints: Prints) -> None:
    assert _last(prints) == _from_whole_history(prints)


@given(histories)
def test_the_bid_is_always_positive_and_below_the_ask_and_sizes_are_positive(prints: Prints) -> None:
    state = EMPTY
    for side, ticks, steps in prints:
        state = derive(state, side, ticks, steps)
        if state.quote is not None:
            assert 0 < state.quote.bid_ticks < state.quote.ask_ticks
            assert state.quote.bid_steps > 0
            assert state.quote.ask_steps > 0
            believed = state.quote.ask_ticks if side == BUY else state.quote.bid_ticks
            assert believed == ticks or (side == BUY and ticks == 1)
