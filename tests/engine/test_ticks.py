"""Which price the trades of a symbol confirm: one wild print never, three that agree within two seconds always."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.tape import PRICES_MAX, PriceTape
from apps.engine.ticks import JUMP, RUN_MAX, confirmed_price, jumps
from tests.engine.believing import Believer

CALM = [(at * 100, 10_000 + at % 3) for at in range(20)]


@pytest.mark.parametrize(
    ("wild", "confirmed"),
    [
        ([], False),
        ([0], False),
        ([0, 500], False),
        ([0, 500, 1_000], True),
        ([0, 0, 0], True),
        ([0, 1_000, 2_000], True),
        ([0, 1_000, 2_001], False),  # the first is too long ago
        ([0, 1_000, 2_001, 2_500], True),
    ],
)
@pytest.mark.parametrize("price", [1_000_000, 100, 1, 11_501])
def test_three_prints_within_two_seconds_confirm_a_jump(wild: list[int], confirmed: bool, price: int) -> None:
    trades = [*CALM, *((5_000 + at, price) for at in wild)]
    assert confirmed_price(trades) == (price if confirmed else 10_001)


def test_wild_prints_that_do_not_agree_confirm_nothing() -> None:
    trades = [*CALM, (5_000, 100), (5_100, 1_000), (5_200, 10), (5_300, 100_000)]
    assert confirmed_price(trades) == 10_001


def test_a_print_where_the_market_was_before_ends_the_doubt() -> None:
    assert confirmed_price([*CALM, (5_000, 100), (5_100, 100), (5_200, 10_002), (5_300, 100)]) == 10_002


def test_a_tenth_is_no_jump_and_more_is() -> None:
    assert not jumps(11_000, 10_000)
    assert jumps(11_001, 10_000)
    assert not jumps(9_000, 10_000)
    assert jumps(8_999, 10_000)
    assert not jumps(2**62, 2**62 - 1)


def test_the_first_trade_is_believed_and_before_it_nothing_is_known() -> None:
    assert confirmed_price([]) is None
    assert confirmed_price([(0, 77)]) == 77


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 400)), min_size=1, max_size=40), st.integers(1, 10**6))
@settings(deadline=None)
def test_one_print_alone_never_moves_the_confirmed_price_by_more_than_a_tenth(
    steps: list[tuple[int, int]], wild: int
) -> None:
    trades, ts = [], 0
    for step, price in steps:
        ts += step
        trades.append((ts, price))
    before = confirmed_price(trades)
    assert before is not None
    after = confirmed_price([*trades, (ts + 10_000, wild)])  # long after everything that could agree with it
    assert after is not None
    assert after == before or not jumps(after, before)


def test_the_tape_of_the_last_prices_tells_what_they_confirm() -> None:
    tape = PriceTape()
    assert tape.confirmed() is None
    tape.extend([ts for ts, _ in CALM], [price for _, price in CALM])
    tape.extend([5_000], [100])
    assert (tape.confirmed(), JUMP) == (10_001, 10)


@given(
    st.lists(
        st.tuples(st.integers(0, 1_500), st.sampled_from([1, 80, 85, 90, 99, 100, 110, 111, 130, 10**9])), max_size=150
    )
)
@settings(max_examples=200, deadline=None)
def test_the_compiled_steps_are_those_of_plain_python(steps: list[tuple[int, int]]) -> None:
    trades, ts, believer = [], 0, Believer(0)
    for step, price in steps:
        ts += step
        trades.append((ts, price))
        believer.sees(ts, price)
    assert confirmed_price(trades) == (believer.price or None)


def test_a_quiet_market_that_stays_elsewhere_is_believed_after_as_many_prints_as_the_tape_holds() -> None:
    slow = [(10_000 * number, 100) for number in range(1, RUN_MAX + 1)]
    assert confirmed_price([(0, 10_000), *slow[:-1]]) == 10_000
    assert confirmed_price([(0, 10_000), *slow]) == 100
    assert confirmed_price([(0, 10_000), *slow[:-1], (10**7, 50), *slow[:-1]]) == 10_000
    assert RUN_MAX == PRICES_MAX
