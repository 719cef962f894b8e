"""The search for a position's exit over columns of trades: compiled, one for live, paper and backtest.

What ends a position, in the order in which it is asked of each trade (rows from `start` on):

    due       ts >= due_ts: the time was over before this trade, so it is asked first
    (trades with ts <= opened_ts are passed over: they were before the fill)
    stop      price <= stop
    trailing  price <= high x (1 - trailing), high = the highest price since the fill, before this trade
    target    price >= target

An exit signal of the strategy on the same trade comes after all of these. Everything is whole numbers, so the result
is exact: the trailing stop in ticks is the floor of high x (1 - trailing), and no whole price lies between the two.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import numba
import numpy as np

NOT_FOUND: Final = 0
STOPPED: Final = 1
TRAILED: Final = 2
TARGET_REACHED: Final = 3
DUE: Final = 4
REASONS: Final = ("", "stop_loss", "trailing_stop", "take_profit", "max_holding")  # by code

TRAILING_ONE: Final = 100_000_000  # a trailing stop is given in parts of this: per cent with six decimals are exact
NO_STOP: Final = 0
NO_TARGET: Final = 0
NEVER_DUE: Final = 2**63 - 1


def trailing_parts(trailing_stop_pct: Decimal) -> int:
    """Per cent as parts of `TRAILING_ONE`; 0 is off. Raises ValueError beyond 0..100 or six decimals."""
    parts = trailing_stop_pct * (TRAILING_ONE // 100)
    if parts != int(parts) or not 0 <= parts <= TRAILING_ONE:
        raise ValueError(f"trailing_stop_pct={trailing_stop_pct} is not from 0 to 100 with at most six decimals")
    return int(parts)


@numba.njit(cache=True)
def trailing_stop(high: int, trailing: int) -> int:
    """The highest price (ticks) at which the trailing stop is reached; 0 (never) while nothing is known or it is off.

    Split so that no product leaves 64 bits: with high = q x ONE + r, floor(high x keep / ONE) is q x keep +
    r x keep // ONE.
    """
    if trailing <= 0 or high <= 0:
        return 0
    keep = TRAILING_ONE - trailing
    return high // TRAILING_ONE * keep + high % TRAILING_ONE * keep // TRAILING_ONE


@numba.njit(cache=True)
def find_exit(
    ts: Any,
    price: Any,
    start: int,
    opened_ts: int,
    stop: int,
    target: int,
    trailing: int,
    due_ts: int,
    high: int,
) -> tuple[int, int, int]:
    """The first exit in rows `start`.. of the int64 columns `ts` (ms) and `price` (ticks): (row, code, high).

    Without one: (number of rows, NOT_FOUND, high); give `high` back with the next rows to go on. `stop` and `target`
    are ticks, 0 is none; `trailing` is parts of `TRAILING_ONE`, 0 is off; `due_ts` may be `NEVER_DUE`. `high` begins as
    the entry's price in ticks, or 0: then the first trade after the fill begins it.
    A DUE row is the first trade that was too late; the exit itself is at `due_ts`, at the price of the trade before.
    """
    ceiling = target if target > 0 else NEVER_DUE
    trail = trailing_stop(high, trailing)
    for row in range(start, ts.shape[0]):
        at = ts[row]
        if at >= due_ts:
            return row, DUE, high
        value = price[row]
        if at > opened_ts:
            if value <= stop:
                return row, STOPPED, high
            if value <= trail:
                return row, TRAILED, high
            if value >= ceiling:
                return row, TARGET_REACHED, high
            if value > high:
                high = value
                if trailing > 0:
                    trail = trailing_stop(high, trailing)
    return ts.shape[0], NOT_FOUND, high


def warm_up() -> None:
    """Load the compiled search, or compile it."""
    column = np.zeros(1, dtype=np.int64)
    find_exit(column, column, 0, 0, 0, 0, 0, NEVER_DUE, 0)
