"""Mean reversion, version 1: a fall far below the mean of the last closes, sold when the price is back. Long only.

Decided once per minute, at its close, over the last `window` closed minutes, empty ones included:

    mean, deviation = arithmetic mean and population standard deviation of the closes
    z               = (close - mean) / deviation; where nothing moved there is no z and no decision
    rsi             = Wilder's RSI(14) over closed minutes, as in `momentum`
    turnover        = sum of price x quantity over the window and the open minute so far

Entry if z <= -entry_deviations and rsi < rsi_max and turnover >= turnover_min and the last entry is `cooldown` old;
exit, after an entry, as soon as z >= -exit_deviations; no second entry before the exit. Both are told at the first
trade after the close at which they hold (turnover and cooldown as of that trade): a signal is the signal of a trade.
The figure `change` of a signal is close / mean - 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numba
import numpy as np

from apps.engine.indicators import RSI_CELLS, rsi_update
from apps.engine.kernel import ENTRY, EXIT, HEAD, MINUTE_MS, QUIET, Array, build
from apps.engine.strategies.base import StrategyModule
from apps.engine.strategies.parameters import (
    DEVIATIONS,
    EXIT_PARAMETERS,
    MINUTES,
    POINTS,
    QUOTE_UNITS,
    ParameterSpec,
    numbers,
)

WINDOW_MAX_MINUTES: Final = 120
RSI_PERIOD: Final = 14

# positions in the parameter vector
_WINDOW: Final = 0
_ENTRY: Final = 1
_EXIT: Final = 2
_RSI_MAX: Final = 3
_TURNOVER_MIN: Final = 4
_COOLDOWN_MS: Final = 5

DTYPE: Final = np.dtype(
    [
        *HEAD,
        ("closes", np.float64, (WINDOW_MAX_MINUTES,)),
        ("turnovers", np.float64, (WINDOW_MAX_MINUTES,)),
        ("rsi_state", np.float64, (RSI_CELLS,)),
        ("rsi", np.float64),
        ("change", np.float64),
        ("window", np.float64),  # turnover of the window's closed minutes
        ("due", np.int64),  # what the last close decided: ENTRY, EXIT or QUIET
        ("entered", np.int64),  # whether the last signal was an entry
        ("entries", np.int64),
        ("last_entry", np.int64),
    ]
)

ENTRY_PARAMETERS: Final = (
    ParameterSpec("window_minutes", MINUTES, 5, WINDOW_MAX_MINUTES, True, 30, "Closes that the mean is taken of."),
    ParameterSpec("entry_deviations", DEVIATIONS, 0.5, 10, False, 2.5, "How far below the mean a close must lie."),
    ParameterSpec("exit_deviations", DEVIATIONS, 0, 10, False, 0, "Sell from this far below the mean on; 0: at it."),
    ParameterSpec("rsi_max", POINTS, 0, 100, False, 35, "RSI(14) of closed minutes must be below this."),
    ParameterSpec("turnover_min", QUOTE_UNITS, 0, 1e18, False, 0, "Turnover of the window that is asked for."),
    ParameterSpec("cooldown_minutes", MINUTES, 0, 1440, False, 15, "No second entry of a symbol before this is over."),
)
PARAMETERS: Final = (*ENTRY_PARAMETERS, *EXIT_PARAMETERS)


def agree(parameters: Mapping[str, Any]) -> None:
    """Raises ValueError if a position would be sold where it is bought."""
    if float(parameters["exit_deviations"]) >= float(parameters["entry_deviations"]):
        raise ValueError(
            f"exit_deviations={parameters['exit_deviations']} must be below "
            f"entry_deviations={parameters['entry_deviations']} ({DEVIATIONS})"
        )


def pack(parameters: Mapping[str, Any]) -> Array:
    """The parameter vector. Raises ValueError with the parameter's name if one is missing or out of range."""
    value = numbers(ENTRY_PARAMETERS, parameters)
    agree(value)
    vector = [value[name] for name in ("window_minutes", "entry_deviations", "exit_deviations", "rsi_max")]
    return np.array([*vector, value["turnover_min"], value["cooldown_minutes"] * MINUTE_MS], dtype=np.float64)


def window_minutes(parameters: Mapping[str, Any]) -> int:
    return int(parameters["window_minutes"])


def bars_needed(parameters: Mapping[str, Any]) -> int:
    return max(int(parameters["window_minutes"]), RSI_PERIOD + 1)


@numba.njit(cache=True)
def on_bar(state: Any, parameters: Any, close: float, turnover: float) -> None:
    newest = state.closed - 1
    state.closes[newest % WINDOW_MAX_MINUTES] = close
    state.turnovers[newest % WINDOW_MAX_MINUTES] = turnover
    state.rsi = rsi_update(state.rsi_state, RSI_PERIOD, close)
    window = int(parameters[_WINDOW])
    state.warm = 1 if state.closed >= max(window, RSI_PERIOD + 1) else 0
    state.due = _decide(state, parameters, window, close) if state.warm else QUIET
    state.upper = math.inf if state.due == QUIET else 0.0
    state.lower = -math.inf


@numba.njit(cache=True)
def _decide(state: Any, parameters: Any, window: int, close: float) -> int:
    total, turnover = 0.0, 0.0
    for back in range(window - 1, -1, -1):
        total += state.closes[(state.closed - 1 - back) % WINDOW_MAX_MINUTES]
        turnover += state.turnovers[(state.closed - 1 - back) % WINDOW_MAX_MINUTES]
    mean = total / window
    squares = 0.0
    for back in range(window - 1, -1, -1):
        squares += (state.closes[(state.closed - 1 - back) % WINDOW_MAX_MINUTES] - mean) ** 2
    deviation = math.sqrt(squares / window)
    state.window = turnover
    state.change = close / mean - 1.0
    if deviation == 0.0:
        return QUIET
    z = (close - mean) / deviation
    if state.entered:
        return EXIT if z >= -parameters[_EXIT] else QUIET
    return ENTRY if z <= -parameters[_ENTRY] and state.rsi < parameters[_RSI_MAX] else QUIET


@numba.njit(cache=True)
def on_trade(state: Any, parameters: Any, ts: int, _price: float, figures: Any, row: int) -> int:
    due = state.due
    turnover = state.window + state.open_turnover
    if due == ENTRY:
        if turnover < parameters[_TURNOVER_MIN]:
            return QUIET
        if state.entries > 0 and ts - state.last_entry < parameters[_COOLDOWN_MS]:
            return QUIET
        state.entries += 1
        state.last_entry = ts
    state.entered = 1 if due == ENTRY else 0
    state.due = QUIET
    state.upper = math.inf
    figures[row, 0] = state.change
    figures[row, 1] = state.rsi
    figures[row, 2] = turnover
    return int(due)


MODULE: Final = StrategyModule(
    name="mean_reversion",
    layout="mean_reversion-1",
    dtype=DTYPE,
    kernel=build("mean_reversion", DTYPE, on_bar, on_trade),
    parameters=PARAMETERS,
    pack=pack,
    window_minutes=window_minutes,
    bars_needed=bars_needed,
    kept=("entered", "entries", "last_entry"),
    agree=agree,
)
