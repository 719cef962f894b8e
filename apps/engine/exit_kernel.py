"""The search for a position's exit over columns of trades: compiled, one for live, paper and backtest.

What ends a position, in the order in which it is asked of each trade (rows from `start` on):

    due       ts >= due_ts: the time was over before this trade, so it is asked first
    (trades with ts <= opened_ts are passed over: they were before the fill)
    (a price that nothing confirms is passed over: see `apps.engine.ticks`; the fill's own price is believed)
    (trades with ts < retry_ts only raise `high`: an earlier exit failed, and would fail again before that time)
    stop      price <= stop
    trailing  price <= high x (1 - trailing), high = the highest price since the fill, before this trade
    target    price >= target

An exit signal of the strategy comes after all of these: on its own trade, or if nothing confirms that one, on the next
trade that is believed, because some strategies say it once. Everything is whole numbers, so the result
is exact: the trailing stop in ticks is the floor of high x (1 - trailing), and no whole price lies between the two.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, NamedTuple

import numba
import numpy as np

from apps.engine.ticks import NOBODY, Suspects, jumps, suspect

NOT_FOUND: Final = 0
STOPPED: Final = 1
TRAILED: Final = 2
TARGET_REACHED: Final = 3
DUE: Final = 4
CALLED: Final = 5
REASONS: Final = ("", "stop_loss", "trailing_stop", "take_profit", "max_holding", "exit_signal")  # by code

TRAILING_ONE: Final = 100_000_000  # a trailing stop is given in parts of this: per cent with six decimals are exact
NO_STOP: Final = 0
NO_TARGET: Final = 0
NEVER_DUE: Final = 2**63 - 1
CALM: Final = 32  # two prices within a 32nd of a third are at most a tenth apart, in whole ticks too


def trailing_parts(trailing_stop_pct: Decimal) -> int:
    """Per cent as parts of `TRAILING_ONE`; 0 is off. Raises ValueError beyond 0..100 or six decimals."""
    parts = trailing_stop_pct * (TRAILING_ONE // 100)
    if parts != int(parts) or not 0 <= parts <= TRAILING_ONE:
        raise ValueError(f"trailing_stop_pct={trailing_stop_pct} is not from 0 to 100 with at most six decimals")
    return int(parts)


class Bounds(NamedTuple):
    """What ends a position. `stop` and `target` are ticks, 0 is none; `trailing` is parts of `TRAILING_ONE`, 0 is off.

    Times are event times in ms: of the fill, from which the position is due, from which an exit may be found (0: any).
    """

    opened_ts: int
    stop: int
    target: int
    trailing: int
    due_ts: int
    retry_ts: int = 0


ENDLESS: Final = Bounds(0, NO_STOP, NO_TARGET, 0, NEVER_DUE, NEVER_DUE)


class Watch(NamedTuple):
    """What a search has seen, in ticks: the highest confirmed price since the fill (0: none yet), the confirmed price
    (0: not known, then the first trade after the fill is believed), the prints that it does not believe, and when the
    strategy said last that the position is to be closed (ms, 0: it has not), if that is still to be done."""

    high: int
    confirmed: int
    suspects: Suspects
    called_ts: int = 0


def watch_from(entry: int) -> Watch:
    """A search that begins at a fill at `entry` ticks."""
    return Watch(0, entry, NOBODY)


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
def _judged(at: int, value: int, bounds: Bounds, trail: int, ceiling: int, called_ts: int) -> int:
    """The code of what a believed trade ends the position with."""
    if at < bounds.retry_ts:
        return NOT_FOUND
    if value <= bounds.stop:
        return STOPPED
    if value <= trail:
        return TRAILED
    if value >= ceiling:
        return TARGET_REACHED
    return CALLED if called_ts > 0 and called_ts >= bounds.retry_ts else NOT_FOUND


@numba.njit(cache=True)
def find_exit(ts: Any, price: Any, start: int, bounds: Bounds, watch: Watch) -> tuple[int, int, Watch]:
    """The first exit in rows `start`.. of the int64 columns `ts` (ms) and `price` (ticks): (row, code, watch).

    Without one: (number of rows, NOT_FOUND, watch); give `watch` back with the next rows to go on. With one, `watch` is
    as of before its row. A DUE row is the first trade that was too late; the exit itself is at `due_ts`, at the price
    that was confirmed before. Any other exit is at the price of its row, which is confirmed with it.

    Most trades change nothing but the confirmed price: those between `calm_low` and `calm_high` are no exit, no new
    high and no jump from one another, so nothing else is asked of them.
    """
    ceiling = bounds.target if bounds.target > 0 else NEVER_DUE
    high, confirmed, suspects, called_ts = watch
    trail = trailing_stop(high, bounds.trailing)
    calm_low, calm_high = 1, 0
    for row in range(start, ts.shape[0]):
        at = ts[row]
        if at >= bounds.due_ts:
            return row, DUE, Watch(high, confirmed, suspects, called_ts)
        if at <= bounds.opened_ts:
            continue
        value = price[row]
        if calm_low <= value <= calm_high:
            confirmed = value
            continue
        if confirmed > 0 and jumps(value, confirmed):
            sure, still = suspect(suspects, at, value)
            if not sure:
                suspects = still
                calm_low, calm_high = 1, 0
                continue
        code = _judged(at, value, bounds, trail, ceiling, called_ts)
        if code != NOT_FOUND:
            return row, code, Watch(high, confirmed, suspects, called_ts)
        confirmed, suspects = value, NOBODY
        if value > high:
            high = value
            trail = trailing_stop(high, bounds.trailing)
        calm_low = max(bounds.stop + 1, trail + 1, value - value // CALM)
        calm_high = min(ceiling - 1, high, value + value // CALM)
    return ts.shape[0], NOT_FOUND, Watch(high, confirmed, suspects, called_ts)


def price_in_force(watch: Watch, last_price: int) -> int:
    """The confirmed price (ticks) after the trades that left `watch` behind, the last of them at `last_price`."""
    return watch.confirmed if watch.suspects.run else last_price


def warm_up() -> None:
    """Load the compiled search, or compile it."""
    column = np.zeros(1, dtype=np.int64)
    find_exit(column, column, 0, ENDLESS, watch_from(0))
