"""The paper venue's matching: orders of one shard that have matured meet the quote that was in force then."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from apps.engine.matching import Expired, Expiry, MaturedOrder, TopOfBook, match, quote_in_force
from apps.engine.model import MINUTE_MS, Scale
from apps.engine.portfolio import Fill, Side
from apps.execution.models import VenueOrder, VenueTrade
from apps.execution.venues.paper import quote_as_json, quote_from_json, terms_of
from apps.execution.venues.quotes import Reader, Search, Wanted, top_of_book
from apps.market.models import Coverage, ShardCursor
from apps.market.selectors import reached_ms
from apps.outbox.transactions import retry_tx

log = logging.getLogger(__name__)

Outcome = tuple[Fill | Expired, TopOfBook | None]


def match_shard(*, epoch: int, shard: int, reader: Reader) -> list[str]:
    """End every open order of the shard whose quote is final. Returns their client order ids.

    Any number of processes may do this at once: an order is ended once, by whoever locks its row first.
    """
    ready = matured(epoch=epoch, shard=shard)
    if not ready:
        return []
    gaps = _unproven(epoch, ready)
    searched = [order for order in ready if order.pk not in gaps]
    found = reader.find([_wanted(order) for order in searched]) if searched else {}
    outcomes = {order.pk: outcome_of(order, gaps.get(order.pk), found.get(order.client_order_id)) for order in ready}
    return retry_tx(lambda: _end(outcomes))


def matured(*, epoch: int, shard: int) -> list[VenueOrder]:
    """Open orders whose maturity the shard's watermark has passed; the market's, where nothing covers the shard."""
    own = ShardCursor.objects.filter(epoch_id=epoch, shard=shard).values_list("watermark_ms", flat=True).first()
    reached = reached_ms(epoch_id=epoch) if own is None else own
    if reached is None:
        return []
    open_orders = VenueOrder.objects.filter(epoch_id=epoch, shard=shard, status=VenueOrder.Status.OPEN)
    return list(open_orders.filter(ts_mature__lte=reached).order_by("id"))


def _wanted(order: VenueOrder) -> Wanted:
    return Wanted(order.client_order_id, order.symbol, order.scan_from, order.ts_trigger, order.ts_mature)


def _unproven(epoch: int, orders: Iterable[VenueOrder]) -> dict[int, str]:
    """Why the minute in which an order matures is UNPROVEN, by order."""
    minutes = {order.pk: (order.instrument_id, order.ts_mature // MINUTE_MS) for order in orders}
    rows = Coverage.objects.filter(
        epoch_id=epoch,
        status=Coverage.Status.UNPROVEN,
        instrument_id__in={instrument for instrument, _ in minutes.values()},
        minute__in={minute for _, minute in minutes.values()},
    ).values_list("instrument_id", "minute", "reason")
    reasons = {(instrument, minute): reason for instrument, minute, reason in rows}
    return {pk: reasons[place] for pk, place in minutes.items() if place in reasons}


def outcome_of(order: VenueOrder, gap: str | None, search: Search | None) -> Outcome:
    """Filled or expired, and the quote that it was judged by."""
    if gap is not None:
        return Expired(Expiry.FEED_GAP, f"the minute in which it matured is UNPROVEN ({gap})"), None
    if search is None:
        return Expired(Expiry.FEED_GAP, "the stream around its maturity was lost, or its symbol is not delivered"), None
    quotes = [] if order.known_quote is None else [quote_from_json(order.known_quote)]
    if search.quote is not None:
        scale = Scale(order.terms["price_decimals"], order.terms["quantity_decimals"])
        quotes.append(top_of_book(search.quote, scale))
    quote = quote_in_force(quotes, order.ts_mature)
    matured_order = MaturedOrder(Side(order.side), order.quantity, order.limit_price, order.ts_mature)
    return match(quote, matured_order, terms_of(order)), quote


def _end(outcomes: dict[int, Outcome]) -> list[str]:
    """Write the outcomes of orders that are still open."""
    open_orders = VenueOrder.objects.select_for_update().filter(pk__in=outcomes, status=VenueOrder.Status.OPEN)
    ended = []
    for order in open_orders.order_by("id"):
        outcome, quote = outcomes[order.pk]
        if isinstance(outcome, Fill):
            _fill(order, outcome, quote)
        else:
            order.status = VenueOrder.Status.EXPIRED
            order.reason = f"{outcome.reason}: {outcome.words}"[:200]
            log.info("paper order %s expired: %s", order.client_order_id, order.reason)
        order.save(update_fields=["status", "reason", "filled_quantity"])
        ended.append(order.client_order_id)
    return ended


def _fill(order: VenueOrder, fill: Fill, quote: TopOfBook | None) -> None:
    VenueTrade.objects.create(
        order=order,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        ts_event=fill.ts_event,
        quote={} if quote is None else quote_as_json(quote),
    )
    order.filled_quantity = order.quantity
    order.status = VenueOrder.Status.FILLED
