"""What every venue can do, and nothing else of it is used."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from apps.engine.matching import TopOfBook
from apps.engine.portfolio import Fill, Side


class VenueUnclear(Exception):
    """No answer, or none that can be understood: the venue may or may not have done what was asked."""


class VenueStatus(StrEnum):
    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"


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
    """What a venue says about one order. `retry_ms`: event time before which the same order would fare no better."""

    client_order_id: str
    venue_order_id: str
    status: VenueStatus
    reason: str = ""
    retry_ms: int | None = None


@dataclass(frozen=True, slots=True)
class VenueFill:
    """`trade_id` is unique at its venue."""

    trade_id: str
    fill: Fill


class Venue(Protocol):
    """Submitting twice with one client_order_id gives one order. Every call may raise `VenueUnclear`."""

    @property
    def name(self) -> str: ...

    def submit(self, request: OrderRequest) -> Report: ...

    def query(self, client_order_id: str) -> Report | None:
        """The order as the venue knows it; None if it never received it."""
        ...

    def trades(self, client_order_id: str) -> list[VenueFill]:
        """All fills of the order so far, oldest first."""
        ...
