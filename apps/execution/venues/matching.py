"""The paper venue's matching: orders of one shard that have matured meet the quote that was in force then."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from apps.engine.matching import (
    Expired,
    Expiry,
    Liquidity,
    MaturedOrder,
    Part,
    Rests,
    TopOfBook,
    match,
    match_part,
    quote_in_force,
    slippage_against,
)
from apps.engine.model import MINUTE_MS, Scale
from apps.engine.portfolio import Fill, Side
from apps.engine.sizing import step_of
from apps.execution.models import VenueOrder, VenueTrade
from apps.execution.venues.books import quote_as_json, quote_from_json, terms_of
from apps.execution.venues.outcomes import DISTORTED, HALVES, Outcome
from apps.execution.venues.quotes import Reader, Search, Wanted, top_of_book
from apps.market.models import Coverage, ShardCursor
from apps.market.selectors import reached_ms
from apps.outbox.transactions import retry_tx

log = logging.getLogger(__name__)

Result = Fill | Expired | Part | Rests
Found = tuple[Result, TopOfBook | None]

ROUNDS_MAX: Final = 200
"""Looks of one call; what is left then waits for the next."""


def match_shard(*, epoch: int, shard: int, reader: Reader) -> list[str]:
    """Meet every open order of the shard with the quotes that are final. Client order ids of those that it changed.

    Any number of processes may do this at once: an order is changed once, by whoever locks its row first.
    """
    changed: dict[str, None] = {}
    for _ in range(ROUNDS_MAX):
        ready = matured(epoch=epoch, shard=shard)
        if not ready:
            break
        done, moved = _look(epoch, ready, reader)
        changed |= dict.fromkeys(done)
        if not moved:
            break
    return list(changed)


def _look(epoch: int, ready: list[VenueOrder], reader: Reader) -> tuple[list[str], bool]:
    gaps = _unproven(epoch, ready)
    searched = [order for order in ready if order.pk not in gaps]
    found = reader.find([_wanted(order) for order in searched]) if searched else {}
    outcomes = {order.pk: outcome_of(order, gaps.get(order.pk), found.get(order.client_order_id)) for order in ready}
    looks = {order.pk: order.ts_mature for order in ready}
    return retry_tx(lambda: _apply(outcomes, looks))


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


def outcome_of(order: VenueOrder, gap: str | None, search: Search | None) -> Found:
    """What this look brings, and the quote that it was judged by."""
    if gap is not None:
        return Expired(Expiry.FEED_GAP, f"the minute in which it matured is UNPROVEN ({gap})"), None
    if search is None:
        return Expired(Expiry.FEED_GAP, "the stream around its maturity was lost, or its symbol is not delivered"), None
    quotes = [] if order.known_quote is None else [quote_from_json(order.known_quote)]
    if search.quote is not None:
        scale = Scale(order.terms["price_decimals"], order.terms["quantity_decimals"])
        quotes.append(top_of_book(search.quote, scale))
    quote = quote_in_force(quotes, order.ts_mature)
    left = order.quantity - order.filled_quantity
    matured_order = MaturedOrder(Side(order.side), left, order.limit_price, order.ts_mature)
    if "book" in order.terms:
        if quote is not None and quote.ts_event == order.terms["book"].get("taken_ts"):
            return Rests(queued=False), quote  # what it held is ours already
        return match_part(quote, matured_order, terms_of(order), rested=order.rested), quote
    return match(quote, matured_order, terms_of(order)), quote


def _apply(outcomes: dict[int, Found], looks: dict[int, int]) -> tuple[list[str], bool]:
    """Write what came of orders that are still as they were; (those that ended or got a fill, whether any moved)."""
    open_orders = VenueOrder.objects.select_for_update().filter(pk__in=outcomes, status=VenueOrder.Status.OPEN)
    changed, moved = [], False
    for order in open_orders.order_by("id"):
        if order.ts_mature != looks[order.pk]:
            continue  # another process has looked for it
        moved = True
        result, quote = outcomes[order.pk]
        _take(order, result, quote)
        order.save()
        if order.status != VenueOrder.Status.OPEN or isinstance(result, Part):
            changed.append(order.client_order_id)
    return changed, moved


def _take(order: VenueOrder, result: Result, quote: TopOfBook | None) -> None:
    if isinstance(result, Expired):
        _end(order, VenueOrder.Status.EXPIRED, f"{result.reason}: {result.words}")
    elif isinstance(result, Fill):
        _fill_whole(order, result, quote)
    else:
        if isinstance(result, Rests):
            order.rested |= result.queued
        elif quote is not None:
            order.terms["book"]["taken_ts"] = quote.ts_event
            _trade(order, result.fill, quote, liquidity=result.liquidity)
        _go_on(order)


def _go_on(order: VenueOrder) -> None:
    """An order in a book: done, out of time, or up to its next look."""
    book = order.terms["book"]
    if order.filled_quantity >= order.quantity:
        order.status = VenueOrder.Status.FILLED
    elif order.ts_mature + book["interval_ms"] > book["until_ms"]:
        _end(order, VenueOrder.Status.EXPIRED, f"{Expiry.TIME}: its time in the book was over")
    else:
        order.ts_mature += book["interval_ms"]


def _end(order: VenueOrder, status: VenueOrder.Status, reason: str) -> None:
    order.status, order.reason = status, reason[:200]
    log.info("paper order %s: %s, %s", order.client_order_id, status, order.reason)


def _fill_whole(order: VenueOrder, fill: Fill, quote: TopOfBook | None) -> None:
    """The order's one fill, or what its drawn outcome makes of it."""
    outcome = Outcome(order.outcome)
    order.status = VenueOrder.Status.FILLED
    if outcome in HALVES:
        half = _parts(fill, order)[0]
        ending = VenueOrder.Status.EXPIRED if outcome is Outcome.PARTIAL_EXPIRE else VenueOrder.Status.CANCELED
        late = outcome is Outcome.LATE_FILL
        _trade(order, half, quote, hidden_looks=int(late))
        _end(order, ending, "ended by the venue")
        if late:
            order.filled_quantity = Decimal(0)  # its books lag behind as well
        return
    for part in _parts(fill, order) if outcome is Outcome.OUT_OF_ORDER else [fill]:
        _trade(order, part, quote, hidden_looks=int(outcome in DISTORTED))
    if outcome is Outcome.FILL_BEFORE_ACK:
        order.hidden_looks = 1
    if outcome is Outcome.UNKNOWN_FILL:
        _foreign(order, fill, quote)


def _parts(fill: Fill, order: VenueOrder) -> list[Fill]:
    """Two halves, a millisecond apart, the first no larger; one, if there is no half."""
    step = step_of(order.terms["quantity_decimals"])
    first = fill.quantity // 2 // step * step
    if not first:
        return [fill]
    fee = (fill.fee * first / fill.quantity).quantize(Decimal("1e-8"))
    second = replace(fill, quantity=fill.quantity - first, fee=fill.fee - fee, ts_event=fill.ts_event + 1)
    return [replace(fill, quantity=first, fee=fee), second]


def _trade(
    order: VenueOrder,
    fill: Fill,
    quote: TopOfBook | None,
    *,
    liquidity: Liquidity = Liquidity.TAKER,
    hidden_looks: int = 0,
) -> None:
    best = None if quote is None else quote.ask if fill.side is Side.BUY else quote.bid
    VenueTrade.objects.create(
        order=order,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        ts_event=fill.ts_event,
        quote={} if quote is None else quote_as_json(quote),
        liquidity=liquidity.value,
        latency_ms=fill.ts_event - order.ts_trigger,
        reference_price=best,
        slippage_bps=None if not best else slippage_against(fill.side, fill.price, best),
        hidden_looks=hidden_looks,
    )
    order.filled_quantity += fill.quantity


def _foreign(order: VenueOrder, fill: Fill, quote: TopOfBook | None) -> None:
    """A fill in the same account of an order that nobody here sent."""
    name = "x" + hashlib.sha256(order.client_order_id.encode()).hexdigest()[:24]
    part = _parts(fill, order)[0]
    other = VenueOrder.objects.create(
        owner=order.owner,
        epoch_id=order.epoch_id,
        shard=order.shard,
        client_order_id=name,
        symbol=order.symbol,
        instrument_id=order.instrument_id,
        side=order.side,
        quantity=part.quantity,
        limit_price=order.limit_price,
        ts_trigger=order.ts_trigger,
        ts_mature=order.ts_mature,
        scan_from=order.scan_from,
        terms=order.terms,
        status=VenueOrder.Status.FILLED,
    )
    _trade(other, part, quote)
    other.save()
