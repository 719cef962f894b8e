"""Momentum, version 1: a rise over a window of minutes, confirmed by RSI and turnover. Long entries only.

    change   = price / ref - 1, ref = the close of the last minute that ended `lookback` minutes before this one began
    rsi      = Wilder's RSI(14) over closed minutes (J. Welles Wilder, New Concepts in Technical Trading Systems, 1978),
               seeded with the mean of the first 14 changes; 0 where nothing moved, as TA-Lib
    turnover = sum of price x quantity over the last `lookback` closed minutes and the open one so far

Fires if change >= threshold and rsi > rsi_min and turnover >= turnover_min and the last signal is `cooldown` old.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numba
import numpy as np

from apps.engine.indicators import rsi_value, wilder
from apps.engine.kernel import ENTRY, HEAD, MINUTE_MS, QUIET, Array, build
from apps.engine.strategies.base import StrategyModule
from apps.engine.strategies.parameters import (
    EXIT_PARAMETERS,
    FACTOR,
    MINUTES,
    PER_CENT,
    POINTS,
    QUOTE_UNITS,
    ParameterSpec,
    numbers,
)

LOOKBACK_MAX_MINUTES: Final = 120
_RING: Final = LOOKBACK_MAX_MINUTES + 1
RSI_PERIOD: Final = 14
_ROUNDING: Final = 1e-12  # far more than the three roundings of `change` can amount to, far less than a tick

# positions in the parameter vector
_LOOKBACK: Final = 0
_THRESHOLD: Final = 1
_RSI_MIN: Final = 2
_TURNOVER_MIN: Final = 3
_COOLDOWN_MS: Final = 4

DTYPE: Final = np.dtype(
    [
        *HEAD,
        ("closes", np.float64, (_RING,)),
        ("turnovers", np.float64, (_RING,)),
        ("gain", np.float64),  # sum of the first 14 gains, then Wilder's average
        ("loss", np.float64),
        ("ref", np.float64),  # close that a price of this minute is compared with
        ("rsi", np.float64),
        ("window", np.float64),  # turnover of the last `lookback` closed minutes
        ("signals", np.int64),
        ("last_signal", np.int64),
    ]
)

ENTRY_PARAMETERS: Final = (
    ParameterSpec("lookback_minutes", MINUTES, 1, LOOKBACK_MAX_MINUTES, True, 15, "Length of the window of the rise."),
    ParameterSpec("threshold_pct", PER_CENT, 0.01, 100, False, 2.0, "The rise over the window that is asked for."),
    ParameterSpec("rsi_min", POINTS, 0, 100, False, 50, "RSI(14) of closed minutes must be above this."),
    ParameterSpec("turnover_min", QUOTE_UNITS, 0, 1e18, False, 0, "Turnover of the window that is asked for."),
    ParameterSpec("volume_multiplier", FACTOR, 0, 1000, False, 1, "Multiplies `turnover_min`; the tiers move it."),
    ParameterSpec("cooldown_minutes", MINUTES, 0, 1440, False, 15, "No second signal of a symbol before this is over."),
)
PARAMETERS: Final = (*ENTRY_PARAMETERS, *EXIT_PARAMETERS)


def pack(parameters: Mapping[str, Any]) -> Array:
    """The parameter vector. Raises ValueError with the parameter's name if one is missing or out of range."""
    value = numbers(ENTRY_PARAMETERS, parameters)
    return np.array(
        [
            value["lookback_minutes"],
            value["threshold_pct"] / 100,
            value["rsi_min"],
            value["turnover_min"] * value["volume_multiplier"],
            value["cooldown_minutes"] * MINUTE_MS,
        ],
        dtype=np.float64,
    )


def window_minutes(parameters: Mapping[str, Any]) -> int:
    return int(parameters["lookback_minutes"]) + 1


def bars_needed(parameters: Mapping[str, Any]) -> int:
    return max(int(parameters["lookback_minutes"]), RSI_PERIOD) + 1


@numba.njit(cache=True)
def on_bar(state: Any, parameters: Any, close: float, turnover: float) -> None:
    """Everything that changes once a minute is worked out here, so that a trade costs a few comparisons."""
    newest = state.closed - 1
    if newest > 0:
        move = close - state.closes[(newest - 1) % _RING]
        state.gain = wilder(state.gain, max(move, 0.0), newest, RSI_PERIOD)
        state.loss = wilder(state.loss, max(-move, 0.0), newest, RSI_PERIOD)
    state.closes[newest % _RING] = close
    state.turnovers[newest % _RING] = turnover
    lookback = int(parameters[_LOOKBACK])
    state.warm = 1 if newest >= max(lookback, RSI_PERIOD) else 0
    if not state.warm:
        return
    state.ref = state.closes[(newest - lookback) % _RING]
    state.rsi = rsi_value(state.gain, state.loss)
    window = 0.0
    for back in range(lookback - 1, -1, -1):
        window += state.turnovers[(newest - back) % _RING]
    state.window = window
    _expect(state, parameters)


@numba.njit(cache=True)
def _expect(state: Any, parameters: Any) -> None:
    """Which trades of the minute that begins can fire at all. `on_trade` decides about those."""
    rising = state.rsi > parameters[_RSI_MIN]
    state.upper = state.ref * (1.0 + parameters[_THRESHOLD]) * (1.0 - _ROUNDING) if rising else math.inf
    state.quiet_until = state.last_signal + int(parameters[_COOLDOWN_MS]) if state.signals > 0 else 0


@numba.njit(cache=True)
def on_trade(state: Any, parameters: Any, ts: int, price: float, figures: Any, row: int) -> int:
    change = price / state.ref - 1.0
    if change < parameters[_THRESHOLD] or state.rsi <= parameters[_RSI_MIN]:
        return QUIET
    turnover = state.window + state.open_turnover
    if turnover < parameters[_TURNOVER_MIN]:
        return QUIET
    if state.signals > 0 and ts - state.last_signal < parameters[_COOLDOWN_MS]:
        return QUIET
    state.signals += 1
    state.last_signal = ts
    state.quiet_until = ts + int(parameters[_COOLDOWN_MS])
    figures[row, 0] = change
    figures[row, 1] = state.rsi
    figures[row, 2] = turnover
    return ENTRY


MODULE: Final = StrategyModule(
    name="momentum",
    layout="momentum-2",
    dtype=DTYPE,
    kernel=build("momentum", DTYPE, on_bar, on_trade),
    parameters=PARAMETERS,
    pack=pack,
    window_minutes=window_minutes,
    bars_needed=bars_needed,
    kept=("signals", "last_signal"),
)
