"""Arithmetic that never rounds by accident."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.money import fee_of, notional, to_money, total

QUANTITIES = st.decimals(min_value="1e-12", max_value="1e18", places=9)
PRICES = st.decimals(min_value="1e-9", max_value="1e12", places=9)


@given(QUANTITIES, PRICES)
def test_a_notional_is_the_exact_product_whatever_context_the_caller_has(quantity: Decimal, price: Decimal) -> None:
    with localcontext(prec=80):
        product = int(quantity.scaleb(9)) * int(price.scaleb(9))
    with localcontext(prec=6):
        value = notional(quantity, price)
    with localcontext(prec=80):
        assert value == Decimal(product).scaleb(-18)


@pytest.mark.parametrize(
    ("amount", "rate", "fee"),
    [
        ("100", "0.0005", "0.05"),
        ("100.00000001", "0.0005", "0.05000001"),
        ("0.000000000001", "0.0005", "0.00000001"),
        ("100", "0", "0"),
    ],
)
def test_a_fee_is_rounded_up_to_eight_places(amount: str, rate: str, fee: str) -> None:
    assert fee_of(Decimal(amount), Decimal(rate)) == Decimal(fee)


def test_money_keeps_eighteen_places_half_to_even() -> None:
    assert to_money(Decimal("1.0000000000000000005")) == Decimal("1.000000000000000000")
    assert to_money(Decimal("1.0000000000000000015")) == Decimal("1.000000000000000002")


def test_a_total_of_large_and_small_amounts_loses_nothing() -> None:
    amounts = [Decimal(10) ** 20, Decimal("1e-18"), -(Decimal(10) ** 20)]
    assert total(amounts) == Decimal("1e-18")
