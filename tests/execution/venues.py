"""A venue that answers what a test tells it to, for what the paper venue never does: silence, rejection, parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from apps.engine.portfolio import Fill, Side
from apps.execution.venues.base import (
    WORKING,
    Balance,
    OrderRequest,
    Report,
    VenueFill,
    VenueOrderView,
    VenueStatus,
    VenueUnclear,
)

TS_FILL = 1_700_000_200_000


@dataclass
class ScriptedVenue:
    """`answers`: whether it answers at all. `keeps`: whether a request that is not answered has arrived."""

    name: str = "scripted"
    answers: bool = True
    keeps: bool = True
    status: VenueStatus = VenueStatus.OPEN
    reason: str = ""
    fills: list[VenueFill] = field(default_factory=list)
    received: list[OrderRequest] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    held: dict[str, Balance] = field(default_factory=dict)

    def submit(self, request: OrderRequest) -> Report:
        if self.keeps:
            self.received.append(request)
        self._answer()
        return self._report(request.client_order_id)

    def query(self, client_order_id: str) -> Report | None:
        self._answer()
        return self._report(client_order_id) if self._has(client_order_id) else None

    def trades(self, _client_order_id: str) -> list[VenueFill]:
        self._answer()
        return list(self.fills)

    def cancel(self, client_order_id: str, *, at_ms: int | None = None) -> Report | None:  # noqa: ARG002
        """What works is canceled, whether or not the answer arrives."""
        if self.status in WORKING and self._has(client_order_id):
            self.canceled.append(client_order_id)
            self.status = VenueStatus.CANCELED
        return self.query(client_order_id)

    def open_orders(self) -> list[VenueOrderView]:
        self._answer()
        if self.status not in WORKING:
            return []
        filled = sum((one.fill.quantity for one in self.fills), Decimal(0))
        return [
            VenueOrderView(one.client_order_id, "v1", one.symbol, one.side, one.quantity, filled, one.limit_price)
            for one in self.received
        ]

    def balances(self) -> dict[str, Balance]:
        self._answer()
        return dict(self.held)

    def fills_since(self, ts_ms: int) -> list[tuple[str, VenueFill]]:
        self._answer()
        owner = self.received[-1].client_order_id if self.received else ""
        return [(owner, one) for one in self.fills if one.fill.ts_event >= ts_ms]

    def fill(self, trade_id: str, side: str, quantity: str, price: str = "0.5", fee: str = "0.1") -> None:
        one = Fill(Side(side), Decimal(price), Decimal(quantity), Decimal(fee), "USDT", TS_FILL + len(self.fills))
        self.fills.append(VenueFill(trade_id, one))

    def _has(self, client_order_id: str) -> bool:
        return any(request.client_order_id == client_order_id for request in self.received)

    def _answer(self) -> None:
        if not self.answers:
            raise VenueUnclear("timed out after 5 s")

    def _report(self, client_order_id: str) -> Report:
        return Report(client_order_id, "v1", self.status, self.reason)
