"""The paper venue: fills against the market's own quotes, with books and transactions of its own.

It knows nothing of our orders, accounts or positions. What it owes us is in VenueOrder and VenueTrade.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from django.db import DatabaseError, InterfaceError

from apps.bus.failpoints import failpoint
from apps.engine.matching import Expiry, Liquidity, Terms, TopOfBook
from apps.engine.model import MINUTE_MS
from apps.engine.money import notional, total
from apps.engine.portfolio import Fill, Side, opening_promise
from apps.engine.risk.words import plain
from apps.execution.models import VenueOrder, VenueTrade
from apps.execution.venues.base import (
    Balance,
    OrderRequest,
    Report,
    VenueFill,
    VenueOrderView,
    VenueStatus,
    VenueUnclear,
)
from apps.market.models import Instrument, ShardCursor
from apps.market.selectors import reached_ms
from apps.outbox.transactions import retry_tx

NAME: Final = "paper"
SETTINGS: Final = frozenset({"latency_ms", "base_bps", "impact_bps"})


class PaperVenue:
    """`settings` are the session's frozen ones. Raises ValueError unless they are exactly `SETTINGS`: no defaults.

    `owner` is whose account there it speaks for; `deposits` tells what was paid into that account, by asset.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        owner: str = "",
        deposits: Callable[[], Mapping[str, Decimal]] = dict,
    ) -> None:
        if settings.keys() != SETTINGS:
            raise ValueError(f"paper settings are {sorted(settings)}, must be {sorted(SETTINGS)}")
        self._latency_ms = int(settings["latency_ms"])
        self._base_bps = Decimal(str(settings["base_bps"]))
        self._impact_bps = Decimal(str(settings["impact_bps"]))
        self._owner = owner
        self._deposits = deposits

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
            return [venue_fill_of(row) for row in rows.order_by("id")]

    def cancel(self, client_order_id: str, *, at_ms: int | None = None) -> Report | None:
        """A cancel reaches the book at the event time that the market has reached (`at_ms`, if that is later): what
        matured by then has met its quote, whether or not the matching has come to it."""
        with _unclear():
            order = retry_tx(lambda: self._cancel(client_order_id, at_ms))
        return report_of(order) if order else None

    def open_orders(self) -> list[VenueOrderView]:
        with _unclear():
            return [view_of(order) for order in self._open()]

    def fills_since(self, ts_ms: int) -> list[tuple[str, VenueFill]]:
        with _unclear():
            rows = VenueTrade.objects.filter(order__owner=self._owner, ts_event__gte=ts_ms).select_related("order")
            return [(row.order.client_order_id, venue_fill_of(row)) for row in rows.order_by("ts_event", "id")]

    def balances(self) -> dict[str, Balance]:
        """Deposits and everything that was traded since; what open orders may still cost is locked."""
        with _unclear():
            held: dict[str, Decimal] = defaultdict(Decimal, self._deposits())
            for asset, amount in self._moved():
                held[asset] = total([held[asset], amount])
            locked: dict[str, Decimal] = defaultdict(Decimal)
            for asset, amount in self._locked():
                locked[asset] = total([locked[asset], amount])
        return {asset: Balance(held[asset], locked[asset]) for asset in sorted(held.keys() | locked.keys())}

    def _open(self) -> list[VenueOrder]:
        rows = VenueOrder.objects.filter(owner=self._owner, status=VenueOrder.Status.OPEN)
        return list(rows.order_by("id"))

    def _moved(self) -> Iterator[tuple[str, Decimal]]:
        rows = VenueTrade.objects.filter(order__owner=self._owner).select_related("order")
        assets = _assets(set(rows.values_list("order__instrument_id", flat=True)))
        for row in rows.order_by("id"):
            base, quote = assets[row.order.instrument_id]
            sign = 1 if row.order.side == Side.BUY else -1
            yield base, sign * row.quantity
            yield quote, -sign * notional(row.quantity, row.price)
            yield row.fee_currency, -row.fee

    def _locked(self) -> Iterator[tuple[str, Decimal]]:
        orders = self._open()
        assets = _assets({order.instrument_id for order in orders})
        for order in orders:
            base, quote = assets[order.instrument_id]
            left = order.quantity - order.filled_quantity
            if order.side == Side.BUY:
                fee = Decimal(order.terms["taker_fee"])
                yield quote, opening_promise(left, order.limit_price, fee, quote).amount
            else:
                yield base, left

    def _cancel(self, client_order_id: str, at_ms: int | None) -> VenueOrder | None:
        order = VenueOrder.objects.select_for_update().filter(client_order_id=client_order_id).first()
        if order is None or order.status != VenueOrder.Status.OPEN or order.ts_mature <= _arrival(order, at_ms):
            return order
        order.status, order.reason = VenueOrder.Status.CANCELED, "canceled as asked"
        order.save(update_fields=["status", "reason"])
        return order

    def _receive(self, request: OrderRequest) -> VenueOrder:
        instrument = Instrument.objects.get(pk=request.instrument_id)
        trigger = request.trigger
        order, _ = VenueOrder.objects.get_or_create(
            client_order_id=request.client_order_id,
            defaults={
                "owner": self._owner,
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


def _arrival(order: VenueOrder, at_ms: int | None) -> int:
    """Event time at which a cancel meets the order's book, ms."""
    own = ShardCursor.objects.filter(epoch_id=order.epoch_id, shard=order.shard)
    reached = own.values_list("watermark_ms", flat=True).first() or reached_ms(epoch_id=order.epoch_id)
    return max(reached or 0, at_ms or 0)


def _assets(instruments: set[int]) -> dict[int, tuple[str, str]]:
    """(base, quote) by instrument."""
    rows = Instrument.objects.filter(pk__in=instruments).values_list("pk", "base_asset", "quote_asset")
    return {pk: (base, quote) for pk, base, quote in rows}


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
