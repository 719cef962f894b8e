"""One step of an order's life, and its end without a fill. The caller holds the account's lock."""

from __future__ import annotations

from apps.engine.orders import Event, Status, next_status
from apps.execution.models import Order, OrderEvent
from apps.portfolio.models import Account, Position
from apps.portfolio.services import exit_failed, release
from apps.risk.services import store_exposure


def step(order: Order, event: Event, *, detail: str = "", sequence: int | None = None) -> None:
    """Apply one event to the order, saved or not, and note it; `detail` is the reason it has now.

    Raises `StateError` for an event that its status cannot have.
    """
    after = next_status(Status(order.status), event)
    number = 1 if order._state.adding else order.events.count() + 1
    order.status = after.value
    order.reason = detail[:200]
    order.save()
    OrderEvent.objects.create(
        order=order,
        number=number,
        event=event.value,
        status=after.value,
        detail=detail[:200],
        sequence=sequence,
    )


def end_unfilled(*, account: Account, order: Order, event: Event, detail: str, retry_ms: int) -> None:
    """The order has ended with something left of it: give back what was promised, and let an exit be raised again.

    `retry_ms` is the event time before which the same order would fare no better. The caller saves the account.
    """
    account.sequence += 1
    step(order, event, detail=detail, sequence=account.sequence)
    release(client_order_id=order.client_order_id)
    position = order.intent.position
    if position is not None and position.status == Position.Status.OPEN:
        exit_failed(account=account, position=position, not_before_ms=retry_ms)
    store_exposure(account=account, symbol=order.instrument.symbol, price=order.limit_price)
