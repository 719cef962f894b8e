"""Portfolio arithmetic: positions from fills, ledger legs, equity, exposure. Spot only: no position is ever short."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import Final

from apps.engine.money import ZERO, exact, fee_of, notional, to_money

PRICE_STEP: Final = Decimal("1e-12")


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class LegKind(StrEnum):
    CASH = "cash"
    ASSET = "asset"
    FEE = "fee"
    VENUE = "venue"
    CAPITAL = "capital"


class PortfolioError(ValueError):
    """A fill that cannot be ours: it would sell more than the position holds, or has no quantity."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. `price` in quote per base, `quantity` in base, `fee` in `fee_currency`; time in event ms."""

    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    ts_event: int


@dataclass(frozen=True, slots=True)
class Holding:
    """A position's numbers. `entry_price` is the average over all entry fills, `realized` before fees.

    `cost` is what the quantity held now was bought for: so `realized` and `cost` add up exactly to what was paid and
    received. `fees` are in quote currency, as all of these; fees in coins without a price stand in `unvalued`, by coin.
    """

    quantity: Decimal = ZERO
    entry_quantity: Decimal = ZERO
    entry_price: Decimal = ZERO
    realized: Decimal = ZERO
    fees: Decimal = ZERO
    cost: Decimal = ZERO
    unvalued: tuple[tuple[str, Decimal], ...] = ()


@dataclass(frozen=True, slots=True)
class Leg:
    kind: LegKind
    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Promise:
    """What an order that has not ended may still cost: `amount` of `currency`, `notional` counted as exposure."""

    currency: str
    amount: Decimal
    notional: Decimal


@exact
def average_price(quantity: Decimal, average: Decimal, more: Decimal, price: Decimal) -> Decimal:
    """The average of `quantity` at `average` and `more` at `price`, rounded to 12 places."""
    cost = average * quantity + price * more
    return (cost / (quantity + more)).quantize(PRICE_STEP, rounding=ROUND_HALF_EVEN)


@exact
def after_fill(holding: Holding, fill: Fill, *, base: str, quote: str, fee_price: Decimal | None = None) -> Holding:
    """The holding after a fill: a buy adds at an average price, a sell realizes against what the quantity has cost.

    A fee in `base` is taken from what is held, as far as that goes; `fee_price` values one in a third coin, in quote
    currency per coin. Raises `PortfolioError` if the fill has no quantity or sells more than is held.
    """
    if fill.quantity <= 0:
        raise PortfolioError(f"a fill of {fill.quantity}")
    if fill.side is Side.SELL and fill.quantity > holding.quantity:
        raise PortfolioError(f"a sale of {fill.quantity} from a position of {holding.quantity}")
    fee = fee_value(fill, base=base, quote=quote, fee_price=fee_price)
    valued = replace(
        holding,
        fees=holding.fees + (fee or ZERO),
        unvalued=holding.unvalued if fee is not None else _more(holding.unvalued, fill.fee_currency, fill.fee),
    )
    in_base = fill.fee if fill.fee_currency == base else ZERO
    return _bought(valued, fill, in_base) if fill.side is Side.BUY else _sold(valued, fill, in_base)


def _bought(holding: Holding, fill: Fill, in_base: Decimal) -> Holding:
    got = fill.quantity - min(in_base, fill.quantity)
    return replace(
        holding,
        quantity=holding.quantity + got,
        entry_quantity=holding.entry_quantity + fill.quantity,
        entry_price=average_price(holding.entry_quantity, holding.entry_price, fill.quantity, fill.price),
        cost=holding.cost + notional(got, fill.price),
    )


def _sold(holding: Holding, fill: Fill, in_base: Decimal) -> Holding:
    """A fee in base leaves the position as if it had been sold, and is a fee of that worth."""
    gone = min(fill.quantity + in_base, holding.quantity)
    left = holding.quantity - gone
    cost = to_money(holding.cost * gone / holding.quantity) if left else holding.cost
    gain = notional(gone, fill.price) - cost
    return replace(holding, quantity=left, realized=holding.realized + gain, cost=holding.cost - cost)


@exact
def fee_value(fill: Fill, *, base: str, quote: str, fee_price: Decimal | None = None) -> Decimal | None:
    """What a fill's fee is worth in quote currency. None for a third coin without a price: it is not guessed."""
    if fill.fee_currency == quote or not fill.fee:
        return fill.fee
    if fill.fee_currency == base:
        return notional(fill.fee, fill.price)
    return None if fee_price is None else notional(fill.fee, fee_price)


def _more(amounts: tuple[tuple[str, Decimal], ...], currency: str, amount: Decimal) -> tuple[tuple[str, Decimal], ...]:
    known = dict(amounts)
    known[currency] = known.get(currency, ZERO) + amount
    return tuple(sorted(known.items()))


@exact
def legs_of(fill: Fill, *, base: str, quote: str) -> tuple[Leg, ...]:
    """The ledger legs of a fill. Per currency they sum to zero: what we give, the venue gets.

    A fee in the quote currency is paid from cash; in any other coin it is paid from that coin's balance.
    """
    sign = 1 if fill.side is Side.BUY else -1
    cost, quantity = sign * notional(fill.quantity, fill.price), sign * fill.quantity
    legs = [
        Leg(LegKind.CASH, quote, -cost),
        Leg(LegKind.VENUE, quote, cost),
        Leg(LegKind.ASSET, base, quantity),
        Leg(LegKind.VENUE, base, -quantity),
    ]
    if fill.fee:
        paid_from = LegKind.CASH if fill.fee_currency == quote else LegKind.ASSET
        legs += [Leg(paid_from, fill.fee_currency, -fill.fee), Leg(LegKind.FEE, fill.fee_currency, fill.fee)]
    return tuple(legs)


@exact
def deposit_legs(currency: str, amount: Decimal) -> tuple[Leg, ...]:
    return (Leg(LegKind.CASH, currency, amount), Leg(LegKind.CAPITAL, currency, -amount))


@exact
def cash_change(legs: Iterable[Leg]) -> Decimal:
    return sum((leg.amount for leg in legs if leg.kind is LegKind.CASH), ZERO)


@exact
def opening_promise(quantity: Decimal, limit_price: Decimal, taker_fee: Decimal, quote: str) -> Promise:
    """What a buy of `quantity` may cost at worst: its limit price and the taker's fee on it."""
    worst = notional(quantity, limit_price)
    return Promise(quote, worst + fee_of(worst, taker_fee), worst)


def reducing_promise(quantity: Decimal, base: str) -> Promise:
    return Promise(base, quantity, ZERO)


@exact
def worth(holdings: Iterable[tuple[str, Decimal]], marks: Mapping[str, Decimal]) -> tuple[Decimal, tuple[str, ...]]:
    """The value of (symbol, quantity) pairs at `marks`, and the symbols that have none and were left out."""
    value, unvalued = ZERO, []
    for symbol, quantity in holdings:
        if symbol in marks:
            value += notional(quantity, marks[symbol])
        elif quantity:
            unvalued.append(symbol)
    return value, tuple(sorted(set(unvalued)))


@exact
def stop_and_target(entry: Decimal, stop_loss_pct: Decimal, take_profit_pct: Decimal) -> tuple[Decimal, Decimal]:
    """Stop and target price of a long position, 12 places. The percentages are positive."""
    stop = (entry * (100 - stop_loss_pct) / 100).quantize(PRICE_STEP, rounding=ROUND_HALF_EVEN)
    target = (entry * (100 + take_profit_pct) / 100).quantize(PRICE_STEP, rounding=ROUND_HALF_EVEN)
    return stop, target
