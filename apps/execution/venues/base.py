"""What every venue can do, and nothing else of it is used."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from apps.engine.matching import Liquidity, TopOfBook
from apps.engine.portfolio import Fill, Side


class VenueUnclear(Exception):
    """No answer, or none that can be understood: the venue may or may not have done what was asked."""


class VenueStatus(StrEnum):
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"


WORKING = frozenset({VenueStatus.OPEN, VenueStatus.PARTIALLY_FILLED})


@dataclass(frozen=True, slots=True)
class Trigger:
    """Where on the stream the order comes from. The paper venue finds its quotes by it; real venues do not need it."""

    epoch_id: int
    shard: int
    entry_id: str
    ts_event: int
    quote: TopOfBook | None


@dataclass(frozen=True, slots=True)
class OrderRequest:
    client_order_id: str
    instrument_id: int
    symbol: str
    side: Side
    quantity: Decimal
    limit_price: Decimal
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Report:
    """What a venue says about one order. `retry_ms`: event time before which the same order would fare no better.

    `filled_quantity` (base units) is what the venue counts as executed so far; None if it does not say.
    """

    client_order_id: str
    venue_order_id: str
    status: VenueStatus
    reason: str = ""
    retry_ms: int | None = None
    filled_quantity: Decimal | None = None


@dataclass(frozen=True, slots=True)
class VenueFill:
    """`trade_id` is unique at its venue. `symbol` is the venue's word for what was traded; empty if it does not say."""

    trade_id: str
    fill: Fill
    liquidity: Liquidity = Liquidity.TAKER
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class VenueOrderView:
    """An order that works at the venue, whoever sent it. Quantities in base units, the price in quote per base."""

    client_order_id: str
    venue_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    filled_quantity: Decimal
    limit_price: Decimal


@dataclass(frozen=True, slots=True)
class Balance:
    """What the venue holds for us of one asset; `locked` of the `total` is promised to open orders."""

    total: Decimal
    locked: Decimal


class Venue(Protocol):
    """Submitting twice with one client_order_id gives one order. Every call may raise `VenueUnclear`."""

    @property
    def name(self) -> str: ...

    def submit(self, request: OrderRequest) -> Report: ...

    def cancel(self, client_order_id: str, *, at_ms: int | None = None) -> Report | None:
        """Ask to cancel. What the venue says of the order then, which may have been filled before; None if it never
        received it. Asking again is harmless. `at_ms`: the event time of what made us cancel, if it had one."""
        ...

    def query(self, client_order_id: str) -> Report | None:
        """The order as the venue knows it; None if it never received it."""
        ...

    def trades(self, client_order_id: str) -> list[VenueFill]:
        """All fills of the order so far, oldest first."""
        ...

    def open_orders(self) -> list[VenueOrderView]:
        """Every order of the account that works there, oldest first."""
        ...

    def balances(self) -> dict[str, Balance]:
        """By asset; assets of which there is nothing may be missing."""
        ...

    def fills_since(self, ts_ms: int) -> list[tuple[str, VenueFill]]:
        """(client_order_id, fill) of every fill of the account with an event time of at least `ts_ms`, oldest first."""
        ...
