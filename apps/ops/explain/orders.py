"""What came of an approval: the order with its events, fills, the position and the ledger's legs."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any, Final

from apps.engine.matching import BASIS_POINTS
from apps.engine.money import ZERO, exact
from apps.execution.models import Order, OrderAnomaly, OrderEvent, Trade, VenueTrade
from apps.ops.explain.endings import UnmappedEnding, ending_of
from apps.ops.explain.parts import EventPart, ExitPart, FillPart, LedgerPart, LegPart, OrderPart, PositionPart
from apps.portfolio.models import LedgerEntry, Position, Reservation
from apps.risk.models import OrderIntent
from apps.signals.models import Signal
from apps.staff import times

PAPER: Final = "paper"  # the venue whose books stand beside ours
BPS_STEP: Final = Decimal("0.01")
FILL_FIELDS: Final = frozenset(
    {"id", "venue", "trade_id", "order", "account", "position", "instrument", "sequence", "side", "price", "quantity",
     "fee", "fee_currency", "ts_event", "created_at"}
)  # fmt: skip


def order_part(missing: list[str], intent: OrderIntent, order: Order | None) -> OrderPart:
    reservation = Reservation.objects.filter(client_order_id=intent.client_order_id).first()
    if reservation is None:
        missing.append(f"reservation of {intent.client_order_id}")
    events = () if order is None else _events(order)
    status = "" if order is None else order.status
    if order is not None and not events and order.status != "INITIALIZED":
        missing.append(f"events of order {order.pk}")
    return OrderPart(
        id=None if order is None else order.pk,
        client_order_id=intent.client_order_id,
        venue="" if order is None else order.venue,
        venue_order_id="" if order is None else order.venue_order_id,
        side=intent.side,
        quantity=intent.quantity,
        limit_price=intent.limit_price,
        reducing=intent.reducing,
        status=status,
        reason="" if order is None else order.reason,
        filled=ZERO if order is None else order.filled_qty,
        leaves=intent.quantity if order is None else order.leaves_qty,
        average_price=None if order is None else order.avg_px,
        promised=None if reservation is None else reservation.amount,
        promised_currency="" if reservation is None else reservation.currency,
        approved_ms=times.to_ms(intent.created_at),
        events=events,
        anomalies=() if order is None else _anomalies(order),
    )


def _anomalies(order: Order) -> tuple[str, ...]:
    """What a venue reported of it that cannot be."""
    rows = OrderAnomaly.objects.filter(order_id=order.pk).order_by("id")
    return tuple(f"{row.get_kind_display().lower()}: {row.words}" for row in rows)


def _events(order: Order) -> tuple[EventPart, ...]:
    found: list[EventPart] = []
    for row in OrderEvent.objects.filter(order_id=order.pk).order_by("number"):
        at_ms = times.to_ms(row.created_at)
        after = at_ms - found[-1].at_ms if found else None
        found.append(EventPart(row.number, row.event, row.status, row.detail, row.sequence, at_ms, after))
    return tuple(found)


def fill_parts(missing: list[str], order: Order) -> tuple[FillPart, ...]:
    rows = list(Trade.objects.filter(order_id=order.pk).order_by("sequence", "id"))
    if sum((row.quantity for row in rows), ZERO) != order.filled_qty:
        missing.append(f"trades of order {order.pk}: they do not add up to what it has filled")
    quotes = _paper_quotes(order, rows)
    return tuple(_fill(row, quotes.get(row.trade_id)) for row in rows)


def _paper_quotes(order: Order, rows: list[Trade]) -> dict[str, dict[str, Any]]:
    """The quote in force of each fill, from the paper venue's own books; a real venue does not tell it."""
    if order.venue != PAPER or not rows:
        return {}
    own = VenueTrade.objects.filter(order__client_order_id=order.client_order_id)
    return {str(row.pk): dict(row.quote) for row in own}


def _fill(row: Trade, quote: dict[str, Any] | None) -> FillPart:
    more = {
        field.name: getattr(row, field.attname)
        for field in row._meta.concrete_fields
        if field.name not in FILL_FIELDS and getattr(row, field.attname) not in (None, "")
    }
    return FillPart(
        id=row.pk,
        venue=row.venue,
        trade_id=row.trade_id,
        sequence=row.sequence,
        side=row.side,
        price=row.price,
        quantity=row.quantity,
        fee=row.fee,
        fee_currency=row.fee_currency,
        ts_event=row.ts_event,
        booked_ms=times.to_ms(row.created_at),
        quote=quote or None,
        slippage_bps=slippage(row.side, row.price, quote),
        more=more,
    )


@exact
def slippage(side: str, price: Decimal, quote: dict[str, Any] | None) -> Decimal | None:
    """How much worse than the quote's side that it met, in basis points, rounded to hundredths."""
    if not quote:
        return None
    buying = side == OrderIntent.Side.BUY
    best = Decimal(str(quote["ask" if buying else "bid"]))
    worse = price - best if buying else best - price
    return (worse / best * BASIS_POINTS).quantize(BPS_STEP)


def position_part(
    missing: list[str], intent: OrderIntent | None, fills: tuple[FillPart, ...], now_ms: int
) -> PositionPart | None:
    """The position that the order opened or reduces."""
    if intent is None:
        return None
    found = Position.objects.filter(pk=intent.position_id).first() if intent.position_id else None
    found = found or Position.objects.filter(opened_by=intent.client_order_id).first()
    if found is None:
        if fills or intent.position_id:
            missing.append(f"position of {intent.client_order_id}")
        return None
    if not Order.objects.filter(client_order_id=found.opened_by).exists():
        missing.append(f"order {found.opened_by} that opened position {found.pk}")
    return PositionPart(
        id=found.pk,
        status=found.status,
        opened_by=found.opened_by,
        quantity=found.quantity,
        entry_quantity=found.entry_quantity,
        entry_price=found.entry_price,
        stop_price=found.stop_price,
        target_price=found.target_price,
        opened_ts=found.opened_ts,
        due_ts=found.due_ts,
        closed_ts=found.closed_ts,
        realized=found.realized,
        fees=found.fees,
        exits=tuple(_exit(row, now_ms) for row in Signal.objects.filter(position_id=found.pk).order_by("id")),
    )


def _exit(signal: Signal, now_ms: int) -> ExitPart:
    try:
        ended = ending_of(signal, now_ms)
    except UnmappedEnding as unmapped:
        return ExitPart(signal.pk, signal.exit_reason, signal.ts_event, signal.price, "", str(unmapped))
    return ExitPart(signal.pk, signal.exit_reason, signal.ts_event, signal.price, ended.code, ended.words)


def ledger_part(order: Order | None, fills: tuple[FillPart, ...]) -> LedgerPart | None:
    """The legs of the order's fills, with the sum per fill and currency."""
    if order is None or not fills:
        return None
    references = [f"trade:{fill.venue}:{fill.trade_id}" for fill in fills]
    rows = LedgerEntry.objects.filter(account_id=order.account_id, reference__in=references).order_by("id")
    legs = tuple(LegPart(row.reference, row.leg, row.kind, row.currency, row.amount) for row in rows)
    return _sums(legs)


@exact
def _sums(legs: tuple[LegPart, ...]) -> LedgerPart:
    sums: dict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
    cash = ZERO
    for leg in legs:
        sums[leg.reference, leg.currency] += leg.amount
        cash += leg.amount if leg.kind == LedgerEntry.Kind.CASH else ZERO
    return LedgerPart(legs, tuple((*key, amount) for key, amount in sums.items()), cash)
