"""Decimal text to whole units, without a float."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.ingest.numbers import INT64_MAX, BadNumber, to_units


@pytest.mark.parametrize(
    ("text", "decimals", "units"),
    [
        ("93220.00", 2, 9_322_000),
        ("1", 0, 1),
        ("0.04438243", 8, 4_438_243),
        ("0.5", 3, 500),
        ("00012.5", 1, 125),
        ("1.2300000", 2, 123),
        ("5.0", 0, 5),
        ("9223372036854775807", 0, INT64_MAX),
    ],
)
def test_good_text_becomes_units(text: str, decimals: int, units: int) -> None:
    assert to_units(text, decimals) == units


@pytest.mark.parametrize(
    ("text", "decimals", "reason"),
    [
        ("", 2, "not_decimal"),
        (".", 2, "not_decimal"),
        ("1.", 2, "not_decimal"),
        (".5", 2, "not_decimal"),
        ("-1", 2, "not_decimal"),
        ("+1", 2, "not_decimal"),
        ("1e3", 2, "not_decimal"),
        ("1E3", 2, "not_decimal"),
        ("inf", 2, "not_decimal"),
        ("nan", 2, "not_decimal"),
        ("1,5", 2, "not_decimal"),
        ("1_000", 2, "not_decimal"),
        (" 1", 2, "not_decimal"),
        ("1\n", 2, "not_decimal"),
        ("0x10", 2, "not_decimal"),
        ("1.2.3", 2, "not_decimal"),
        ("\u0661", 2, "not_decimal"),
        ("\u00b2", 2, "not_decimal"),
        ("1" * 41, 2, "not_decimal"),
        ("0", 2, "not_positive"),
        ("0.000", 2, "not_positive"),
        ("1.001", 2, "too_many_decimals"),
        ("9223372036854775808", 0, "too_large"),
        ("92233720368547758.08", 2, "too_large"),
    ],
)
def test_bad_text_is_refused_with_its_reason(text: str, decimals: int, reason: str) -> None:
    with pytest.raises(BadNumber) as caught:
        to_units(text, decimals)
    assert caught.value.reason == reason


@settings(deadline=None)
@given(units=st.integers(1, INT64_MAX), decimals=st.integers(0, 18), zeros=st.integers(0, 3))
def test_what_is_written_is_read_back(units: int, decimals: int, zeros: int) -> None:
    text = f"{Decimal(units).scaleb(-decimals):f}"
    padded = text + ("0" * zeros if "." in text else "")
    assert to_units(padded, decimals) == units


@settings(deadline=None)
@given(text=st.text(alphabet="0123456789.+-eE,_ infaINFA\u0660\u00bd", max_size=12), decimals=st.integers(0, 18))
def test_any_text_is_either_exact_or_refused(text: str, decimals: int) -> None:
    try:
        units = to_units(text, decimals)
    except BadNumber:
        return
    assert set(text) <= set("0123456789.")
    assert Decimal(units).scaleb(-decimals) == Decimal(text)
    assert 0 < units <= INT64_MAX
