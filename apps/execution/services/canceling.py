"""Taking orders back: asked for by a person or by a rule, written down first, and done when the venue says so."""

from __future__ import annotations

import logging
from typing import Final

from apps.alerts.services import in_a_line
from apps.engine import timeouts
from apps.engine.orders import AT_VENUE, ENDED, UNSETTLED, Status
from apps.execution.models import Order
from apps.execution.services.asking import SYSTEM, note_cancel, sync_order
from apps.execution.venues.base import Venue
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.risk.models import OrderIntent
from apps.risk.scopes import effective_state, forbids

log = logging.getLogger(__name__)

PERSON_MAX: Final = 150
REASON_MAX: Final = 200


class CancelRefused(ValueError):
    """An order that cannot be canceled as asked; one line for whoever asked."""


def cancel_order(
    *,
    order_id: int,
    reason: str,
    by: str,
    at_ms: int | None = None,
    venue: Venue | None = None,
    now_ms: int | None = None,
) -> Order:
    """Ask the venue to cancel and book what it says: a fill may have been faster. The order as it is then.

    Raises `CancelRefused` for an order that does not exist or has ended, or without a name or a reason.
    """
    _ask(order_id, reason, by, at_ms, now_ms)
    sync_order(order_id=order_id, venue=venue, now_ms=now_ms)
    return Order.objects.get(pk=order_id)


def request_cancel(*, order_id: int, reason: str, by: str, now_ms: int | None = None) -> Order:
    """The same for a process that speaks to no venue: the worker that does is told to. Raises `CancelRefused`."""
    _ask(order_id, reason, by, None, now_ms)
    retry_tx(lambda: record("ExecutionReported", order_id=order_id))
    return Order.objects.get(pk=order_id)


def _ask(order_id: int, reason: str, by: str, at_ms: int | None, now_ms: int | None) -> None:
    by, reason = in_a_line(by), in_a_line(reason)
    if not by or len(by) > PERSON_MAX:
        raise CancelRefused(f"say who cancels it, in 1 to {PERSON_MAX} characters")
    if not reason or len(reason) > REASON_MAX:
        raise CancelRefused(f"say why, in 1 to {REASON_MAX} characters")
    if not Order.objects.filter(pk=order_id).exists():
        raise CancelRefused(f"there is no order {order_id}")
    before = note_cancel(order_id=order_id, by=by, reason=reason, at_ms=at_ms, now_ms=now_ms)
    if before in ENDED:
        raise CancelRefused(f"order {order_id} is {before} already")


def withdraw_entries(*, now_ms: int | None = None) -> list[int]:
    """Entries that a venue works, or may have, while the trading state opens nothing any more: their cancel is noted.

    A halt keeps orders from leaving; what had left before would go on opening. Exits at work are left alone: they
    reduce. Returns the orders to be asked about; each is noted once, and asked about again by the sweep.
    """
    rows = Order.objects.filter(
        reducing=False, cancel_asked_at=None, status__in=[status.value for status in (Status.UNKNOWN, *AT_VENUE)]
    ).order_by("id")
    withdrawn = []
    for order in rows.select_related("instrument", "intent__decision__signal__strategy_version__strategy"):
        strategy = order.intent.decision.signal.strategy_version.strategy.name
        state, since = effective_state(order.account_id, strategy, order.instrument.symbol)
        words = forbids(state, since, reducing=False)
        if words and note_cancel(order_id=order.pk, by=SYSTEM, reason=words, now_ms=now_ms) not in ENDED:
            withdrawn.append(order.pk)
    return withdrawn


def replace_opposite(*, intent: OrderIntent, venue: Venue, now_ms: int | None = None) -> int:
    """An exit is about to be sent: entries of ours that rest in its symbol are canceled first, so that we never trade
    with ourselves. Returns how many were asked for.

    The exit does not wait for a clear answer: what is held needs it. Entries younger than `ORDER_FLIGHT_MS` are not
    resting but on their way to their fill.
    """
    rows = Order.objects.filter(
        account_id=intent.account_id,
        instrument_id=intent.instrument_id,
        reducing=False,
        status__in=[status.value for status in (*UNSETTLED, *AT_VENUE)],
        ts_event__lte=intent.ts_event - timeouts.ORDER_FLIGHT_MS,
    )
    found = list(rows.order_by("id").values_list("pk", flat=True))
    for order_id in found:
        words = f"exit {intent.client_order_id} replaces it"
        note_cancel(order_id=order_id, by=SYSTEM, reason=words, at_ms=intent.ts_event, now_ms=now_ms)
        sync_order(order_id=order_id, venue=venue, now_ms=now_ms)
    return len(found)
