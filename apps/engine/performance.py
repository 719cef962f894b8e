"""How well it went: figures over closed round trips and an equity curve."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One position from its first entry fill to the fill that closed it. Money in quote currency, times in event ms.

    `net` is what the account gained: `gross - fees`. `entry_notional` and `exit_notional` are sums over all fills of
    their side, price x quantity. `reason` says why it was closed.
    """

    symbol: str
    reason: str
    opened_ts_event: int
    closed_ts_event: int
    entry_notional: Decimal
    exit_notional: Decimal
    gross: Decimal
    fees: Decimal
    net: Decimal
