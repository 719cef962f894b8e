"""A paper fill worked out again from the venue's own books: the quote that it met, and the terms of its order."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from apps.engine.matching import Liquidity, MaturedOrder, Terms, fill_price
from apps.engine.money import exact, fee_of, notional
from apps.engine.portfolio import Side
from apps.execution.models import Trade, VenueOrder, VenueTrade
from apps.execution.venues.books import quote_from_json, terms_of


@dataclass(frozen=True, slots=True)
class PaperAgain:
    """`prices`: what the fill may have cost, the usual one first. `fee` is None where a fee was split or converted."""

    prices: tuple[Decimal, ...]
    fee: Decimal | None


def paper_again(trade: Trade) -> PaperAgain | None:
    """None if the venue's books have the fill no more, or without its quote.

    A maker is met at its limit price. A taker pays for what it took of the book, which is the fill, or the whole
    order where the venue was told to report the fill in two parts.
    """
    row = VenueTrade.objects.filter(pk=trade.trade_id).select_related("order").first() if _numbered(trade) else None
    if row is None or not row.quote:
        return None
    order, terms = row.order, terms_of(row.order)
    if row.liquidity == Liquidity.MAKER.value:
        return PaperAgain((order.limit_price,), _fee(trade, terms, terms.maker_fee))
    quote = quote_from_json(row.quote)
    sizes = dict.fromkeys((trade.quantity, order.quantity))
    prices = tuple(fill_price(quote, _asked(order, trade, size), terms) for size in sizes)
    whole = trade.quantity == order.quantity or "book" in order.terms
    return PaperAgain(prices, _fee(trade, terms, terms.taker_fee) if whole else None)


def _numbered(trade: Trade) -> bool:
    return trade.trade_id.isascii() and trade.trade_id.isdigit()


def _asked(order: VenueOrder, trade: Trade, quantity: Decimal) -> MaturedOrder:
    return MaturedOrder(Side(trade.side), quantity, order.limit_price, trade.ts_event)


@exact
def _fee(trade: Trade, terms: Terms, rate: Decimal) -> Decimal | None:
    return fee_of(notional(trade.quantity, trade.price), rate) if terms.coin_price == 1 else None
