"""Decimal text to whole units, by string arithmetic: no float ever sees a price."""

from __future__ import annotations

from typing import Final

INT64_MAX: Final = 2**63 - 1
_DIGITS_MAX: Final = 40
_KNOWN_MAX: Final = 20_000  # texts per number of decimals, for all symbols together: two or three megabytes


class BadNumber(ValueError):
    """The text is not a number we take; `reason` is a word for counters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def to_units(text: str, decimals: int) -> int:
    """`text` in units of 10^-decimals, 1 .. 2^63-1.

    Only digits with at most one point between digits: no sign, exponent, comma, blank, inf or nan. Zeros behind the
    last allowed decimal change nothing and are accepted; any other digit there is refused.
    """
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if not digits.isdigit() or not digits.isascii() or len(digits) > _DIGITS_MAX:
        raise BadNumber("not_decimal")
    if point and not (whole and fraction):
        raise BadNumber("not_decimal")
    surplus = len(fraction) - decimals
    if surplus > 0:
        if fraction[decimals:].strip("0"):
            raise BadNumber("too_many_decimals")
        units = int(whole + fraction[:decimals])
    else:
        units = int(digits) * 10**-surplus
    if units == 0:
        raise BadNumber("not_positive")
    if units > INT64_MAX:
        raise BadNumber("too_large")
    return units


class KnownUnits(dict[str, int]):
    """`to_units` for one number of decimals that remembers its answers: prices come again and again.

    `known[text]` raises `BadNumber`; a refused text is not remembered. Starts anew when it is full.
    """

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self._decimals = decimals

    def __missing__(self, text: str) -> int:
        units = to_units(text, self._decimals)
        if len(self) >= _KNOWN_MAX:
            self.clear()
        self[text] = units
        return units


_known: Final[dict[int, KnownUnits]] = {}


def known_units(decimals: int) -> KnownUnits:
    """The memory for this number of decimals. For one thread."""
    known = _known.get(decimals)
    if known is None:
        known = _known[decimals] = KnownUnits(decimals)
    return known
