"""How large an order is, and the worst price that it accepts."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from apps.engine.money import ONE, ZERO, exact


def step_of(decimals: int) -> Decimal:
    """The smallest change of a number with this many decimals: a tick of a price, a step of a quantity."""
    return Decimal(1).scaleb(-decimals)


@exact
def opening_quantity(
    *,
    order_size: Decimal,
    equity: Decimal,
    price: Decimal,
    limit_price: Decimal,
    quantity_decimals: int,
    notional_max: Decimal,
) -> Decimal:
    """`order_size` (a fraction) of `equity` at `price`, in whole steps; 0 if that is less than one step.

    At `limit_price`, the most it may cost, the order stays within the exchange's `notional_max`.
    """
    if price <= 0 or limit_price <= 0 or equity <= 0:
        return ZERO
    wanted = min(order_size * equity / price, notional_max / limit_price)
    return wanted.quantize(step_of(quantity_decimals), rounding=ROUND_FLOOR)


@exact
def opening_limit(price: Decimal, collar: Decimal, price_decimals: int) -> Decimal:
    """The highest price at which a buy is still wanted: the signal's price plus the collar, down to the tick."""
    return (price * (ONE + collar)).quantize(step_of(price_decimals), rounding=ROUND_FLOOR)


@exact
def exit_limit(reference: Decimal, exit_band: Decimal, price_decimals: int) -> Decimal:
    """The lowest price at which an exit is still sold: the reference less the band, up to the tick."""
    return (reference * (ONE - exit_band)).quantize(step_of(price_decimals), rounding=ROUND_CEILING)
