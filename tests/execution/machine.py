"""A venue in memory that does what it is told with many orders, and what our books must say of each of them.

The reference keeps, per order, what the venue did and what we were told of it; the status that follows is written out
here once more, without the state table.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal

from apps.engine.portfolio import Fill, Side
from apps.execution.venues.base import (
    Balance,
    OrderRequest,
    Report,
    VenueFill,
    VenueOrderView,
    VenueStatus,
    VenueUnclear,
)

D = Decimal
NEVER_RECEIVED_MS = 5_000
ENDED = frozenset({"DENIED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"})
ENDINGS = {VenueStatus.CANCELED: "CANCELED", VenueStatus.EXPIRED: "EXPIRED", VenueStatus.REJECTED: "REJECTED"}
SYMBOLS = ("XRPUSDT", "ADAUSDT")


@dataclass
class AtVenue:
    """One order in the venue's own book."""

    request: OrderRequest
    status: VenueStatus = VenueStatus.OPEN
    fills: list[VenueFill] = field(default_factory=list)

    @property
    def filled(self) -> Decimal:
        return sum((one.fill.quantity for one in self.fills), D(0))

    @property
    def left(self) -> Decimal:
        return self.request.quantity - self.filled

    @property
    def working(self) -> bool:
        return self.status is VenueStatus.OPEN and self.left > 0


@dataclass
class DeskVenue:
    """Answers for many orders. `how` is what becomes of the next request: clear, rejected, lost, unanswered, late."""

    name: str = "desk"
    how: str = "clear"
    silent: bool = False
    doubled: bool = False
    distorted: str = ""
    book: dict[str, AtVenue] = field(default_factory=dict)
    on_its_way: dict[str, OrderRequest] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    trade_ids: int = 0

    def submit(self, request: OrderRequest) -> Report:
        name = request.client_order_id
        self.requests[name] = self.requests.get(name, 0) + 1
        if self.how == "late":
            self.on_its_way[name] = request
        elif self.how != "lost":
            self.book[name] = AtVenue(request, VenueStatus.REJECTED if self.how == "rejected" else VenueStatus.OPEN)
        if self.how in ("lost", "unanswered", "late"):
            raise VenueUnclear("no answer within 5 s")
        return self._report(name)

    def cancel(self, client_order_id: str, *, at_ms: int | None = None) -> Report | None:  # noqa: ARG002
        order = self.book.get(client_order_id)
        if order is not None and order.working:
            order.status = VenueStatus.CANCELED  # done, even if the answer is lost
        return self.query(client_order_id)

    def query(self, client_order_id: str) -> Report | None:
        self._answer()
        return self._report(client_order_id) if client_order_id in self.book else None

    def trades(self, client_order_id: str) -> list[VenueFill]:
        self._answer()
        order = self.book.get(client_order_id)
        fills = list(order.fills) if order else []
        if self.distorted and fills:
            fills.append(self._distorted(fills[-1]))
        return list(reversed(fills * (2 if self.doubled else 1)))

    def open_orders(self) -> list[VenueOrderView]:
        self._answer()
        return []

    def balances(self) -> dict[str, Balance]:
        self._answer()
        return {}

    def fills_since(self, ts_ms: int) -> list[tuple[str, VenueFill]]:
        self._answer()
        pairs = [(name, one) for name, order in self.book.items() for one in order.fills]
        return [pair for pair in pairs if pair[1].fill.ts_event >= ts_ms]

    # --- what a rule does to it ---------------------------------------------------------------------------------------

    def arrive(self, client_order_id: str) -> None:
        request = self.on_its_way.pop(client_order_id)
        self.book[client_order_id] = AtVenue(request)

    def stranger(self, client_order_id: str) -> VenueFill:
        """A fill of an order that is not in its book; told again it is the same."""
        return VenueFill(
            f"{client_order_id}-1",
            Fill(Side.BUY, D("0.5"), D(10), D("0.01"), "USDT", 1_800_000_000_000),
            symbol=SYMBOLS[0],
        )

    def fill(self, client_order_id: str, quantity: Decimal, price: Decimal, coin: str = "USDT") -> VenueFill:
        order = self.book[client_order_id]
        self.trade_ids += 1
        request = order.request
        fee = (quantity * price / 1000).quantize(D("1e-8"))
        ts_event = request.trigger.ts_event + 100 + self.trade_ids
        one = VenueFill(
            f"{request.client_order_id}-{self.trade_ids}",
            Fill(request.side, price, quantity, fee, coin, ts_event),
            symbol=request.symbol,
        )
        order.fills.append(one)
        return one

    def _distorted(self, one: VenueFill) -> VenueFill:
        fake = replace(one, trade_id=f"{one.trade_id}-{self.distorted}")
        if self.distorted == "symbol":
            return replace(fake, symbol="BTCUSDT")
        if self.distorted == "price":
            return replace(fake, fill=replace(one.fill, price=one.fill.price * 100))
        return replace(fake, fill=replace(one.fill, quantity=one.fill.quantity * 1_000_000))

    def _answer(self) -> None:
        if self.silent:
            raise VenueUnclear("no answer within 5 s")

    def _report(self, name: str) -> Report:
        order = self.book[name]
        status = VenueStatus.FILLED if order.left == 0 else order.status
        return Report(name, f"v-{name}", status, filled_quantity=order.filled)


@dataclass
class Expected:
    """What our books must say of one order."""

    client_order_id: str
    intent_id: int
    symbol: str
    reducing: bool
    quantity: Decimal
    limit_price: Decimal
    ts_event: int
    position_id: int | None
    created_ms: int
    status: str = "WAITING"  # approved, and no order was made of it yet
    booked: dict[str, VenueFill] = field(default_factory=dict)
    missing_ms: int | None = None
    cancel_asked: bool = False

    @property
    def filled(self) -> Decimal:
        return sum((one.fill.quantity for one in self.booked.values()), D(0))

    @property
    def paid(self) -> Decimal:
        """What it has cost in cash, fees in it included; below zero for a sale."""
        sign = -1 if self.reducing else 1
        fills = [one.fill for one in self.booked.values()]
        fees = sum((fill.fee for fill in fills if fill.fee_currency == "USDT"), D(0))
        return sum((sign * fill.quantity * fill.price for fill in fills), fees)

    @property
    def alive(self) -> bool:
        return self.status not in ENDED and self.status != "WAITING"

    def told(self, venue: DeskVenue, now_ms: int) -> Decimal:
        """A clear answer was booked. Returns what it bought that nothing was promised to any more, quote currency."""
        at_venue = venue.book.get(self.client_order_id)
        if at_venue is None:
            self._no_trace(now_ms)
            return D(0)
        ended = self.status in ENDED
        late = D(0)
        for one in at_venue.fills:
            if one.trade_id not in self.booked:
                self.booked[one.trade_id] = one
                late += one.fill.quantity * one.fill.price if ended and not self.reducing else D(0)
        if self.filled == self.quantity:
            self.status = "FILLED"
        elif not ended:
            working = "PARTIALLY_FILLED" if self.booked else "ACCEPTED"
            self.status = ENDINGS.get(at_venue.status, working)
            self.missing_ms = None
        return late

    def _no_trace(self, now_ms: int) -> None:
        if self.status in ENDED:
            return
        if self.missing_ms is None:
            self.status, self.missing_ms = "UNKNOWN", now_ms
        elif now_ms - self.missing_ms >= NEVER_RECEIVED_MS:
            self.status = "EXPIRED"


def side_of(expected: Expected) -> Side:
    return Side.SELL if expected.reducing else Side.BUY
