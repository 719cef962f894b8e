"""What the steward calls: whatever a lost message or a dead process has left behind is brought up again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db.models import Exists, OuterRef, Q

from apps.alerts.models import Alert
from apps.alerts.services import raise_alert
from apps.engine import timeouts
from apps.engine.orders import AT_VENUE, UNSETTLED
from apps.execution.models import Order, OrderStatus, VenueOrder
from apps.execution.services.canceling import withdraw_entries
from apps.outbox.services import BROKER_ERRORS, Payload, Sender, ring
from apps.risk.models import OrderIntent

log = logging.getLogger(__name__)

ORDER_OLDER_THAN_MS: Final = 5_000
INTENT_OLDER_THAN_MS: Final = 1_000


def settle_stuck(*, now_ms: int, sender: Sender = ring) -> int:
    """Ring for every intent, order and paper order that should have moved on by now, and for entries that are to be
    taken back because nothing may be opened any more. Returns how often it rang.

    The steward sends no order and books no fill itself: it wakes the worker that does.
    """
    _alert_unclear(datetime.fromtimestamp(now_ms / 1000, UTC))
    rung = 0
    for event_type, payload in _stuck(now_ms):
        try:
            sender(event_type, payload)
        except BROKER_ERRORS as error:
            log.warning("stuck orders wait for the broker: %s", error)
            return rung
        rung += 1
    return rung


def _stuck(now_ms: int) -> Iterator[tuple[str, Payload]]:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    orders = Order.objects.filter(updated_at__lt=now - timedelta(milliseconds=ORDER_OLDER_THAN_MS)).order_by("id")
    held = orders.filter(status=OrderStatus.INITIALIZED)
    for intent_id in [*_unsent_intents(now), *held.values_list("intent_id", flat=True)]:
        yield "IntentApproved", {"intent_id": intent_id}
    withdrawn = withdraw_entries(now_ms=now_ms)
    for order_id in [*withdrawn, *(other for other in _due(now) if other not in withdrawn)]:
        yield "ExecutionReported", {"order_id": order_id}
    shards = VenueOrder.objects.filter(status=VenueOrder.Status.OPEN).values_list("epoch_id", "shard").distinct()
    for epoch, shard in shards.order_by("epoch_id", "shard"):
        yield "WatermarkAdvanced", {"epoch": epoch, "shard": shard}


def _due(now: datetime) -> list[int]:
    """Orders to ask about: when the pause after an unclear answer is over, else when nothing was heard for a while."""
    quiet = Q(ask_at=None, updated_at__lt=now - timedelta(milliseconds=ORDER_OLDER_THAN_MS))
    asked = [status.value for status in (*UNSETTLED, *AT_VENUE)]
    waiting = Order.objects.filter(Q(ask_at__lte=now) | quiet, status__in=asked)
    return list(waiting.order_by("id").values_list("pk", flat=True))


def _alert_unclear(now: datetime) -> None:
    """Say once of every order that nobody could settle for a while. What was reserved for it stays so."""
    before = now - timedelta(seconds=timeouts.ORDER_UNKNOWN_ALERT_SECONDS)
    unclear = Q(unclear_since__lt=before) | Q(status=OrderStatus.SUBMITTING, updated_at__lt=before)
    said = Alert.objects.filter(
        kind=Alert.Kind.ORDER_UNKNOWN, subject=OuterRef("client_order_id"), acknowledged_at=None
    )
    working = [status.value for status in (*UNSETTLED, *AT_VENUE)]
    rows = Order.objects.filter(unclear, ~Exists(said), status__in=working).select_related("account", "instrument")
    for order in rows.order_by("id"):
        raise_alert(
            kind=Alert.Kind.ORDER_UNKNOWN,
            severity=Alert.Severity.CRITICAL,
            subject=order.client_order_id,
            words=f"order in {order.status}: {order}; {order.venue} gives no clear answer after {order.asks} questions",
            session_id=order.account.session_id,
        )


def _unsent_intents(now: datetime) -> list[int]:
    """Approved intents that no order was made of."""
    before = now - timedelta(milliseconds=INTENT_OLDER_THAN_MS)
    waiting = OrderIntent.objects.filter(order__isnull=True, created_at__lt=before)
    return list(waiting.order_by("id").values_list("pk", flat=True))
