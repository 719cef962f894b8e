"""Numbers as people read them. Nothing here goes through a float, and an unknown number is never shown as 0."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

NARROW_SPACE: Final = "\u202f"
MINUS: Final = "\u2212"
UNKNOWN: Final = "—"

_WIDE: Final = Context(prec=80)


def plain(value: Decimal) -> str:
    """The shortest exact text of a decimal, for machines: no exponent, no grouping."""
    if not value:
        return "0"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact(value: Decimal | None, *, decimals: int = 0, signed: bool = False) -> str:
    """Every digit that is stored, at least `decimals` of them after the point, thousands set apart.

    `signed` puts a plus before a gain: for results and changes, never for balances. Zero has no sign.
    """
    if value is None:
        return UNKNOWN
    whole, _, fraction = plain(value.copy_abs()).partition(".")
    fraction = fraction.ljust(decimals, "0")
    text = f"{int(whole):,}".replace(",", NARROW_SPACE) + (f".{fraction}" if fraction else "")
    return _sign(value, signed) + text


def rounded(value: Decimal | None, decimals: int, *, signed: bool = False) -> str:
    """Rounded half to even. A value that is not zero but would read as zero is shown as `< 0.01` instead."""
    if value is None:
        return UNKNOWN
    step = Decimal(1).scaleb(-decimals)
    result = value.quantize(step, rounding=ROUND_HALF_EVEN, context=_WIDE)
    if value and not result:
        return f"<{NARROW_SPACE}{step:f}"
    return exact(result, decimals=decimals, signed=signed)


def percent(fraction: Decimal | None, decimals: int = 1, *, signed: bool = False) -> str:
    """A fraction as percent: 0.0321 is `3.2 %`."""
    if fraction is None:
        return UNKNOWN
    return f"{rounded(fraction.scaleb(2, _WIDE), decimals, signed=signed)}{NARROW_SPACE}%"


def count(number: int | None) -> str:
    """A whole number with its thousands set apart."""
    return UNKNOWN if number is None else exact(Decimal(number))


def amount(value: Decimal | None, currency: str, *, decimals: int = 2, signed: bool = False) -> str:
    """Money in a summary: rounded, with its currency."""
    text = rounded(value, decimals, signed=signed)
    return text if value is None else f"{text}{NARROW_SPACE}{currency}"


def _sign(value: Decimal, signed: bool) -> str:
    if value < 0:
        return MINUS
    return "+" if signed and value > 0 else ""
