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
from django.db.models import F

from apps.bus.failpoints import failpoint
from apps.engine.money import ONE, notional, total
from apps.engine.portfolio import Side, opening_promise
from apps.engine.risk.words import plain
from apps.execution.models import VenueOrder, VenueTrade
from apps.execution.venues.base import (
    Balance,
    OrderRequest,
    Report,
    VenueFill,
    VenueOrderView,
    VenueUnclear,
)
from apps.execution.venues.books import quote_as_json, report_of, shown_fills, view_of
from apps.execution.venues.outcomes import UNANSWERED, Outcome, PaperFaults
from apps.market.models import Instrument, ShardCursor
from apps.market.selectors import reached_ms
from apps.outbox.transactions import retry_tx

NAME: Final = "paper"
SETTINGS: Final = frozenset({"latency_ms", "base_bps", "impact_bps"})
OPTIONS: Final = frozenset({"book", "fee_coin", "outcomes"})
FEE_COIN: Final = {"currency": "MX", "price": "2.5"}
NO_ANSWER: Final = "no answer within 5 s"


class PaperVenue:
    """`settings` are the session's frozen ones: all of `SETTINGS`, without defaults, and what is wanted of `OPTIONS`:

    * `book`: {"interval_ms", "rest_ms"}: orders fill in parts no larger than the top of the book, look by look;
    * `fee_coin`: {"currency", "price"}: fees are taken in that coin, worth `price` in quote currency;
    * `outcomes`: trouble to be made (`outcomes.py`).

    `owner` is whose account there it speaks for; `deposits` tells what was paid into that account, by asset. Raises
    ValueError for any other settings.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        owner: str = "",
        deposits: Callable[[], Mapping[str, Decimal]] = dict,
    ) -> None:
        if not SETTINGS <= settings.keys() <= SETTINGS | OPTIONS:
            raise ValueError(f"paper settings are {sorted(settings)}, must be {sorted(SETTINGS)}")
        self._latency_ms = int(settings["latency_ms"])
        self._base_bps = Decimal(str(settings["base_bps"]))
        self._impact_bps = Decimal(str(settings["impact_bps"]))
        self._book: Mapping[str, Any] | None = settings.get("book")
        self._fee_coin: Mapping[str, Any] | None = settings.get("fee_coin")
        self._faults = PaperFaults.of(settings.get("outcomes", {}))
        self._owner = owner
        self._deposits = deposits

    @property
    def name(self) -> str:
        return NAME

    def submit(self, request: OrderRequest) -> Report:
        outcome = self._faults.draw(request.client_order_id)
        if outcome is Outcome.NEVER_RECEIVED:
            raise VenueUnclear(NO_ANSWER)
        with _unclear():
            order, is_new = retry_tx(lambda: self._receive(request, outcome))
        failpoint("sender.at_venue")
        if is_new and outcome in UNANSWERED:
            raise VenueUnclear(NO_ANSWER)
        return report_of(order)

    def query(self, client_order_id: str) -> Report | None:
        with _unclear():
            order = VenueOrder.objects.filter(client_order_id=client_order_id).first()
            hidden = order is not None and _looked_at(order)
        if order is None or (hidden and order.outcome == Outcome.ON_ITS_WAY):
            return None
        return report_of(order, hidden=hidden)

    def trades(self, client_order_id: str) -> list[VenueFill]:
        with _unclear():
            rows = VenueTrade.objects.filter(order__client_order_id=client_order_id).select_related("order")
            return [fill for _, fill in shown_fills(rows.order_by("id"))]

    def cancel(self, client_order_id: str, *, at_ms: int | None = None) -> Report | None:
        """A cancel reaches the book at the event time that the market has reached (`at_ms`, if that is later): what
        matured by then has met its quote, whether or not the matching has come to it."""
        with _unclear():
            order, done = retry_tx(lambda: self._cancel(client_order_id, at_ms))
        if order is not None and done and order.outcome == Outcome.CANCEL_LOST:
            raise VenueUnclear(NO_ANSWER)
        return report_of(order) if order else None

    def open_orders(self) -> list[VenueOrderView]:
        with _unclear():
            return [view_of(order) for order in self._open()]

    def fills_since(self, ts_ms: int) -> list[tuple[str, VenueFill]]:
        with _unclear():
            rows = VenueTrade.objects.filter(order__owner=self._owner, ts_event__gte=ts_ms).select_related("order")
            return shown_fills(rows.order_by("ts_event", "id"))

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

    def _cancel(self, client_order_id: str, at_ms: int | None) -> tuple[VenueOrder | None, bool]:
        """The order, and whether this took it out of the book."""
        order = VenueOrder.objects.select_for_update().filter(client_order_id=client_order_id).first()
        if order is None or order.status != VenueOrder.Status.OPEN or order.ts_mature <= _arrival(order, at_ms):
            return order, False
        order.status, order.reason = VenueOrder.Status.CANCELED, "canceled as asked"
        order.save(update_fields=["status", "reason"])
        return order, True

    def _receive(self, request: OrderRequest, outcome: Outcome) -> tuple[VenueOrder, bool]:
        instrument = Instrument.objects.get(pk=request.instrument_id)
        trigger = request.trigger
        matures = trigger.ts_event + self._latency_ms
        rejected = outcome is Outcome.REJECT
        return VenueOrder.objects.get_or_create(
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
                "ts_mature": matures,
                "scan_from": trigger.entry_id,
                "terms": self._terms(instrument, matures, outcome),
                "known_quote": None if trigger.quote is None else quote_as_json(trigger.quote),
                "outcome": outcome.value,
                "hidden_looks": int(outcome is Outcome.ON_ITS_WAY),
                "status": VenueOrder.Status.REJECTED if rejected else VenueOrder.Status.OPEN,
                "reason": "insufficient balance" if rejected else "",
            },
        )

    def _terms(self, instrument: Instrument, matures: int, outcome: Outcome) -> dict[str, Any]:
        """What holds for this order whatever changes later."""
        coin = self._fee_coin or (FEE_COIN if outcome is Outcome.FEE_COIN else None)
        terms: dict[str, Any] = {
            "price_decimals": instrument.price_decimals,
            "quantity_decimals": instrument.quantity_decimals,
            "base_bps": plain(self._base_bps),
            "impact_bps": plain(self._impact_bps),
            "taker_fee": plain(instrument.taker_fee),
            "maker_fee": plain(instrument.maker_fee),
            "fee_currency": coin["currency"] if coin else instrument.quote_asset,
            "coin_price": str(coin["price"]) if coin else plain(ONE),
        }
        if self._book is not None:
            interval_ms, rest_ms = int(self._book["interval_ms"]), int(self._book["rest_ms"])
            terms["book"] = {"interval_ms": interval_ms, "until_ms": matures + rest_ms}
        return terms


def _looked_at(order: VenueOrder) -> bool:
    """Whether this question still finds no trace; it counts."""
    hidden = VenueOrder.objects.filter(pk=order.pk, hidden_looks__gt=0)
    return bool(order.hidden_looks and hidden.update(hidden_looks=F("hidden_looks") - 1))


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
