"""Indicators over closed bars: change, RSI, ATR, EMA, turnover and realised volatility.

Each has two forms with the same arithmetic in the same order, so they agree to the last bit:

    x_update(state, period, ...)   one more closed bar; compiled, for a strategy's `on_bar`. Gives the new value
    x(columns..., period)          the values of a whole series, one per bar

A state is a float64 array of zeros of `X_CELLS` cells (`x_cells(window)` for windows); as a field of a strategy's dtype
it is `("rsi", np.float64, (RSI_CELLS,))`. Its first cell counts the bars seen: `have(state)`. From `x_need(period)`
bars on the indicator is ready. Before that its value is NaN, which says "not known yet" and never passes a comparison.
A minute without trades is a bar that closes at the last price, with no turnover; it counts like any other.

Formulas and sources: docs/indicators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PERIOD_MAX: Final = 100_000

EMA_CELLS: Final = 2
RSI_CELLS: Final = 4
ATR_CELLS: Final = 3

# positions in a state
_HAVE: Final = 0
_LAST: Final = 1  # the last close, where one is kept
_AVERAGE: Final = 1  # of an EMA
_GAIN: Final = 2
_LOSS: Final = 3
_RANGE: Final = 2
_RING: Final = 1  # where the ring of a window begins
_SQUARES: Final = 2  # where the ring of squared returns begins


@dataclass(frozen=True, slots=True)
class Warmup:
    """How far an indicator is: it has a value from `need` bars on."""

    have: int
    need: int

    @property
    def ready(self) -> bool:
        return self.have >= self.need

    def __str__(self) -> str:
        return "ready" if self.ready else f"warming up, {self.have} of {self.need} bars"


def warmup(state: Floats, need: int) -> Warmup:
    """`need` is what the indicator's own `x_need` gives. Later bars are not counted on."""
    return Warmup(min(int(have(state)), need), need)


def have(state: Floats) -> int:
    """Closed bars that the state has seen."""
    return int(state[_HAVE])


@numba.njit(cache=True)
def wilder(average: float, value: float, seen: int, period: int) -> float:
    """Wilder's average after one more value; `seen` counts the values, this one included.

    It is a sum until `period` values are there, their plain mean at that point, and one `period`-th of each new value
    from then on.
    """
    if seen > period:
        return (average * (period - 1) + value) / period
    if seen == period:
        return (average + value) / period
    return average + value


# --- exponential average ----------------------------------------------------------------------------------------------


def ema_need(period: int) -> int:
    return period


@numba.njit(cache=True)
def ema_update(state: Any, period: int, value: float) -> float:
    """Exponential moving average with weight 2 / (period + 1), begun at the plain mean of the first `period` values."""
    state[_HAVE] += 1.0
    if state[_HAVE] > period:
        state[_AVERAGE] += (value - state[_AVERAGE]) * (2.0 / (period + 1))
        return float(state[_AVERAGE])
    state[_AVERAGE] += value
    if state[_HAVE] < period:
        return math.nan
    state[_AVERAGE] /= period
    return float(state[_AVERAGE])


@numba.njit(cache=True)
def ema_over(state: Any, period: int, values: Any, out: Any) -> None:
    for row in range(values.shape[0]):
        out[row] = ema_update(state, period, values[row])


def ema(values: Floats, period: int) -> Floats:
    """The average at each value, in its unit. Raises ValueError for values that are not above zero."""
    return _series(ema_over, EMA_CELLS, period, values)


# --- relative strength ------------------------------------------------------------------------------------------------


def rsi_need(period: int) -> int:
    return period + 1


@numba.njit(cache=True)
def rsi_value(gain: float, loss: float) -> float:
    """From 0 to 100; 0 where nothing moved."""
    total = gain + loss
    return 100.0 * (gain / total) if total > 0.0 else 0.0


@numba.njit(cache=True)
def rsi_update(state: Any, period: int, close: float) -> float:
    """Wilder's relative strength index over closes."""
    state[_HAVE] += 1.0
    moves = int(state[_HAVE]) - 1
    if moves > 0:
        move = close - state[_LAST]
        state[_GAIN] = wilder(state[_GAIN], max(move, 0.0), moves, period)
        state[_LOSS] = wilder(state[_LOSS], max(-move, 0.0), moves, period)
    state[_LAST] = close
    return rsi_value(state[_GAIN], state[_LOSS]) if moves >= period else math.nan


@numba.njit(cache=True)
def rsi_over(state: Any, period: int, closes: Any, out: Any) -> None:
    for row in range(closes.shape[0]):
        out[row] = rsi_update(state, period, closes[row])


def rsi(closes: Floats, period: int) -> Floats:
    """The index at each close, from 0 to 100. Raises ValueError for closes that are not above zero."""
    return _series(rsi_over, RSI_CELLS, period, closes)


# --- average true range -----------------------------------------------------------------------------------------------


def atr_need(period: int) -> int:
    return period + 1


@numba.njit(cache=True)
def atr_update(state: Any, period: int, high: float, low: float, close: float) -> float:
    """Wilder's average true range, in units of the price: compare it with prices, never with a fixed number."""
    state[_HAVE] += 1.0
    ranges = int(state[_HAVE]) - 1
    if ranges > 0:
        true_range = max(high, state[_LAST]) - min(low, state[_LAST])
        state[_RANGE] = wilder(state[_RANGE], true_range, ranges, period)
    state[_LAST] = close
    return float(state[_RANGE]) if ranges >= period else math.nan


@numba.njit(cache=True)
def atr_over(state: Any, period: int, highs: Any, lows: Any, closes: Any, out: Any) -> None:
    for row in range(closes.shape[0]):
        out[row] = atr_update(state, period, highs[row], lows[row], closes[row])


def atr(highs: Floats, lows: Floats, closes: Floats, period: int) -> Floats:
    """The average at each bar, in units of the price. Raises ValueError for bars that no trades could have made."""
    if np.any(np.asarray(lows) > np.asarray(highs)):
        raise ValueError("a low is above its high")
    return _series(atr_over, ATR_CELLS, period, highs, lows, closes)


# --- change over a window ---------------------------------------------------------------------------------------------


def change_cells(window: int) -> int:
    """A state of this size serves every window up to `window`."""
    return _RING + window + 1


def change_need(window: int) -> int:
    return window + 1


@numba.njit(cache=True)
def change_reference(state: Any, window: int) -> float:
    """The close `window` bars before the newest: what a price of the open minute is compared with."""
    return float(_from_ring(state, _RING, int(state[_HAVE]) - 1 - window, window + 1))


@numba.njit(cache=True)
def change_update(state: Any, window: int, close: float) -> float:
    """close / close `window` bars before - 1: a fraction, so 0.02 is 2 per cent."""
    _to_ring(state, _RING, int(state[_HAVE]), close)
    state[_HAVE] += 1.0
    return close / change_reference(state, window) - 1.0 if state[_HAVE] > window else math.nan


@numba.njit(cache=True)
def change_over(state: Any, window: int, closes: Any, out: Any) -> None:
    for row in range(closes.shape[0]):
        out[row] = change_update(state, window, closes[row])


def change(closes: Floats, window: int) -> Floats:
    """The change at each close, a fraction. Raises ValueError for closes that are not above zero."""
    return _series(change_over, change_cells(window), window, closes)


# --- turnover in a window ---------------------------------------------------------------------------------------------


def turnover_cells(window: int) -> int:
    """A state of this size serves every window up to `window`."""
    return _RING + window


def turnover_need(window: int) -> int:
    return window


@numba.njit(cache=True)
def turnover_update(state: Any, window: int, turnover: float) -> float:
    """The sum of the last `window` bars' turnovers, quote units.

    It is added up anew each time, oldest first: a running sum would keep the rounding of what has left the window.
    """
    _to_ring(state, _RING, int(state[_HAVE]), turnover)
    state[_HAVE] += 1.0
    return _ring_sum(state, _RING, int(state[_HAVE]), window) if state[_HAVE] >= window else math.nan


@numba.njit(cache=True)
def turnover_over(state: Any, window: int, turnovers: Any, out: Any) -> None:
    for row in range(turnovers.shape[0]):
        out[row] = turnover_update(state, window, turnovers[row])


def turnover(turnovers: Floats, window: int) -> Floats:
    """The sum at each bar, quote units. Raises ValueError for turnovers below zero."""
    return _series(turnover_over, turnover_cells(window), window, turnovers, minimum=0.0)


# --- realised volatility ----------------------------------------------------------------------------------------------


def volatility_cells(window: int) -> int:
    """A state of this size serves every window up to `window`."""
    return _SQUARES + window


def volatility_need(window: int) -> int:
    return window + 1


@numba.njit(cache=True)
def volatility_update(state: Any, window: int, close: float) -> float:
    """Root of the sum of the last `window` squared log returns: a fraction, for the whole window, not per year."""
    returns = int(state[_HAVE])
    if returns > 0:
        move = math.log(close / state[_LAST])
        _to_ring(state, _SQUARES, returns - 1, move * move)
    state[_LAST] = close
    state[_HAVE] += 1.0
    return math.sqrt(_ring_sum(state, _SQUARES, returns, window)) if returns >= window else math.nan


@numba.njit(cache=True)
def volatility_over(state: Any, window: int, closes: Any, out: Any) -> None:
    for row in range(closes.shape[0]):
        out[row] = volatility_update(state, window, closes[row])


def volatility(closes: Floats, window: int) -> Floats:
    """The volatility of the window at each close, a fraction. Raises ValueError for closes that are not above zero."""
    return _series(volatility_over, volatility_cells(window), window, closes)


# --- what they are made of --------------------------------------------------------------------------------------------


@numba.njit(cache=True)
def _to_ring(state: Any, start: int, index: int, value: float) -> None:
    state[start + index % (state.shape[0] - start)] = value


@numba.njit(cache=True)
def _from_ring(state: Any, start: int, index: int, depth: int) -> float:
    """The value put in as number `index`. `depth`: how far back the caller reads; a smaller ring has forgotten that."""
    if depth > state.shape[0] - start:
        raise ValueError("the state is too small for the window")
    return float(state[start + index % (state.shape[0] - start)])


@numba.njit(cache=True)
def _ring_sum(state: Any, start: int, count: int, window: int) -> float:
    """Sum of the last `window` of `count` values, oldest first."""
    total = 0.0
    for index in range(count - window, count):
        total += _from_ring(state, start, index, window)
    return total


def _series(
    over: Callable[..., None], cells: int, period: int, *columns: Floats, minimum: float | None = None
) -> Floats:
    """Run columns of equal length through a new state. Without `minimum` every value must be above zero."""
    if not 1 <= period <= PERIOD_MAX:
        raise ValueError(f"a period of {period} bars is not from 1 to {PERIOD_MAX}")
    given = [np.ascontiguousarray(column, dtype=np.float64) for column in columns]
    if any(column.shape != (len(given[0]),) for column in given):
        raise ValueError(f"columns of the shapes {[column.shape for column in given]}")
    for column in given:
        wrong = ~np.isfinite(column) | (column <= 0.0 if minimum is None else column < minimum)
        if np.any(wrong):
            row = int(np.argmax(wrong))
            raise ValueError(f"bar {row + 1} has the value {column[row]}")
    out = np.empty(len(given[0]))
    over(np.zeros(cells), period, *given, out)
    return out
