"""What somebody has heard about orders makes us ask the venue; it is never believed itself."""

from __future__ import annotations

from apps.engine.orders import AT_VENUE, UNSETTLED
from apps.execution.models import Order
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx


def ring_order(*, account_id: int, client_order_id: str) -> bool:
    """Have the venue asked about an order of this account. False if nobody here sent it: reconciliation will tell."""
    order = Order.objects.filter(account_id=account_id, client_order_id=client_order_id)
    order_id = order.values_list("pk", flat=True).first()
    if order_id is None:
        return False
    retry_tx(lambda: record("ExecutionReported", order_id=order_id))
    return True


def ring_open_orders(*, account_id: int) -> int:
    """The same for every order that may work at the venue: nobody listened for a while. Returns how many."""
    working = [status.value for status in (*AT_VENUE, *UNSETTLED)]
    orders = Order.objects.filter(account_id=account_id, status__in=working).order_by("id")
    found = list(orders.values_list("pk", flat=True))
    for order_id in found:
        retry_tx(lambda one=order_id: record("ExecutionReported", order_id=one))  # type: ignore[misc]
    return len(found)
