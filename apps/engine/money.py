"""Exact decimal arithmetic of prices, quantities and money.

Python's default context keeps 28 digits, less than a product of two of our columns may have. Functions that compute
with money run in a context of 80 digits, more than any sum of such products needs: rounding happens where it is
written (`to_money`, `fee_of`) and nowhere else. The four that everything calls name the context at every operation;
entering one costs more than what they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import (
    ROUND_HALF_EVEN,
    ROUND_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    getcontext,
    localcontext,
)
from functools import reduce, wraps
from typing import Final, ParamSpec, TypeVar

MONEY_STEP: Final = Decimal("1e-18")
FEE_STEP: Final = Decimal("1e-8")
ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)

_DIGITS: Final = 80
_WIDE: Final = Context(prec=_DIGITS, traps=[InvalidOperation, DivisionByZero, Overflow])

Args = ParamSpec("Args")
Result = TypeVar("Result")


def exact(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """Run `function` with 80 digits, whatever context its caller has."""

    @wraps(function)
    def run(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        if getcontext().prec == _DIGITS:  # called by one of these: entering again costs more than most sums
            return function(*args, **kwargs)
        with localcontext(_WIDE):
            return function(*args, **kwargs)

    return run


def to_money(amount: Decimal) -> Decimal:
    """`amount` as the ledger keeps it: 18 places, half to even."""
    return amount.quantize(MONEY_STEP, ROUND_HALF_EVEN, _WIDE)


def notional(quantity: Decimal, price: Decimal) -> Decimal:
    """What `quantity` costs at `price`, quote currency."""
    return _WIDE.multiply(quantity, price).quantize(MONEY_STEP, ROUND_HALF_EVEN, _WIDE)


def fee_of(amount: Decimal, rate: Decimal) -> Decimal:
    """The fee on a notional, rounded up to eight places."""
    return _WIDE.multiply(amount, rate).quantize(FEE_STEP, ROUND_UP, _WIDE)


def total(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(_WIDE.add, amounts, ZERO)
