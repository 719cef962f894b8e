"""The compiled search for exits gives what plain Python gives, however the trades are cut."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.exit_kernel import (
    DUE,
    NEVER_DUE,
    NO_STOP,
    NO_TARGET,
    NOT_FOUND,
    REASONS,
    STOPPED,
    TARGET_REACHED,
    TRAILED,
    TRAILING_ONE,
    Bounds,
    Watch,
    find_exit,
    price_in_force,
    trailing_parts,
    trailing_stop,
    watch_from,
)
from apps.engine.exits import MAX_HOLDING, STOP_LOSS, TAKE_PROFIT
from apps.engine.ticks import NOBODY
from tests.engine.believing import Plan

Row = tuple[int, int]
TICKS = st.one_of(st.integers(90, 110), st.integers(1, 2**62))


def columns(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    ts, price = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 1))
    return ts, price


@given(
    rows=st.lists(st.tuples(st.integers(1, 60), TICKS), max_size=40),
    opened=st.integers(0, 30),
    stop=st.one_of(st.just(NO_STOP), st.integers(80, 100)),
    target=st.one_of(st.just(NO_TARGET), st.integers(100, 120)),
    parts=st.one_of(st.just(0), st.integers(1, TRAILING_ONE)),
    due=st.one_of(st.just(NEVER_DUE), st.integers(1, 70)),
    retry=st.one_of(st.just(0), st.integers(0, 40)),
    entry=st.one_of(st.just(0), TICKS),
    high=st.one_of(st.just(0), TICKS),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_any_cut_of_the_trades_gives_the_exit_of_the_plain_rule(
    rows: list[Row],
    opened: int,
    stop: int,
    target: int,
    parts: int,
    due: int,
    retry: int,
    entry: int,
    high: int,
    cuts: list[int],
) -> None:
    due = max(due, retry)  # as whoever stores a failed exit sees to
    plan = Plan(entry, opened, stop, target, parts, due, retry, high=high)
    ending = plan.ending(rows)
    late = next((number for number, (at, _) in enumerate(rows) if at >= due), len(rows))
    number = len(rows) if ending is None else late if ending.number is None else ending.number
    ts, price = columns(rows)
    bounds = Bounds(opened, stop, target, parts, due, retry)
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    row, code, watch = 0, NOT_FOUND, Watch(high, entry, NOBODY)
    for end in edges:
        row, code, watch = find_exit(ts[:end], price[:end], row, bounds, watch)
        if code:
            break
    assert (row, REASONS[code]) == (number, "" if ending is None else ending.reason)
    if ending is not None and row:
        assert ending.counts == (price_in_force(watch, int(price[row - 1])) if code == DUE else price[row])


@pytest.mark.parametrize(
    ("price", "code"), [(98, STOPPED), (99, TRAILED), (100, NOT_FOUND), (109, NOT_FOUND), (110, TARGET_REACHED)]
)
def test_a_price_at_the_bound_itself_is_an_exit(price: int, code: int) -> None:
    """A stop at 98, a target at 110, and one per cent below the entry at 100."""
    ts, prices = columns([(2, price)])
    bounds = Bounds(1, 98, 110, TRAILING_ONE // 100, NEVER_DUE)
    assert find_exit(ts, prices, 0, bounds, Watch(100, 100, NOBODY))[1] == code


def test_the_time_is_over_before_the_trade_that_shows_it() -> None:
    ts, prices = columns([(2, 100), (10, 1)])
    found = find_exit(ts, prices, 0, Bounds(1, 50, NO_TARGET, 0, 10), watch_from(100))
    assert found == (1, DUE, Watch(100, 100, NOBODY))


def test_the_trade_of_the_fill_itself_closes_nothing() -> None:
    ts, prices = columns([(5, 49), (6, 49)])
    assert find_exit(ts, prices, 0, Bounds(5, 50, NO_TARGET, 0, NEVER_DUE), watch_from(51))[0] == 1


def test_a_stop_that_trails_rises_with_the_highest_price_and_never_falls() -> None:
    ts, prices = columns([(2, 1_000), (3, 1_100), (4, 1_060), (5, 1_046), (6, 1_045)])
    bounds = Bounds(1, NO_STOP, NO_TARGET, trailing_parts(Decimal(5)), NEVER_DUE)
    assert find_exit(ts, prices, 0, bounds, watch_from(1_000)) == (4, TRAILED, Watch(1_100, 1_046, NOBODY))


def test_columns_that_may_not_be_written_are_read_by_the_same_search() -> None:
    ts, prices = columns([(2, 40)])
    ts.flags.writeable = prices.flags.writeable = False
    assert find_exit(ts, prices, 0, Bounds(1, 50, NO_TARGET, 0, NEVER_DUE), watch_from(40))[:2] == (0, STOPPED)


@given(st.integers(1, 2**62), st.integers(0, TRAILING_ONE))
@settings(deadline=None)
def test_the_trailing_stop_is_the_exact_floor_for_prices_of_any_size(high: int, parts: int) -> None:
    assert trailing_stop(high, parts) == (high * (TRAILING_ONE - parts) // TRAILING_ONE if parts else 0)


@pytest.mark.parametrize(("pct", "parts"), [("0", 0), ("1.5", 1_500_000), ("0.000001", 1), ("100", TRAILING_ONE)])
def test_per_cent_become_whole_parts(pct: str, parts: int) -> None:
    assert trailing_parts(Decimal(pct)) == parts


@pytest.mark.parametrize("pct", ["-1", "100.1", "0.0000001"])
def test_a_trailing_stop_that_is_no_share_is_refused(pct: str) -> None:
    with pytest.raises(ValueError, match="trailing_stop_pct"):
        trailing_parts(Decimal(pct))


def test_the_codes_name_the_reasons_that_are_stored() -> None:
    assert (REASONS[STOPPED], REASONS[TARGET_REACHED], REASONS[DUE]) == (STOP_LOSS, TAKE_PROFIT, MAX_HOLDING)
