"""Sending an order: looked at once more under the lock, noted as SUBMITTING, and only then sent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from apps.bus.failpoints import failpoint
from apps.bus.feed import FeedAge
from apps.bus.streams import shard_of
from apps.engine import timeouts
from apps.engine.matching import TopOfBook
from apps.engine.orders import Event
from apps.engine.portfolio import Side
from apps.engine.risk.words import seconds, seconds_up
from apps.execution.models import Order, OrderStatus
from apps.execution.selectors import venue_of
from apps.execution.services.canceling import replace_opposite
from apps.execution.services.steps import end_unfilled, step
from apps.execution.services.syncing import apply_report, lose
from apps.execution.venues.base import (
    OrderRequest,
    Report,
    Trigger,
    Venue,
    VenueFill,
    VenueStatus,
    VenueUnclear,
)
from apps.outbox.pace import AtMostEvery
from apps.outbox.reads import Read
from apps.outbox.transactions import retry_tx
from apps.portfolio.services import lock_account, save_account
from apps.risk.models import OrderIntent, TradingState
from apps.risk.scopes import forbids
from apps.risk.services.gate import last_look
from apps.risk.services.states import state_for
from apps.signals.models import Signal

log = logging.getLogger(__name__)

FeedReader = Callable[[int, str], FeedAge]

_complaints = AtMostEvery(10)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order is not sent: for good (`event`), or not yet (None)."""

    event: Event | None
    words: str


_INTENT = Read(
    lambda pk: OrderIntent.objects.select_related(
        "instrument",
        "decision__limits",
        "decision__signal__session__epoch",
        "decision__signal__strategy_version__strategy",
    ).filter(pk=pk),
    int,
)
_ORDER = Read(
    lambda intent: Order.objects.select_related("instrument", "intent__position").filter(intent_id=intent), int
)  # fmt: skip


def submit_order(*, intent_id: int, now_ms: int, feed: FeedReader, venue: Venue | None = None) -> Order | None:
    """Send the order of an approved intent, once. None if that was done before or if it is not sent.

    `now_ms` is the wall clock, `venue` is the session's unless given. A second call for the same intent, at the same
    time or later, sends nothing.
    """
    intent = _INTENT.first(intent_id)
    if intent is None:
        log.warning("intent %d does not exist", intent_id)
        return None
    session = intent.decision.signal.session
    target = venue or venue_of(session)
    age = feed(session.epoch_id, intent.instrument.symbol)
    order = retry_tx(lambda: _prepare(intent, target.name, now_ms, age))
    if order is not None:
        if intent.reducing:
            replace_opposite(intent=intent, venue=target, now_ms=now_ms)
        _send(order, request_of(intent), target, intent.decision.signal.strategy_version.strategy.name)
    return order


def _prepare(intent: OrderIntent, venue: str, now_ms: int, feed: FeedAge) -> Order | None:
    """The order as SUBMITTING, committed before anything leaves; None if it must not leave (now)."""
    account = lock_account(intent.account_id)
    order = _order_of(intent, venue)
    if order.status != OrderStatus.INITIALIZED:
        return None
    signal = intent.decision.signal
    _, state, since = state_for(account, signal.strategy_version.strategy.name, intent.instrument.symbol)
    refusal = _refusal(intent, state, since, now_ms, feed)
    if refusal is None:
        step(order, Event.SUBMIT)
        failpoint("sender.before_submitting")
        return order
    if refusal.event is None:
        if order._state.adding:
            order.save()
        if _complaints.ready(intent.pk):
            log.warning("order %s waits: %s", order.client_order_id, refusal.words)
        return None
    log.warning("order %s is not sent: %s", order.client_order_id, refusal.words)
    end_unfilled(
        account=account, order=order, event=refusal.event, detail=refusal.words, retry_ms=order.ts_event + 1
    )  # fmt: skip
    save_account(account)
    return None


def _order_of(intent: OrderIntent, venue: str) -> Order:
    """The intent's order; not saved yet if it is new. Under the account's lock nobody else can make it meanwhile."""
    return _ORDER.first(intent.pk) or Order(
        intent=intent,
        account_id=intent.account_id,
        instrument=intent.instrument,
        client_order_id=intent.client_order_id,
        venue=venue,
        side=intent.side,
        quantity=intent.quantity,
        limit_price=intent.limit_price,
        reducing=intent.reducing,
        leaves_qty=intent.quantity,
        ts_event=intent.ts_event,
    )


def _refusal(intent: OrderIntent, state: TradingState, since: str, now_ms: int, feed: FeedAge) -> Refusal | None:
    """What has changed since the decision and forbids sending; None if nothing."""
    words = forbids(state, since, reducing=intent.reducing)
    if words:
        return Refusal(Event.DENY, words)
    limit = intent.decision.limits.feed_age_max_ms
    stale = feed.words if feed.age_ms is None else ""
    if feed.age_ms is not None and feed.age_ms > limit:
        stale = f"the feed's last sign of life was {seconds_up(feed.age_ms)} old (limit {seconds(limit)})"
    if intent.reducing:
        return Refusal(None, stale) if stale else None
    age_ms = now_ms - to_ms(intent.created_at)
    if age_ms > timeouts.INTENT_TTL_MS:
        words = f"unsent: the intent was {seconds_up(age_ms)} old (limit {seconds(timeouts.INTENT_TTL_MS)})"
        return Refusal(Event.EXPIRE, words)
    return Refusal(Event.DENY, f"stale feed: {stale}") if stale else None


def _send(order: Order, request: OrderRequest, venue: Venue, strategy: str) -> None:
    """Send it, unless the trading state has changed since it was noted as SUBMITTING. No answer to that: not sent."""
    failpoint("sender.after_submitting")
    with last_look(account_id=order.account_id, strategy=strategy, symbol=request.symbol) as (state, since):
        words = forbids(state, since, reducing=order.reducing)
        report, fills = (None, []) if words else _submit(order, request, venue)
    if words:
        _take_back(order, words)
    if report is None:
        return
    failpoint("sender.after_reply")
    apply_report(order_id=order.pk, report=report, fills=fills)


def _submit(order: Order, request: OrderRequest, venue: Venue) -> tuple[Report | None, list[VenueFill]]:
    """What the venue says of the order, and its fills; None if that is not clear."""
    try:
        report = venue.submit(request)
        fills = [] if report.status is VenueStatus.OPEN else list(venue.trades(request.client_order_id))
    except VenueUnclear as error:
        log.warning("order %s: no clear answer from %s: %s", order.client_order_id, venue.name, error)
        lose(order_id=order.pk, words=str(error))
        return None, []
    return report, fills


def _take_back(order: Order, words: str) -> None:
    """It was noted as SUBMITTING and has not left: it ends unsent, and an exit is raised again when it may be."""

    def end() -> None:
        account = lock_account(order.account_id)
        row = Order.objects.select_related("instrument", "intent__position").get(pk=order.pk)
        if row.status == OrderStatus.SUBMITTING:
            end_unfilled(
                account=account, order=row, event=Event.EXPIRE, detail=f"unsent: {words}", retry_ms=row.ts_event + 1
            )
            save_account(account)

    log.warning("order %s is not sent: %s", order.client_order_id, words)
    retry_tx(end)


def request_of(intent: OrderIntent) -> OrderRequest:
    signal = intent.decision.signal
    epoch = signal.session.epoch
    symbol = intent.instrument.symbol
    trigger = Trigger(
        epoch_id=epoch.pk,
        shard=shard_of(symbol, epoch.shard_count),
        entry_id=signal.entry_id,
        ts_event=signal.ts_event,
        quote=known_quote(signal),
    )
    return OrderRequest(
        client_order_id=intent.client_order_id,
        instrument_id=intent.instrument_id,
        symbol=symbol,
        side=Side(intent.side),
        quantity=intent.quantity,
        limit_price=intent.limit_price,
        trigger=trigger,
    )


def known_quote(signal: Signal) -> TopOfBook | None:
    """The quote that the signal carries, if it carries all of one."""
    values = (signal.quote_ts, signal.bid, signal.bid_quantity, signal.ask, signal.ask_quantity)
    ts_event, bid, bid_quantity, ask, ask_quantity = values
    if ts_event is None or bid is None or bid_quantity is None or ask is None or ask_quantity is None:
        return None
    return TopOfBook(ts_event, bid, bid_quantity, ask, ask_quantity)


def to_ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)
