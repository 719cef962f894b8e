"""What an account is worth at many closes at once: the sums of `worth`, in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from apps.engine.money import MONEY_STEP, exact, notional, total

_PLACES_MAX: Final = -int(MONEY_STEP.as_tuple().exponent)  # of a product that the ledger keeps without rounding


class Valued(NamedTuple):
    """A holding and its symbol's closes, in ticks."""

    quantity: Decimal
    price_decimals: int
    closes: Sequence[int]

    @property
    def places(self) -> int:
        """Decimals of quantity times price."""
        exponent = self.quantity.as_tuple().exponent
        assert isinstance(exponent, int), "neither infinite nor no number"
        return max(self.price_decimals - exponent, 0)


@exact
def equity_at(cash: Decimal, holdings: Sequence[Valued]) -> list[Decimal]:
    """Cash and at least one holding, at each of the closes; all holdings have as many. Equal to adding `notional`s."""
    places = max(row.places for row in holdings)
    if places > _PLACES_MAX:
        return [total([cash, *values]) for values in zip(*(_notionals(row) for row in holdings), strict=True)]
    columns = []
    for row in holdings:
        ticks_worth = int(row.quantity.scaleb(places - row.price_decimals))
        columns.append([ticks_worth * close for close in row.closes])
    return [cash + Decimal(sum(values)).scaleb(-places) for values in zip(*columns, strict=True)]


def _notionals(row: Valued) -> list[Decimal]:
    return [notional(row.quantity, Decimal(close).scaleb(-row.price_decimals)) for close in row.closes]
