"""Paper fills: an order meets the quote in force when it matures.

An order triggered at t matures at T = t + latency, both in event time, and trades against the last quote with an event
time of at most T: a buy at the ask, a sale at the bid, moved against us by the slippage and rounded against us to the
tick. The whole order fills at once or not at all (`match`). Where a book is asked for, it fills in parts instead, look
by look, each no larger than the top of the book (`match_part`). Slippage is computed in whole numbers, so the price is
the same on every machine and for every reader of the formula.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal
from enum import StrEnum
from typing import Final

from apps.engine.money import FEE_STEP, ONE, ZERO, exact, fee_of, notional
from apps.engine.portfolio import Fill, Side
from apps.engine.sizing import step_of

BASIS_POINTS: Final = 10_000
BPS_STEP: Final = Decimal("1e-6")


class Liquidity(StrEnum):
    """Whether our order met one that waited (taker), or waited itself (maker)."""

    MAKER = "maker"
    TAKER = "taker"


class Expiry(StrEnum):
    """Why a paper order ended without a fill."""

    LIMIT = "LIMIT"
    NO_QUOTE = "NO_QUOTE"
    FEED_GAP = "FEED_GAP"
    TIME = "TIME"


@dataclass(frozen=True, slots=True)
class TopOfBook:
    """Best bid and ask with their sizes (quote and base units), in force from `ts_event` on."""

    ts_event: int
    bid: Decimal
    bid_quantity: Decimal
    ask: Decimal
    ask_quantity: Decimal


@dataclass(frozen=True, slots=True)
class MaturedOrder:
    side: Side
    quantity: Decimal
    limit_price: Decimal
    ts_mature: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What the paper venue charges. Slippage in basis points, the fees as fractions of the notional.

    `coin_price`: quote units that one unit of `fee_currency` is worth; 1 for the quote currency itself.
    """

    price_decimals: int
    slippage_base_bps: Decimal
    slippage_impact_bps: Decimal
    taker_fee: Decimal
    fee_currency: str
    maker_fee: Decimal = ZERO
    coin_price: Decimal = ONE


@dataclass(frozen=True, slots=True)
class Expired:
    reason: Expiry
    words: str


@dataclass(frozen=True, slots=True)
class Part:
    """A fill of an order's rest, or of some of it."""

    fill: Fill
    liquidity: Liquidity


@dataclass(frozen=True, slots=True)
class Rests:
    """Nothing was to be had. `queued`: the market was beyond the limit, so the order waits in the book as a maker."""

    queued: bool


def quote_in_force(quotes: Iterable[TopOfBook], ts_event: int) -> TopOfBook | None:
    """The quote with the latest event time at or before `ts_event`; of equal times the last in the given order."""
    found: TopOfBook | None = None
    for quote in quotes:
        if quote.ts_event <= ts_event and (found is None or quote.ts_event >= found.ts_event):
            found = quote
    return found


def slippage_bps(quantity: Decimal, available: Decimal, terms: Terms) -> tuple[int, int]:
    """Base slippage, plus the impact in proportion to the part of the order that the top of the book does not hold.

    Basis points as numerator and denominator, not reduced; the denominator is above zero.
    """
    wanted, wanted_unit = quantity.as_integer_ratio()
    there, there_unit = available.as_integer_ratio()
    base, base_unit = terms.slippage_base_bps.as_integer_ratio()
    impact, impact_unit = terms.slippage_impact_bps.as_integer_ratio()
    whole = wanted * there_unit
    missing = min(max(whole - there * wanted_unit, 0), whole)
    return base * impact_unit * whole + impact * base_unit * missing, base_unit * impact_unit * whole


def fill_price(quote: TopOfBook, order: MaturedOrder, terms: Terms) -> Decimal:
    """The side's quote moved against us and rounded against us; a sale never falls below one tick."""
    buying = order.side is Side.BUY
    best, available = (quote.ask, quote.ask_quantity) if buying else (quote.bid, quote.bid_quantity)
    bps, one = slippage_bps(order.quantity, available, terms)
    tick = step_of(terms.price_decimals)
    price, price_unit = best.as_integer_ratio()
    step, step_unit = tick.as_integer_ratio()
    moved = price * step_unit * (BASIS_POINTS * one + (bps if buying else -bps))
    unit = price_unit * step * BASIS_POINTS * one
    return Decimal(-(-moved // unit) if buying else max(moved // unit, 1)) * tick


@exact
def slippage_against(side: Side, price: Decimal, reference: Decimal) -> Decimal:
    """How far `price` lies from `reference` (above zero), in basis points, six places; above zero is against us."""
    distance = (price - reference) if side is Side.BUY else (reference - price)
    return (distance / reference * BASIS_POINTS).quantize(BPS_STEP, rounding=ROUND_HALF_EVEN)


@exact
def match(quote: TopOfBook | None, order: MaturedOrder, terms: Terms) -> Fill | Expired:
    """What became of an order that has matured. `quote` is the one in force then, None if there was none yet."""
    if quote is None:
        return Expired(Expiry.NO_QUOTE, "no quote was in force when the order matured")
    price = fill_price(quote, order, terms)
    if _worse(price, order):
        return Expired(
            Expiry.LIMIT, f"the price would be {price.normalize():f}, the limit is {order.limit_price.normalize():f}"
        )
    return _fill(order, price, order.quantity, terms, terms.taker_fee)


@exact
def match_part(quote: TopOfBook | None, order: MaturedOrder, terms: Terms, *, rested: bool) -> Part | Rests:
    """One look of an order whose rest is `order.quantity`: it gets what the top of the book holds, at most.

    An order that has waited (`rested`) is met at its own limit price and pays the maker's fee; one that comes to the
    market pays the taker's and the base slippage.
    """
    if quote is None:
        return Rests(queued=False)
    best, available = (quote.ask, quote.ask_quantity) if order.side is Side.BUY else (quote.bid, quote.bid_quantity)
    quantity = min(order.quantity, available)
    if quantity <= 0 or _worse(best, order):
        return Rests(queued=_worse(best, order))
    if rested:
        return Part(_fill(order, order.limit_price, quantity, terms, terms.maker_fee), Liquidity.MAKER)
    price = fill_price(quote, replace(order, quantity=quantity), terms)
    if _worse(price, order):
        return Rests(queued=True)
    return Part(_fill(order, price, quantity, terms, terms.taker_fee), Liquidity.TAKER)


def _worse(price: Decimal, order: MaturedOrder) -> bool:
    return price > order.limit_price if order.side is Side.BUY else price < order.limit_price


def _fill(order: MaturedOrder, price: Decimal, quantity: Decimal, terms: Terms, rate: Decimal) -> Fill:
    fee = fee_of(notional(quantity, price), rate)
    if terms.coin_price != ONE:
        fee = (fee / terms.coin_price).quantize(FEE_STEP, ROUND_UP)
    return Fill(order.side, price, quantity, fee, terms.fee_currency, order.ts_mature)
