"""Booking what a venue says about an order: fills, positions, money, reservation and order in one transaction, once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from apps.alerts.models import Alert
from apps.alerts.services import settle
from apps.bus.streams import shard_of
from apps.engine import timeouts
from apps.engine.orders import ENDED, TABLE, UNSETTLED, Event, Status
from apps.engine.risk.words import plain
from apps.execution.models import Order, OrderAnomaly
from apps.execution.services.anomalies import note_anomaly, payload_of
from apps.execution.services.clock import moment
from apps.execution.services.filling import take_fills
from apps.execution.services.steps import end_unfilled, step
from apps.execution.venues.base import WORKING, Report, VenueFill, VenueStatus
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account
from apps.portfolio.services import lock_account, save_account

log = logging.getLogger(__name__)

SYSTEM: Final = "system"
NEVER_RECEIVED: Final = timedelta(seconds=timeouts.ORDER_NEVER_RECEIVED_SECONDS)
_ENDINGS: Final = {
    VenueStatus.CANCELED: Event.CANCEL,
    VenueStatus.REJECTED: Event.REJECT,
    VenueStatus.EXPIRED: Event.EXPIRE,
}
Kind = OrderAnomaly.Kind


def apply_report(
    *, order_id: int, report: Report | None, fills: Sequence[VenueFill], now_ms: int | None = None
) -> None:
    """Book what a venue reports. `None` says that it has no such order. Safe to repeat, in any order.

    `now_ms` is the wall clock; without it the database's.
    """
    now = moment(now_ms) if report is None else None

    def book() -> None:
        account, order = locked(order_id)
        before = account.sequence
        take_fills(account, order, fills)
        if now is not None:
            _missing(account, order, now)
        elif report is not None:
            _follow(account, order, report)
        if account.sequence != before:
            save_account(account)

    retry_tx(book)


def book_fills(*, account_id: int, venue: str, fills: Sequence[tuple[str, VenueFill]]) -> int:
    """Book (client_order_id, fill) pairs that a venue lists for an account; what nobody here sent is an anomaly.

    Safe to repeat, in any order. Returns how many were booked.
    """
    by_order: dict[str, list[VenueFill]] = {}
    for client_order_id, fill in fills:
        by_order.setdefault(client_order_id, []).append(fill)
    return sum(_book_fills_of(account_id, venue, name, its) for name, its in by_order.items())


def _book_fills_of(account_id: int, venue: str, client_order_id: str, fills: Sequence[VenueFill]) -> int:
    ours = Order.objects.filter(account_id=account_id, client_order_id=client_order_id).values_list("pk", flat=True)

    def book() -> int:
        order_id = ours.first()
        if order_id is None:
            account, booked = lock_account(account_id), 0
            before = account.sequence
            for fill in fills:
                _unknown_fill(account, venue, client_order_id, fill)
        else:
            account, order = locked(order_id)
            before = account.sequence
            booked = take_fills(account, order, fills)
        if account.sequence != before:
            save_account(account)
        return booked

    return retry_tx(book)


def _unknown_fill(account: Account, venue: str, client_order_id: str, fill: VenueFill) -> None:
    one = fill.fill
    words = (
        f"{one.side} of {plain(one.quantity)} {fill.symbol} at {plain(one.price)} for an order that nobody here sent"
    )
    note_anomaly(
        account=account,
        order=None,
        venue=venue,
        kind=Kind.UNKNOWN_ORDER,
        client_order_id=client_order_id,
        reference=fill.trade_id,
        words=words,
        payload=payload_of(fill),
    )


def lose(*, order_id: int, words: str, now_ms: int | None = None) -> None:
    """No clear answer about an order: one that was being sent is UNKNOWN, and every one is asked about again later.

    The pauses between questions are 1, 2, 4, 8 and then 10 seconds. `now_ms` is the wall clock; without it the
    database's.
    """
    now = moment(now_ms)

    def note() -> None:
        order = locked(order_id)[1]
        if Status(order.status) in ENDED:
            return
        order.unclear_since = order.unclear_since or now
        order.ask_at = now + timedelta(seconds=pause_seconds(order.asks))
        order.asks += 1
        if order.status == Status.SUBMITTING:
            step(order, Event.LOSE, detail=words)
        else:
            order.save(update_fields=["unclear_since", "ask_at", "asks", "updated_at"])

    retry_tx(note)


def pause_seconds(asks: int) -> int:
    """Seconds until the next question after `asks` questions that had no clear answer."""
    return min(timeouts.ORDER_ASK_FIRST_SECONDS << min(asks, 10), timeouts.ORDER_ASK_MAX_SECONDS)


def locked(order_id: int) -> tuple[Account, Order]:
    """The order under its account's lock: every change of an order is made under it."""
    account_id = Order.objects.values_list("account_id", flat=True).get(pk=order_id)
    account = lock_account(account_id)
    signal = "intent__decision__signal"
    related = ("instrument", "intent__position__instrument", f"{signal}__strategy_version", f"{signal}__session__epoch")
    order = Order.objects.select_related(*related).get(pk=order_id)
    return account, order


def _follow(account: Account, order: Order, report: Report) -> None:
    """Bring the order's status to what the venue says, beyond its fills."""
    status = Status(order.status)
    if status in ENDED:
        return
    if report.filled_quantity is not None and report.filled_quantity > order.filled_qty:
        # The venue counts a fill that it does not show yet: nothing is settled, so nothing is given back.
        log.warning(
            "order %s: %s filled at %s, %s shown",
            order.client_order_id, plain(report.filled_quantity), order.venue, plain(order.filled_qty),
        )  # fmt: skip
    elif report.status in WORKING:
        if status in UNSETTLED:
            _accept(order, report)
        _answered(order)
    elif report.status in _ENDINGS:
        _end(account, order, report, _ENDINGS[report.status])
    else:
        log.error("order %s is filled at %s, which shows no fill for it", order.client_order_id, order.venue)


def _end(account: Account, order: Order, report: Report, event: Event) -> None:
    if (Status(order.status), event) not in TABLE:
        note_anomaly(
            account=account,
            order=order,
            venue=order.venue,
            kind=Kind.IMPOSSIBLE,
            client_order_id=order.client_order_id,
            reference=event.value,
            words=f"{report.status.value} for an order that is {order.status}",
            payload={"status": report.status.value, "reason": report.reason},
        )
        return
    retry_ms = report.retry_ms or order.ts_event + 1
    order.venue_order_id = report.venue_order_id
    _answered(order)
    end_unfilled(account=account, order=order, event=event, detail=report.reason, retry_ms=retry_ms)


def _accept(order: Order, report: Report) -> None:
    order.venue_order_id = report.venue_order_id
    step(order, Event.ACCEPT)
    signal = order.intent.decision.signal
    epoch = signal.session.epoch
    record("OrderSubmitted", epoch=epoch.pk, shard=shard_of(order.instrument.symbol, epoch.shard_count))


def _answered(order: Order) -> None:
    """The venue has given a clear answer: the next question is in no hurry, and the alert of its silence is settled."""
    if order.unclear_since is not None:
        settle(
            kind=Alert.Kind.ORDER_UNKNOWN, subject=order.client_order_id, by=SYSTEM, reason="the venue has answered"
        )  # fmt: skip
    elif order.missing_since is None and order.ask_at is None:
        return
    order.unclear_since, order.missing_since, order.ask_at, order.asks = None, None, None, 0
    order.save(update_fields=["unclear_since", "missing_since", "ask_at", "asks", "updated_at"])


def _missing(account: Account, order: Order, now: datetime) -> None:
    """The venue has no such order. It may still be on its way: this is believed when it is said again later."""
    status = Status(order.status)
    if status in ENDED or status is Status.INITIALIZED:
        return
    if status not in UNSETTLED:
        note_anomaly(
            account=account,
            order=order,
            venue=order.venue,
            kind=Kind.FORGOTTEN,
            client_order_id=order.client_order_id,
            reference=status.value,
            words=f"order {order.client_order_id} is {status} here and unknown at {order.venue}",
            payload={"status": status.value},
        )
        return
    if order.missing_since is None:
        order.missing_since = now
        order.unclear_since = order.unclear_since or now
        order.ask_at = now + NEVER_RECEIVED
        step(order, Event.LOSE, detail="the venue has no trace of it yet")
    elif now - order.missing_since >= NEVER_RECEIVED:
        _answered(order)
        end_unfilled(
            account=account,
            order=order,
            event=Event.EXPIRE,
            detail="the venue never received it",
            retry_ms=order.ts_event + 1,
        )
