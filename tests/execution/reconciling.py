"""One account at one scripted venue, and a clock, for tests of reconciliation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from apps.engine import timeouts
from apps.engine.portfolio import Side
from apps.execution.models import Order, ReconcileDifference, ReconcileRun
from apps.execution.services import submit_order, sync_order
from apps.execution.services.reconciling import Bounds, approve, dismiss, reconcile
from apps.execution.venues.base import Balance, VenueOrderView, VenueStatus
from tests.execution.venues import ScriptedVenue
from tests.worlds import World, fresh, open_world

D = Decimal
ORDERS, FULL, ALL = ReconcileRun.Scope.ORDERS, ReconcileRun.Scope.FULL, ReconcileRun.Scope.ALL
WIDE, NARROW = Bounds(book=D(5_000), balance=D(10)), Bounds(book=D(0), balance=D(0))
IN_FLIGHT_MS = timeouts.RECONCILE_IN_FLIGHT_MS


@dataclass
class Desk:
    """One account at one scripted venue, and a wall clock that only moves when it is told to."""

    world: World = field(default_factory=open_world)
    venue: ScriptedVenue = field(default_factory=ScriptedVenue)
    bounds: Bounds = NARROW
    now_ms: int = 0

    def __post_init__(self) -> None:
        self.venue.held = {"USDT": Balance(D(100_000), D(0))}
        self.now_ms = int(self.world.session.started_at.timestamp() * 1000)

    def order(self) -> Order:
        """A buy of 4 000 at 0.51 or better that works at the venue."""
        intent = self.world.approved(self.world.entry_signal())
        now_ms = int(intent.created_at.timestamp() * 1000)
        submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=self.venue)
        order = Order.objects.get(intent=intent)
        self.now_ms = int(order.updated_at.timestamp() * 1000) + IN_FLIGHT_MS + 1
        return order

    def run(self, scope: str = FULL, *, after_ms: int = IN_FLIGHT_MS) -> ReconcileRun:
        self.now_ms += after_ms
        return reconcile(
            account_id=self.world.account.pk,
            scope=scope,
            clock=lambda: self.now_ms,
            bounds=self.bounds,
            venue=self.venue,
        )

    def twice(self, scope: str = FULL) -> ReconcileRun:
        """What is seen at two looks is a difference."""
        self.run(scope)
        return self.run(scope)

    def filled(self) -> Order:
        """An order of which both sides know that it was filled, at 0.5 with a fee of 0.1."""
        order = self.order()
        self.venue.fill("t1", "BUY", "4000")
        self.venue.status = VenueStatus.FILLED
        sync_order(order_id=order.pk, venue=self.venue)
        self.now_ms += IN_FLIGHT_MS
        self.venue.held = {"USDT": Balance(D("97999.9"), D(0)), "XRP": Balance(D(4_000), D(0))}
        return order

    def approve(self, pk: int, *, by: str, reason: str) -> None:
        now = datetime.fromtimestamp(self.now_ms / 1000, UTC)
        approve(difference_id=pk, by=by, reason=reason, now=now, venue=self.venue)

    def dismiss(self, pk: int, *, by: str, reason: str) -> None:
        dismiss(difference_id=pk, by=by, reason=reason, now=datetime.fromtimestamp(self.now_ms / 1000, UTC))

    @property
    def state(self) -> str:
        return self.world.state.trading_state


def only() -> ReconcileDifference:
    return ReconcileDifference.objects.get()


def stranger(desk: Desk, _order: Order) -> None:
    desk.venue.open_orders = lambda: [  # type: ignore[method-assign]
        VenueOrderView("x-1", "v9", "XRPUSDT", Side.BUY, D(100), D(0), D("0.5"))
    ]


def wrong_side(desk: Desk, _order: Order) -> None:
    desk.venue.fill("t1", "SELL", "1000")
