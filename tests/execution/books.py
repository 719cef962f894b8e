"""What must be true of an account's books after every step, whatever a venue has done."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.db.models import Sum

from apps.engine.desk.book import MarkSet
from apps.engine.money import to_money
from apps.engine.orders import ENDED
from apps.execution.models import Order, VenueOrder
from apps.portfolio.models import Account, LedgerEntry, Position, Reservation
from apps.portfolio.selectors import read_book
from apps.risk.models import RiskDecision, RiskState
from tests.worlds import World


def books_agree(world: World) -> None:
    """I5, I6 and I7 of this account, and that reservations are held exactly as long as orders have not ended."""
    account = Account.objects.get(pk=world.account.pk)
    legs = LedgerEntry.objects.filter(account=account)
    for row in legs.values("reference", "currency").annotate(sum=Sum("amount")):
        assert row["sum"] == 0, row
    assert legs.filter(kind="cash").aggregate(sum=Sum("amount"))["sum"] == account.cash
    _positions(account)
    _orders(account)
    state, book = RiskState.objects.get(account=account), read_book(account.pk)
    assert state.exposure == to_money(book.exposure(MarkSet.from_json(state.marks).prices))


def _positions(account: Account) -> None:
    for position in Position.objects.filter(account=account).prefetch_related("trades"):
        signed = sum(
            (row.quantity if row.side == "BUY" else -row.quantity for row in position.trades.all()), Decimal(0)
        )
        assert position.quantity == signed >= 0
        assert (position.status == Position.Status.OPEN) is bool(position.quantity)


def _orders(account: Account) -> None:
    ended = {status.value for status in ENDED}
    active = set(Reservation.objects.filter(account=account, active=True).values_list("client_order_id", flat=True))
    orders = Order.objects.filter(account=account).select_related("intent__decision").prefetch_related("trades")
    at_venue: dict[str, list[datetime]] = {}
    names = orders.values_list("client_order_id", flat=True)
    for name, received in VenueOrder.objects.filter(client_order_id__in=names).values_list(
        "client_order_id", "received_at"
    ):
        at_venue.setdefault(name, []).append(received)
    for order in orders:
        filled = sum((row.quantity for row in order.trades.all()), Decimal(0))
        assert order.filled_qty == filled == order.quantity - order.leaves_qty
        assert (order.client_order_id in active) is (order.status not in ended), order
        decision, received_at = order.intent.decision, at_venue.get(order.client_order_id, [])
        assert decision.verdict == RiskDecision.Verdict.APPROVED
        assert len(received_at) <= 1
        assert all(moment >= decision.decided_at for moment in received_at)
