"""Decimal numbers of requests and answers."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from apps.engine.money import exact

_PLAIN: Final = re.compile(r"\d{1,30}(\.\d{1,30})?")


def plain_decimal(text: str) -> Decimal | None:
    """A decimal number without sign or exponent, None for any other text."""
    return Decimal(text) if text.isascii() and _PLAIN.fullmatch(text) else None


@exact
def text_of(value: Decimal) -> str:
    """Without an exponent and without zeros at the end."""
    return f"{value.normalize():f}" if value else "0"


@exact
def decimals_of(value: Decimal) -> int:
    """How many decimals a number has, zeros at the end not counted."""
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(-exponent, 0)


@exact
def from_units(units: int, decimals: int) -> Decimal:
    """Ticks or steps as the number they stand for."""
    return Decimal(units).scaleb(-decimals)
