"""Booking what a venue says about an order: fills, positions, money, reservation and order in one transaction, once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from apps.bus.streams import shard_of
from apps.engine.orders import ENDED, UNSETTLED, Event, Status
from apps.engine.portfolio import average_price, opening_promise, reducing_promise
from apps.engine.risk.words import plain
from apps.execution.models import Order, Trade
from apps.execution.selectors import venue_of
from apps.execution.services.steps import end_unfilled, step
from apps.execution.venues.base import Report, Venue, VenueFill, VenueStatus, VenueUnclear
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account, Position
from apps.portfolio.services import (
    EntryPlan,
    book_entry,
    book_exit,
    lock_account,
    promise_less,
    release,
    save_account,
)
from apps.risk.models import RiskState, TripCause
from apps.risk.services import store_exposure
from apps.risk.services.trips import trip
from apps.signals.models import Signal

log = logging.getLogger(__name__)

MINUTE_MS: Final = 60_000
_ENDINGS: Final = {
    VenueStatus.CANCELED: Event.CANCEL,
    VenueStatus.REJECTED: Event.REJECT,
    VenueStatus.EXPIRED: Event.EXPIRE,
}


def sync_order(*, order_id: int, venue: Venue | None = None) -> None:
    """Ask the venue (the session's unless given) about an order and book its answer.

    Without an answer nothing changes; the sweep asks again.
    """
    order = Order.objects.select_related("account__session").get(pk=order_id)
    venue = venue or venue_of(order.account.session)
    try:
        report = venue.query(order.client_order_id)
        fills = venue.trades(order.client_order_id)
    except VenueUnclear as error:
        log.warning("order %s: no clear answer from %s: %s", order.client_order_id, venue.name, error)
        lose(order_id=order_id, words=str(error))
        return
    apply_report(order_id=order_id, report=report, fills=fills)


def lose(*, order_id: int, words: str) -> None:
    """No clear answer about an order that was being sent: it is UNKNOWN and keeps what is reserved for it."""

    def note() -> None:
        order = _locked(order_id)[1]
        if order.status == Status.SUBMITTING:
            step(order, Event.LOSE, detail=words)

    retry_tx(note)


def apply_report(*, order_id: int, report: Report | None, fills: Sequence[VenueFill]) -> None:
    """Book what a venue reports. `None` says that it never received the order. Safe to repeat, in any order."""

    def book() -> None:
        account, order = _locked(order_id)
        before = account.sequence
        for fill in _new_fills(order, fills):
            _book_fill(account, order, fill)
        _follow(account, order, report)
        if account.sequence != before:
            save_account(account)

    retry_tx(book)


def _locked(order_id: int) -> tuple[Account, Order]:
    """The order under its account's lock: every change of an order is made under it."""
    account_id = Order.objects.values_list("account_id", flat=True).get(pk=order_id)
    account = lock_account(account_id)
    signal = "intent__decision__signal"
    related = ("instrument", "intent__position__instrument", f"{signal}__strategy_version", f"{signal}__session__epoch")
    order = Order.objects.select_related(*related).get(pk=order_id)
    return account, order


def _new_fills(order: Order, fills: Sequence[VenueFill]) -> list[VenueFill]:
    if not fills:
        return []
    ids = [fill.trade_id for fill in fills]
    known = set(Trade.objects.filter(venue=order.venue, trade_id__in=ids).values_list("trade_id", flat=True))
    return [fill for fill in fills if fill.trade_id not in known]


def _book_fill(account: Account, order: Order, venue_fill: VenueFill) -> None:
    fill = venue_fill.fill
    account.sequence += 1
    reference = f"trade:{order.venue}:{venue_fill.trade_id}"
    position = _move_position(account, order, venue_fill, reference)
    Trade.objects.create(
        venue=order.venue,
        trade_id=venue_fill.trade_id,
        order=order,
        account=account,
        position=position,
        instrument=order.instrument,
        sequence=account.sequence,
        side=fill.side.value,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        ts_event=fill.ts_event,
    )
    order.avg_px = average_price(order.filled_qty, order.avg_px or Decimal(0), fill.quantity, fill.price)
    order.filled_qty += fill.quantity
    order.leaves_qty = max(order.quantity - order.filled_qty, Decimal(0))
    step(order, Event.FILL if order.leaves_qty else Event.COMPLETE, sequence=account.sequence)
    _promise_rest(order)
    state = store_exposure(account=account, symbol=order.instrument.symbol, price=fill.price)
    _watch_cash(account, state)


def _move_position(account: Account, order: Order, venue_fill: VenueFill, reference: str) -> Position:
    position = order.intent.position
    if position is not None:
        book_exit(account=account, position=position, reference=reference, fill=venue_fill.fill)
        if position.status == Position.Status.CLOSED:
            record("PositionClosed", account_id=account.pk)
        return position
    return book_entry(
        account=account,
        instrument=order.instrument,
        client_order_id=order.client_order_id,
        reference=reference,
        fill=venue_fill.fill,
        plan=plan_of(order.intent.decision.signal),
    )


def plan_of(signal: Signal) -> EntryPlan:
    """How the position is to end, as the strategy version of the signal has it. What it lacks is off."""
    version = signal.strategy_version
    return EntryPlan(
        strategy_version_id=version.pk,
        trigger_entry=signal.entry_id,
        stop_loss_pct=Decimal(str(version.parameters["stop_loss_pct"])),
        take_profit_pct=Decimal(str(version.parameters["take_profit_pct"])),
        max_holding_ms=int(Decimal(str(version.parameters["max_holding_minutes"])) * MINUTE_MS),
        trailing_stop_pct=Decimal(str(version.parameters.get("trailing_stop_pct", 0))),
        exit_on_signal=bool(int(version.parameters.get("exit_on_signal", 1))),
    )


def _promise_rest(order: Order) -> None:
    """What stays promised is what the rest of the order may still cost."""
    if not order.leaves_qty or Status(order.status) in ENDED:
        release(client_order_id=order.client_order_id)
        return
    instrument = order.instrument
    if order.reducing:
        promise = reducing_promise(order.leaves_qty, instrument.base_asset)
    else:
        promise = opening_promise(
            order.leaves_qty, order.limit_price, instrument.taker_fee, instrument.quote_asset
        )  # fmt: skip
    promise_less(client_order_id=order.client_order_id, promise=promise)


def _watch_cash(account: Account, state: RiskState) -> None:
    """A fill that nothing was reserved for any more may take more cash than there is: booked all the same, and said."""
    if account.cash >= 0:
        return
    log.critical("cash of account %d is %s", account.pk, account.cash)
    evidence = {"cash": plain(account.cash)}
    trip(account=account, state=state, cause=TripCause.NEGATIVE_CASH, evidence=evidence, reason="cash is negative")


def _follow(account: Account, order: Order, report: Report | None) -> None:
    """Bring the order's status to what the venue says, beyond its fills."""
    status = Status(order.status)
    if status in ENDED:
        return
    if report is None:
        _never_received(account, order)
    elif report.status is VenueStatus.OPEN:
        if status in UNSETTLED:
            _accept(order, report)
    elif report.status in _ENDINGS:
        retry_ms = report.retry_ms or order.ts_event + 1
        order.venue_order_id = report.venue_order_id
        end_unfilled(
            account=account, order=order, event=_ENDINGS[report.status], detail=report.reason, retry_ms=retry_ms
        )  # fmt: skip
    else:
        log.error("order %s is filled at %s, which shows no fill for it", order.client_order_id, order.venue)


def _accept(order: Order, report: Report) -> None:
    order.venue_order_id = report.venue_order_id
    step(order, Event.ACCEPT)
    signal = order.intent.decision.signal
    epoch = signal.session.epoch
    record("OrderSubmitted", epoch=epoch.pk, shard=shard_of(order.instrument.symbol, epoch.shard_count))


def _never_received(account: Account, order: Order) -> None:
    if Status(order.status) not in UNSETTLED:
        log.critical("order %s is %s here and unknown at %s", order.client_order_id, order.status, order.venue)
        return
    end_unfilled(
        account=account,
        order=order,
        event=Event.EXPIRE,
        detail="the venue never received it",
        retry_ms=order.ts_event + 1,
    )
