"""A venue that answers what a test tells it to, for what the paper venue never does: silence, rejection, parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from apps.engine.portfolio import Fill, Side
from apps.execution.venues.base import OrderRequest, Report, VenueFill, VenueStatus, VenueUnclear

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

    def submit(self, request: OrderRequest) -> Report:
        if self.keeps:
            self.received.append(request)
        self._answer()
        return self._report(request.client_order_id)

    def query(self, client_order_id: str) -> Report | None:
        self._answer()
        known = any(request.client_order_id == client_order_id for request in self.received)
        return self._report(client_order_id) if known else None

    def trades(self, _client_order_id: str) -> list[VenueFill]:
        self._answer()
        return list(self.fills)

    def fill(self, trade_id: str, side: str, quantity: str, price: str = "0.5", fee: str = "0.1") -> None:
        one = Fill(Side(side), Decimal(price), Decimal(quantity), Decimal(fee), "USDT", TS_FILL + len(self.fills))
        self.fills.append(VenueFill(trade_id, one))

    def _answer(self) -> None:
        if not self.answers:
            raise VenueUnclear("timed out after 5 s")

    def _report(self, client_order_id: str) -> Report:
        return Report(client_order_id, "v1", self.status, self.reason)
