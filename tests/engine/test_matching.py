"""Paper fills, compared with a second computation in whole ticks that shares nothing with the engine's."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.matching import Expired, Expiry, MaturedOrder, Terms, TopOfBook, match, quote_in_force
from apps.engine.portfolio import Fill, Side

D = Decimal
TERMS = Terms(
    price_decimals=4,
    slippage_base_bps=D(1),
    slippage_impact_bps=D(10),
    taker_fee=D("0.0005"),
    fee_currency="USDT",
)
QUOTE = TopOfBook(1_000, D("0.5000"), D(100), D("0.5002"), D(50))


def order(side: Side, quantity: str, limit: str) -> MaturedOrder:
    return MaturedOrder(side, D(quantity), D(limit), 1_150)


@pytest.mark.parametrize(
    ("side", "quantity", "price"),
    [
        # all of it at the top of the book: 1 bp, and up to the tick for a buy, down for a sale
        (Side.BUY, "50", "0.5003"),  # 0.50025002
        (Side.SELL, "100", "0.4999"),  # 0.49995
        # half of a buy of 100 is not there: 1 + 10 * 0.5 = 6 bp
        (Side.BUY, "100", "0.5006"),  # 0.50050012
        (Side.SELL, "200", "0.4997"),  # 0.4997 exactly: no tick is lost to rounding
        # nearly nothing is there: close to 11 bp, never more
        (Side.BUY, "5000000", "0.5008"),  # 0.5007502...
    ],
)
def test_a_fill_is_the_quote_moved_against_us_by_the_slippage(side: Side, quantity: str, price: str) -> None:
    fill = match(QUOTE, order(side, quantity, "0.6" if side is Side.BUY else "0.4"), TERMS)
    assert isinstance(fill, Fill)
    assert (fill.side, fill.price, fill.quantity) == (side, D(price), D(quantity))
    assert (fill.ts_event, fill.fee_currency) == (1_150, "USDT")


def by_hand(side: str, bid: int, bid_size: int, ask: int, ask_size: int, quantity: int) -> int:
    """The fill price in ticks: base 1 bp, impact 10 bp. Whole numbers only; sizes and quantity in steps."""
    size, best = (ask_size, ask) if side == "BUY" else (bid_size, bid)
    excess = max(0, quantity - size)
    # bps = 1 + 10 * excess / quantity; both sides of best * (1 +- bps / 10000) are multiplied by 10000 * quantity
    move = quantity + 10 * excess
    if side == "BUY":
        return -(-best * (10_000 * quantity + move) // (10_000 * quantity))
    return max(best * (10_000 * quantity - move) // (10_000 * quantity), 1)


@given(
    side=st.sampled_from(["BUY", "SELL"]),
    bid=st.integers(1, 10**9),
    spread=st.integers(1, 10**4),
    sizes=st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)),
    quantity=st.integers(1, 10**9),
)
def test_price_and_fee_equal_a_computation_in_whole_ticks(
    side: str, bid: int, spread: int, sizes: tuple[int, int], quantity: int
) -> None:
    ask = bid + spread
    quote = TopOfBook(5, D(bid).scaleb(-4), D(sizes[0]).scaleb(-2), D(ask).scaleb(-4), D(sizes[1]).scaleb(-2))
    limit = "1e9" if side == "BUY" else "0.0001"
    fill = match(quote, MaturedOrder(Side(side), D(quantity).scaleb(-2), D(limit), 5), TERMS)
    ticks = by_hand(side, bid, sizes[0], ask, sizes[1], quantity)
    assert isinstance(fill, Fill)
    assert fill.price == D(ticks).scaleb(-4)
    fee = Fraction(ticks * quantity, 10**6) * Fraction(5, 10_000) * 10**8
    assert fill.fee == D(-(-fee.numerator // fee.denominator)).scaleb(-8)


@pytest.mark.parametrize(
    ("side", "limit", "filled"),
    [
        (Side.BUY, "0.5003", True),
        (Side.BUY, "0.5002", False),
        (Side.SELL, "0.4999", True),
        (Side.SELL, "0.5000", False),
    ],
)
def test_an_order_whose_price_is_worse_than_its_limit_expires(side: Side, limit: str, filled: bool) -> None:
    result = match(QUOTE, order(side, "10", limit), TERMS)
    assert isinstance(result, Fill) is filled
    if isinstance(result, Expired):
        assert result.reason is Expiry.LIMIT
        assert limit.rstrip("0") in result.words


def test_without_a_quote_an_order_expires() -> None:
    result = match(None, order(Side.BUY, "10", "1"), TERMS)
    assert isinstance(result, Expired)
    assert result.reason is Expiry.NO_QUOTE


def test_a_sale_at_one_tick_never_falls_to_nothing() -> None:
    quote = TopOfBook(1, D("0.0001"), D(1), D("0.0002"), D(1))
    fill = match(quote, order(Side.SELL, "10", "0.0001"), TERMS)
    assert isinstance(fill, Fill)
    assert fill.price == D("0.0001")


def at(ts_event: int, bid: str) -> TopOfBook:
    return TopOfBook(ts_event, D(bid), D(1), D(bid) + 1, D(1))


@pytest.mark.parametrize(
    ("times", "asked", "found"),
    [
        ([], 10, None),
        ([11], 10, None),
        ([10], 10, 0),
        ([5, 9, 11], 10, 1),
        ([5, 9, 9, 11], 10, 2),  # the last of equal times
        ([9, 5], 10, 0),  # a quote that comes late is not in force again
    ],
)
def test_the_quote_in_force_is_the_latest_at_or_before_the_time(
    times: list[int], asked: int, found: int | None
) -> None:
    quotes = [at(time, str(number + 1)) for number, time in enumerate(times)]
    assert quote_in_force(iter(quotes), asked) == (None if found is None else quotes[found])
