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
    """A position's numbers. `entry_price` is the average over all entry fills, `realized` before fees."""

    quantity: Decimal = ZERO
    entry_quantity: Decimal = ZERO
    entry_price: Decimal = ZERO
    realized: Decimal = ZERO
    fees: Decimal = ZERO


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
def after_fill(holding: Holding, fill: Fill) -> Holding:
    """The holding after a fill: a buy adds at an average price, a sell realizes against it.

    Raises `PortfolioError` if the fill has no quantity or sells more than is held.
    """
    if fill.quantity <= 0:
        raise PortfolioError(f"a fill of {fill.quantity}")
    fees = holding.fees + fill.fee
    if fill.side is Side.BUY:
        bought = holding.entry_quantity + fill.quantity
        average = average_price(holding.entry_quantity, holding.entry_price, fill.quantity, fill.price)
        return replace(
            holding, quantity=holding.quantity + fill.quantity, entry_quantity=bought, entry_price=average, fees=fees
        )
    if fill.quantity > holding.quantity:
        raise PortfolioError(f"a sale of {fill.quantity} from a position of {holding.quantity}")
    gain = to_money((fill.price - holding.entry_price) * fill.quantity)
    return replace(holding, quantity=holding.quantity - fill.quantity, realized=holding.realized + gain, fees=fees)


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
