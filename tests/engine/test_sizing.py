"""Order size and limit prices."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.sizing import exit_limit, opening_limit, opening_quantity

D = Decimal


@pytest.mark.parametrize(
    ("equity", "price", "decimals", "notional_max", "expected"),
    [
        ("100000", "0.5", 2, "2000000", "4000.00"),
        ("100000", "0.52413", 2, "2000000", "3815.84"),  # 3815.8471..., never rounded up
        ("100000", "95639.26", 6, "2000000", "0.020911"),
        ("100000", "0.5", 0, "1000", "1960"),  # 1000 / 0.51: the exchange's maximum holds at the limit price
        ("10", "95639.26", 5, "2000000", "0.00000"),
        ("0", "0.5", 2, "2000000", "0"),
        ("-5", "0.5", 2, "2000000", "0"),
        ("100000", "0", 2, "2000000", "0"),
    ],
)
def test_an_order_is_two_percent_of_equity_in_whole_steps(
    equity: str, price: str, decimals: int, notional_max: str, expected: str
) -> None:
    quantity = opening_quantity(
        order_size=D("0.02"),
        equity=D(equity),
        price=D(price),
        limit_price=D(price) * D("1.02"),
        quantity_decimals=decimals,
        notional_max=D(notional_max),
    )
    assert quantity == D(expected)


@given(
    equity=st.decimals("0.01", "1e9", places=2),
    price=st.decimals("1e-8", "1e6", places=8),
    decimals=st.integers(0, 8),
    notional_max=st.decimals("1", "1e7", places=2),
)
def test_no_order_is_larger_than_asked_and_one_step_more_would_be(
    equity: Decimal, price: Decimal, decimals: int, notional_max: Decimal
) -> None:
    limit = price * 2
    quantity = opening_quantity(
        order_size=D("0.02"), equity=equity, price=price, limit_price=limit,
        quantity_decimals=decimals, notional_max=notional_max,
    )  # fmt: skip
    step = D(1).scaleb(-decimals)
    assert quantity % step == 0
    assert quantity * price <= equity * D("0.02")
    assert quantity * limit <= notional_max
    more = quantity + step
    assert more * price > equity * D("0.02") or more * limit > notional_max


@pytest.mark.parametrize(
    ("price", "decimals", "expected"), [("0.5241", 4, "0.5345"), ("100", 0, "102"), ("3", 1, "3.0")]
)
def test_a_buy_accepts_the_collar_rounded_down_to_the_tick(price: str, decimals: int, expected: str) -> None:
    assert opening_limit(D(price), D("0.02"), decimals) == D(expected)


@pytest.mark.parametrize(
    ("price", "decimals", "expected"), [("0.5241", 4, "0.4717"), ("1", 0, "1"), ("0.0001", 4, "0.0001")]
)
def test_an_exit_accepts_the_band_rounded_up_to_the_tick(price: str, decimals: int, expected: str) -> None:
    assert exit_limit(D(price), D("0.1"), decimals) == D(expected)
