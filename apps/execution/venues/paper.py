"""The paper venue: fills against the market's own quotes, with books and transactions of its own.

It knows nothing of our orders, accounts or positions. What it owes us is in VenueOrder and VenueTrade.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from django.db import DatabaseError, InterfaceError

from apps.bus.failpoints import failpoint
from apps.engine.matching import Expiry, Terms, TopOfBook
from apps.engine.model import MINUTE_MS
from apps.engine.portfolio import Fill, Side
from apps.engine.risk.words import plain
from apps.execution.models import VenueOrder, VenueTrade
from apps.execution.venues.base import OrderRequest, Report, VenueFill, VenueStatus, VenueUnclear
from apps.market.models import Instrument
from apps.outbox.transactions import retry_tx

NAME: Final = "paper"
SETTINGS: Final = frozenset({"latency_ms", "base_bps", "impact_bps"})


class PaperVenue:
    """`settings` are the session's frozen ones. Raises ValueError unless they are exactly `SETTINGS`: no defaults."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings.keys() != SETTINGS:
            raise ValueError(f"paper settings are {sorted(settings)}, must be {sorted(SETTINGS)}")
        self._latency_ms = int(settings["latency_ms"])
        self._base_bps = Decimal(str(settings["base_bps"]))
        self._impact_bps = Decimal(str(settings["impact_bps"]))

    @property
    def name(self) -> str:
        return NAME

    def submit(self, request: OrderRequest) -> Report:
        with _unclear():
            order = retry_tx(lambda: self._receive(request))
        failpoint("sender.at_venue")
        return report_of(order)

    def query(self, client_order_id: str) -> Report | None:
        with _unclear():
            order = VenueOrder.objects.filter(client_order_id=client_order_id).first()
        return report_of(order) if order else None

    def trades(self, client_order_id: str) -> list[VenueFill]:
        with _unclear():
            rows = VenueTrade.objects.filter(order__client_order_id=client_order_id).select_related("order")
            return [VenueFill(str(row.pk), fill_of(row)) for row in rows.order_by("id")]

    def _receive(self, request: OrderRequest) -> VenueOrder:
        instrument = Instrument.objects.get(pk=request.instrument_id)
        trigger = request.trigger
        order, _ = VenueOrder.objects.get_or_create(
            client_order_id=request.client_order_id,
            defaults={
                "epoch_id": trigger.epoch_id,
                "shard": trigger.shard,
                "symbol": request.symbol,
                "instrument_id": request.instrument_id,
                "side": request.side.value,
                "quantity": request.quantity,
                "limit_price": request.limit_price,
                "ts_trigger": trigger.ts_event,
                "ts_mature": trigger.ts_event + self._latency_ms,
                "scan_from": trigger.entry_id,
                "terms": self._terms(instrument),
                "known_quote": None if trigger.quote is None else quote_as_json(trigger.quote),
            },
        )
        return order

    def _terms(self, instrument: Instrument) -> dict[str, Any]:
        """What holds for this order whatever changes later."""
        return {
            "price_decimals": instrument.price_decimals,
            "quantity_decimals": instrument.quantity_decimals,
            "base_bps": plain(self._base_bps),
            "impact_bps": plain(self._impact_bps),
            "taker_fee": plain(instrument.taker_fee),
            "fee_currency": instrument.quote_asset,
        }


@contextmanager
def _unclear() -> Iterator[None]:
    """A database that does not answer is, for the one who asked, a venue that does not answer."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        raise VenueUnclear(f"{type(error).__name__}: {error}") from error


def report_of(order: VenueOrder) -> Report:
    retry_ms = order.ts_mature + 1
    if order.reason.startswith(Expiry.FEED_GAP):
        retry_ms = (order.ts_mature // MINUTE_MS + 1) * MINUTE_MS  # the rest of the minute is no better known
    return Report(order.client_order_id, str(order.pk), VenueStatus(order.status), order.reason, retry_ms)


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
