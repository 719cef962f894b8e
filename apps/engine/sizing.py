"""How large an order is, and the worst price that it accepts.

    fixed_fraction   quantity = order_size x equity / price
    fixed_notional   quantity = order_notional / price
    volatility       quantity = risk_fraction x equity / (volatility_multiple x ATR)

The last is the fixed risk of the Turtle rules (C. M. Faith, The Original Turtle Trading Rules, 2003, on sizing): a
move of `volatility_multiple` average true ranges against the order costs `risk_fraction` of the equity. ATR is the mean
true range of the last 14 closed minutes, with which Wilder's average begins (New Concepts in Technical Trading
Systems, 1978). A quiet market would ask for any size, so this one is also kept within the limits of a single order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import pairwise
from typing import Final

from apps.engine.money import MONEY_STEP, ONE, ZERO, exact
from apps.engine.risk.values import Limits, Sizing, fraction_of

ATR_MINUTES: Final = 14


def step_of(decimals: int) -> Decimal:
    """The smallest change of a number with this many decimals: a tick of a price, a step of a quantity."""
    return Decimal(1).scaleb(-decimals)


@dataclass(frozen=True, slots=True)
class Size:
    """A quantity in whole steps, 0 if that is less than one. `words`: why none could be worked out."""

    quantity: Decimal
    words: str = ""


@exact
def opening_size(
    *,
    limits: Limits,
    equity: Decimal,
    price: Decimal,
    limit_price: Decimal,
    quantity_decimals: int,
    notional_max: Decimal,
    volatility: Decimal | None = None,
    order_cap: Decimal | None = None,
) -> Size:
    """The most whole steps that the limits' sizing asks for at `price`.

    At `limit_price`, the most it may cost, the order stays within the exchange's `notional_max`. `volatility` is the
    average true range in the price's unit, None if it is unknown; `order_cap` is the hard cap in quote currency.
    """
    if price <= 0 or limit_price <= 0 or equity <= 0:
        return Size(ZERO)
    ceiling = notional_max
    if limits.sizing is Sizing.VOLATILITY:
        if volatility is None:
            return Size(ZERO, f"its average true range over {ATR_MINUTES} minutes is not known yet")
        at_risk = limits.volatility_multiple * volatility
        ceiling = min(ceiling, _largest_order(limits, equity, order_cap))
        wanted = limits.risk_fraction * equity / at_risk if at_risk > 0 else ceiling / limit_price
    elif limits.sizing is Sizing.FIXED_NOTIONAL:
        wanted = limits.order_notional / price
    else:
        wanted = limits.order_size * equity / price
    return Size(min(wanted, ceiling / limit_price).quantize(step_of(quantity_decimals), rounding=ROUND_FLOOR))


def _largest_order(limits: Limits, equity: Decimal, order_cap: Decimal | None) -> Decimal:
    """What one order may cost, rounded as the checks round what it costs."""
    limit = fraction_of(limits.order_notional_max, equity)
    return (limit if order_cap is None else min(limit, order_cap)).quantize(MONEY_STEP, rounding=ROUND_FLOOR)


@exact
def average_true_range(bars: Sequence[tuple[Decimal, Decimal, Decimal]]) -> Decimal | None:
    """Of (high, low, close) of consecutive minutes, oldest first: the mean over the last 14; None if there are fewer.

    The true range of a minute also spans the way from the close before it, so one minute more is needed.
    """
    if len(bars) <= ATR_MINUTES:
        return None
    ranges = ZERO
    newest = bars[-ATR_MINUTES - 1 :]
    for (_, _, before), (high, low, _) in pairwise(newest):
        ranges += max(high, before) - min(low, before)
    return ranges / ATR_MINUTES


@exact
def opening_limit(price: Decimal, collar: Decimal, price_decimals: int) -> Decimal:
    """The highest price at which a buy is still wanted: the signal's price plus the collar, down to the tick."""
    return (price * (ONE + collar)).quantize(step_of(price_decimals), rounding=ROUND_FLOOR)


@exact
def exit_limit(reference: Decimal, exit_band: Decimal, price_decimals: int) -> Decimal:
    """The lowest price at which an exit is still sold: the reference less the band, up to the tick."""
    return (reference * (ONE - exit_band)).quantize(step_of(price_decimals), rounding=ROUND_CEILING)
