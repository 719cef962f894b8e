"""Asking a venue about an order: the only way out of UNKNOWN. Nothing is ever sent a second time.

What is reserved for an order that nobody can tell about stays reserved until somebody can.
"""

from __future__ import annotations

import logging
from typing import Final

from apps.engine import timeouts
from apps.engine.orders import AT_VENUE, ENDED, Event, Status
from apps.execution.models import Order
from apps.execution.selectors import venue_of
from apps.execution.services.clock import moment
from apps.execution.services.steps import end_unfilled, step
from apps.execution.services.syncing import apply_report, locked, lose
from apps.execution.venues.base import WORKING, Venue, VenueUnclear
from apps.market.selectors import reached_ms
from apps.outbox.transactions import retry_tx
from apps.portfolio.services import save_account

log = logging.getLogger(__name__)

SYSTEM: Final = "system"


def sync_order(*, order_id: int, venue: Venue | None = None, now_ms: int | None = None) -> None:
    """Ask the venue (the session's unless given) about an order and book its answer.

    What rests too long, or is to be canceled, is asked for with a cancel. `now_ms` is the wall clock; without it the
    database's. Without an answer nothing is decided; the sweep asks again.
    """
    order = Order.objects.select_related("account__session").get(pk=order_id)
    status = Status(order.status)
    if status is Status.INITIALIZED or status is Status.DENIED:
        return
    venue = venue or venue_of(order.account.session)
    canceling = status not in ENDED and order.cancel_asked_at is not None
    try:
        report = None if canceling else venue.query(order.client_order_id)
        if canceling or (report is not None and report.status in WORKING and _overdue(order, now_ms)):
            report = venue.cancel(order.client_order_id, at_ms=order.cancel_ts)
        fills = venue.trades(order.client_order_id)
    except VenueUnclear as error:
        log.warning("order %s: no clear answer from %s: %s", order.client_order_id, venue.name, error)
        lose(order_id=order_id, words=str(error), now_ms=now_ms)
        return
    apply_report(order_id=order_id, report=report, fills=fills, now_ms=now_ms)


def _overdue(order: Order, now_ms: int | None) -> bool:
    """Whether it has rested longer than an order may, in event time; then its cancel is asked for from now on.

    An exit that is canceled so is raised again by the drain, at the price of then.
    """
    if Status(order.status) not in AT_VENUE:
        return False
    reached = reached_ms(epoch_id=order.account.session.epoch_id)
    if reached is None or reached - order.ts_event <= timeouts.ORDER_REST_MS:
        return False
    note_cancel(
        order_id=order.pk, by=SYSTEM, reason=f"it rested longer than {timeouts.ORDER_REST_MS // 1000} s", now_ms=now_ms
    )
    return True


def note_cancel(*, order_id: int, by: str, reason: str, at_ms: int | None = None, now_ms: int | None = None) -> Status:
    """Write down that an order is to be canceled; one that was never sent ends here. Returns its status before.

    Nothing changes for one that has ended or whose cancel was asked for before. `at_ms`: event time of the cause.
    """
    now = moment(now_ms)

    def note() -> Status:
        account, order = locked(order_id)
        before = Status(order.status)
        words = f"{by}: {reason}"
        if before is Status.INITIALIZED:
            end_unfilled(account=account, order=order, event=Event.CANCEL, detail=words, retry_ms=order.ts_event + 1)
            save_account(account)
        elif before not in ENDED and order.cancel_asked_at is None:
            order.cancel_asked_at, order.cancel_ts = now, at_ms
            step(order, Event.ASK_CANCEL, detail=words)
        return before

    return retry_tx(note)
