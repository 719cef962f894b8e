"""The paper venue's rows as values: what it says of an order, a fill, its terms and the quotes it used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from django.db.models import F, QuerySet

from apps.engine.matching import Expiry, Liquidity, Terms, TopOfBook
from apps.engine.model import MINUTE_MS
from apps.engine.portfolio import Fill, Side
from apps.engine.risk.words import plain
from apps.execution.models import VenueOrder, VenueTrade
from apps.execution.venues.base import Report, VenueFill, VenueOrderView, VenueStatus
from apps.execution.venues.outcomes import DISTORTED, Outcome

DISTORTION: Final = 100  # how many times off a wrong price is


def report_of(order: VenueOrder, *, hidden: bool = False) -> Report:
    """What the venue says of an order; `hidden`: its own books lag, so what ended it does not show yet."""
    if hidden:
        return Report(order.client_order_id, str(order.pk), VenueStatus.OPEN)
    retry_ms = order.ts_mature + 1
    if order.reason.startswith(Expiry.FEED_GAP):
        retry_ms = (order.ts_mature // MINUTE_MS + 1) * MINUTE_MS  # the rest of the minute is no better known
    status = VenueStatus(order.status)
    if status is VenueStatus.OPEN and order.filled_quantity:
        status = VenueStatus.PARTIALLY_FILLED
    return Report(
        order.client_order_id, str(order.pk), status, order.reason, retry_ms, filled_quantity=order.filled_quantity
    )


def view_of(order: VenueOrder) -> VenueOrderView:
    return VenueOrderView(
        client_order_id=order.client_order_id,
        venue_order_id=str(order.pk),
        symbol=order.symbol,
        side=Side(order.side),
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        limit_price=order.limit_price,
    )


def shown_fills(rows: QuerySet[VenueTrade]) -> list[tuple[str, VenueFill]]:
    """(client_order_id, fill) as a list of fills shows them: some late, some twice, some distorted, if so drawn."""
    shown: list[tuple[str, VenueFill]] = []
    for row in rows:
        outcome = Outcome(row.order.outcome)
        hidden = bool(row.hidden_looks and _looked_at(row))
        if hidden and outcome not in DISTORTED:
            continue
        fill = _distorted(row, outcome) if hidden else venue_fill_of(row)
        times = 2 if outcome is Outcome.DUPLICATE_FILL else 1
        shown += [(row.order.client_order_id, fill)] * times
    if any(row.order.outcome == Outcome.OUT_OF_ORDER for row in rows):
        shown.reverse()
    return shown


def _looked_at(row: VenueTrade) -> bool:
    hidden = VenueTrade.objects.filter(pk=row.pk, hidden_looks__gt=0)
    return bool(hidden.update(hidden_looks=F("hidden_looks") - 1))


def _distorted(row: VenueTrade, outcome: Outcome) -> VenueFill:
    """The fill as a broken answer tells it."""
    true = venue_fill_of(row)
    if outcome is Outcome.WRONG_SYMBOL:
        return replace(true, symbol=f"{row.order.symbol[::-1]}")
    return replace(true, fill=replace(true.fill, price=true.fill.price * DISTORTION))


def venue_fill_of(row: VenueTrade) -> VenueFill:
    return VenueFill(str(row.pk), fill_of(row), Liquidity(row.liquidity), row.order.symbol)


def fill_of(row: VenueTrade) -> Fill:
    return Fill(Side(row.order.side), row.price, row.quantity, row.fee, row.fee_currency, row.ts_event)


def terms_of(order: VenueOrder) -> Terms:
    terms = order.terms
    return Terms(
        price_decimals=terms["price_decimals"],
        slippage_base_bps=Decimal(terms["base_bps"]),
        slippage_impact_bps=Decimal(terms["impact_bps"]),
        taker_fee=Decimal(terms["taker_fee"]),
        fee_currency=terms["fee_currency"],
        maker_fee=Decimal(terms.get("maker_fee", 0)),
        coin_price=Decimal(terms.get("coin_price", 1)),
    )


def quote_as_json(quote: TopOfBook) -> dict[str, Any]:
    return {
        "ts_event": quote.ts_event,
        "bid": plain(quote.bid),
        "bid_quantity": plain(quote.bid_quantity),
        "ask": plain(quote.ask),
        "ask_quantity": plain(quote.ask_quantity),
    }


def quote_from_json(stored: Mapping[str, Any]) -> TopOfBook:
    prices = {name: Decimal(stored[name]) for name in ("bid", "bid_quantity", "ask", "ask_quantity")}
    return TopOfBook(ts_event=stored["ts_event"], **prices)
