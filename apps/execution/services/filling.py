"""Fills as a venue reports them: looked at, then booked once into trade, position, ledger, reservation and order.

The caller holds the account's lock and saves the account.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from apps.alerts.models import Alert
from apps.alerts.services import raise_alert
from apps.engine.matching import slippage_against
from apps.engine.money import exact
from apps.engine.orders import ENDED, TABLE, Event, Status
from apps.engine.portfolio import Fill, Side, average_price, opening_promise, reducing_promise
from apps.engine.risk.words import plain
from apps.execution.models import Order, OrderAnomaly, Trade
from apps.execution.services.anomalies import note_anomaly, payload_of
from apps.execution.services.steps import step
from apps.execution.venues.base import VenueFill
from apps.outbox.services import record
from apps.portfolio.models import Account, Position
from apps.portfolio.services import EntryPlan, book_entry, book_exit, promise_less, release
from apps.risk.models import RiskState, TradingState, TripCause
from apps.risk.selectors import trigger_of
from apps.risk.services import store_exposure
from apps.risk.services.trips import trip
from apps.risk.services.watchdog import exposure_fell
from apps.signals.models import Signal

log = logging.getLogger(__name__)

MINUTE_MS: Final = 60_000
PRICE_OFF_FACTOR: Final = 2
"""A fill at more than this many times its limit price, or less than the limit by this factor, is no fill of ours."""

Kind = OrderAnomaly.Kind


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a fill is not booked."""

    kind: OrderAnomaly.Kind
    words: str


def take_fills(account: Account, order: Order, fills: Sequence[VenueFill]) -> int:
    """Book what is new and can be ours, in order of event time; keep the rest as anomalies. Returns how many booked."""
    if not fills:
        return 0
    known = _known(order.venue, fills)
    booked = 0
    for fill in sorted(fills, key=lambda one: one.fill.ts_event):
        earlier = known.get(fill.trade_id)
        problem = _repeated(order, earlier, fill) if earlier else _problem(order, fill)
        if problem:
            _refuse(account, order, fill, problem)
        elif earlier is None:
            _book(account, order, fill)
            booked += 1
            known[fill.trade_id] = Seen(order.pk, fill.fill)
    for trade_id in _twice(fills):
        words = f"fill {trade_id} stands twice in one report"
        _refuse(account, order, next(one for one in fills if one.trade_id == trade_id), Problem(Kind.TWICE, words))
    return booked


@dataclass(frozen=True, slots=True)
class Seen:
    """A fill that is booked."""

    order_id: int
    fill: Fill


def _known(venue: str, fills: Iterable[VenueFill]) -> dict[str, Seen]:
    rows = Trade.objects.filter(venue=venue, trade_id__in=[fill.trade_id for fill in fills])
    return {
        row.trade_id: Seen(
            row.order_id,
            Fill(Side(row.side), row.price, row.quantity, row.fee, row.fee_currency, row.ts_event),
        )
        for row in rows
    }


def _twice(fills: Iterable[VenueFill]) -> list[str]:
    seen: set[str] = set()
    twice: list[str] = []
    for fill in fills:
        if fill.trade_id in seen and fill.trade_id not in twice:
            twice.append(fill.trade_id)
        seen.add(fill.trade_id)
    return twice


def _repeated(order: Order, earlier: Seen, fill: VenueFill) -> Problem | None:
    """The same fill again is how venues and networks are; the same id for something else is not."""
    now, then = fill.fill, earlier.fill
    if earlier.order_id != order.pk:
        return Problem(Kind.CONFLICT, f"fill {fill.trade_id} is booked for another order")
    if (now.side, now.price, now.quantity) == (then.side, then.price, then.quantity):
        return None
    was, now_is = f"{plain(then.quantity)} at {plain(then.price)}", f"{plain(now.quantity)} at {plain(now.price)}"
    return Problem(Kind.CONFLICT, f"fill {fill.trade_id} was {was} and is now {now_is}")


def _problem(order: Order, venue_fill: VenueFill) -> Problem | None:
    """Why this fill cannot be one of this order."""
    fill, symbol = venue_fill.fill, order.instrument.symbol
    if venue_fill.symbol and venue_fill.symbol != symbol:
        return Problem(Kind.WRONG_SYMBOL, f"a fill in {venue_fill.symbol} for an order in {symbol}")
    if fill.side.value != order.side:
        return Problem(Kind.WRONG_SIDE, f"a fill of a {fill.side} for an order to {order.side}")
    numbers = (fill.price, fill.quantity, fill.fee)
    if not all(one.is_finite() for one in numbers) or fill.price <= 0 or fill.quantity <= 0:
        return Problem(Kind.IMPOSSIBLE, f"a fill of {fill.quantity} at {fill.price} with a fee of {fill.fee}")
    if _off(fill.price, order.limit_price):
        words = f"a fill at {plain(fill.price)} for an order limited at {plain(order.limit_price)}"
        return Problem(Kind.PRICE_OFF, words)
    return _quantity_problem(order, fill)


@exact
def _off(price: Decimal, limit: Decimal) -> bool:
    return price > limit * PRICE_OFF_FACTOR or price * PRICE_OFF_FACTOR < limit


@exact
def _quantity_problem(order: Order, fill: Fill) -> Problem | None:
    left = order.quantity - order.filled_qty
    if fill.quantity > left:
        return Problem(Kind.OVERFILL, f"a fill of {plain(fill.quantity)} where {plain(left)} is left of the order")
    event = Event.FILL if fill.quantity < left else Event.COMPLETE
    if (Status(order.status), event) not in TABLE:
        return Problem(Kind.IMPOSSIBLE, f"a fill for an order that is {order.status}")
    position = order.intent.position
    if position is not None and fill.quantity > position.quantity:
        words = f"a sale of {plain(fill.quantity)} from a position of {plain(position.quantity)}"
        return Problem(Kind.OVERSOLD, words)
    return None


def _refuse(account: Account, order: Order, fill: VenueFill, problem: Problem) -> None:
    note_anomaly(
        account=account,
        order=order,
        venue=order.venue,
        kind=problem.kind,
        client_order_id=order.client_order_id,
        reference=fill.trade_id,
        words=problem.words,
        payload=payload_of(fill),
    )


def _book(account: Account, order: Order, venue_fill: VenueFill) -> None:
    fill = venue_fill.fill
    account.sequence += 1
    reference = f"trade:{order.venue}:{venue_fill.trade_id}"
    position = _move_position(account, order, venue_fill, reference)
    arrival = reference_price(order)
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
        liquidity=venue_fill.liquidity.value,
        latency_ms=fill.ts_event - order.ts_event,
        reference_price=arrival,
        slippage_bps=slippage_against(fill.side, fill.price, arrival),
    )
    order.avg_px = average_price(order.filled_qty, order.avg_px or Decimal(0), fill.quantity, fill.price)
    order.filled_qty += fill.quantity
    order.leaves_qty = order.quantity - order.filled_qty
    step(order, Event.FILL if order.leaves_qty else Event.COMPLETE, sequence=account.sequence)
    _promise_rest(order)
    _watch_limit(order, fill)
    state = store_exposure(account=account, symbol=order.instrument.symbol, price=fill.price)
    _watch_cash(account, state)
    if state.trading_state != TradingState.ACTIVE:
        exposure_fell(account, state)


def reference_price(order: Order) -> Decimal:
    """What the decision was made on: the side's quote known at the trigger, else the price that it reckoned with."""
    signal = order.intent.decision.signal
    quoted = signal.ask if order.side == Side.BUY else signal.bid
    return quoted or trigger_of(signal).price


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


def _watch_limit(order: Order, fill: Fill) -> None:
    """No limit order is filled beyond its limit. The money has moved, so it is booked; somebody must ask the venue."""
    beyond = fill.price > order.limit_price if fill.side is Side.BUY else fill.price < order.limit_price
    if beyond:
        raise_alert(
            kind=Alert.Kind.ORDER_ANOMALY,
            severity=Alert.Severity.CRITICAL,
            subject=f"price beyond its limit at {order.venue}",
            words=f"{order} was filled at {plain(fill.price)}, its limit is {plain(order.limit_price)}",
            session_id=order.account.session_id,
        )


def _watch_cash(account: Account, state: RiskState) -> None:
    """A fill that nothing was reserved for any more may take more cash than there is: booked all the same, and said."""
    if account.cash >= 0:
        return
    log.critical("cash of account %d is %s", account.pk, account.cash)
    evidence = {"cash": plain(account.cash)}
    trip(account=account, state=state, cause=TripCause.NEGATIVE_CASH, evidence=evidence, reason="cash is negative")
