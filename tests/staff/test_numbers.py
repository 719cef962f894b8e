"""Numbers as people read them: exact, never through a float, never 0 for unknown."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.staff import numbers

DECIMALS = st.decimals(min_value=-(10**18), max_value=10**18, places=12, allow_nan=False, allow_infinity=False)


def parsed(text: str) -> Decimal:
    return Decimal(text.replace(numbers.MINUS, "-").replace(numbers.NARROW_SPACE, ""))


@given(value=DECIMALS, decimals=st.integers(0, 12), signed=st.booleans())
def test_the_exact_text_parses_back_to_the_same_decimal(value: Decimal, decimals: int, signed: bool) -> None:
    text = numbers.exact(value, decimals=decimals, signed=signed)
    assert parsed(text) == value
    assert "e" not in text.lower()
    assert len(text.partition(".")[2]) >= decimals
    assert Decimal(numbers.plain(value)) == value


@given(value=DECIMALS, decimals=st.integers(0, 8))
def test_a_rounded_text_is_the_value_rounded_to_its_step_or_says_that_it_is_below_one(
    value: Decimal, decimals: int
) -> None:
    text = numbers.rounded(value, decimals)
    if text.startswith("<"):
        assert 0 < abs(value) < Decimal(1).scaleb(-decimals)
    else:
        assert parsed(text) == value.quantize(Decimal(1).scaleb(-decimals))
        assert value == 0 or parsed(text) != 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.exact(Decimal("1234567.5"), decimals=2), "1\u202f234\u202f567.50"),
        (numbers.exact(Decimal("-0.00012")), "\u22120.00012"),
        (numbers.exact(Decimal("0.500000000000"), decimals=4), "0.5000"),
        (numbers.exact(Decimal("1E+3")), "1\u202f000"),
        (numbers.exact(Decimal("3.2"), signed=True), "+3.2"),
        (numbers.exact(Decimal("0.000"), signed=True), "0"),
        (numbers.exact(Decimal("-0.000"), signed=True), "0"),
        (numbers.exact(None), "—"),
        (numbers.rounded(Decimal("0.004"), 2), "<\u202f0.01"),
        (numbers.rounded(Decimal("-0.004"), 2), "<\u202f0.01"),
        (numbers.rounded(Decimal(0), 2), "0.00"),
        (numbers.rounded(None, 2), "—"),
        (numbers.percent(Decimal("0.0321"), signed=True), "+3.2\u202f%"),
        (numbers.percent(Decimal("-0.0321"), 2, signed=True), "\u22123.21\u202f%"),
        (numbers.percent(None), "—"),
        (numbers.amount(Decimal("212.404"), "USDT"), "212.40\u202fUSDT"),
        (numbers.amount(None, "USDT"), "—"),
        (numbers.count(48211), "48\u202f211"),
        (numbers.count(None), "—"),
    ],
)
def test_numbers_follow_the_house_style(text: str, expected: str) -> None:
    assert text == expected
