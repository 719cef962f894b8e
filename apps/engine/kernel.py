"""The scan over trades: one compiled kernel per strategy, the same for live batches of ten and for millions.

A strategy module gives a state dtype that begins with `HEAD`, and two jitted functions:

    on_bar(state, parameters, close, turnover)                       a minute has closed
    on_trade(state, parameters, ts, minute, price, figures, row)     gives WARMING, QUIET or FIRED

A strategy that fires fills `figures[row]` with change, rsi and turnover. Prices and turnovers are float64 in quote
units: they feed indicators only.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

MINUTE_MS: Final = 60_000
NO_MINUTE: Final = -1
WARMING: Final = 0
QUIET: Final = 1
FIRED: Final = 2
FIGURES: Final = 3  # change, rsi, turnover

HEAD: Final = [
    ("minute", np.int64),  # the open minute, NO_MINUTE before the first trade
    ("last_price", np.float64),
    ("open_turnover", np.float64),
]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Kernel:
    """The compiled functions of one strategy. All take the state as an array of one record and change it in place."""

    scan: Callable[[Array, Array, Array, Array, Array, Array, Array], tuple[int, int]]
    roll: Callable[[Array, Array, int], None]
    warm: Callable[[Array, Array, int, float, float], None]


def build(name: str, on_bar: Callable[..., None], on_trade: Callable[..., int]) -> Kernel:
    """Compile the three functions for one strategy.

    The templates below are copied with the strategy's functions among their globals. A closure would read better, but
    numba stores compiled closures under a key that differs in every process, so every start would compile again.
    """
    close_through = _compile(_close_through, name, {"on_bar": on_bar})
    shared = {"on_bar": on_bar, "on_trade": on_trade, "_close_through": close_through}
    return Kernel(
        scan=_compile(_scan, name, shared), roll=_compile(_roll, name, shared), warm=_compile(_warm, name, shared)
    )


def _compile(template: Callable[..., Any], name: str, names: dict[str, Any]) -> Callable[..., Any]:
    function = types.FunctionType(template.__code__, {**globals(), **names}, f"{template.__name__}_{name}")
    function.__qualname__ = function.__name__
    compiled: Callable[..., Any] = numba.njit(cache=True)(function)
    return compiled


def _close_through(state: Any, parameters: Any, minute: int) -> None:
    """Close every minute before `minute`; those without a trade close at the last price with no turnover."""
    while state.minute < minute:
        on_bar(state, parameters, state.last_price, state.open_turnover)  # type: ignore[name-defined]  # noqa: F821
        state.open_turnover = 0.0
        state.minute += 1


def _scan(state: Any, parameters: Any, ts: Any, price: Any, quantity: Any, fired: Any, figures: Any) -> Any:
    """Run trades through the strategy. `fired[k]` is the index of the k-th signal, `figures[k]` its three figures.

    Returns (signals, trades judged by a warm strategy). A trade of a closed minute is late and changes nothing.
    """
    record = state[0]
    signals = 0
    judged = 0
    for index in range(ts.shape[0]):
        minute = ts[index] // MINUTE_MS
        if record.minute == NO_MINUTE:
            record.minute = minute
        if minute < record.minute:
            continue
        _close_through(record, parameters, minute)
        record.last_price = price[index]
        record.open_turnover += price[index] * quantity[index]
        code = on_trade(  # type: ignore[name-defined]  # noqa: F821
            record, parameters, ts[index], minute, price[index], figures, signals
        )
        if code != WARMING:
            judged += 1
        if code == FIRED:
            fired[signals] = index
            signals += 1
    return signals, judged


def _roll(state: Any, parameters: Any, minute: int) -> None:
    """A watermark says that every minute before `minute` is over. Before the first price there is nothing to close."""
    if state[0].minute != NO_MINUTE:
        _close_through(state[0], parameters, minute)


def _warm(state: Any, parameters: Any, minute: int, close: float, turnover: float) -> None:
    """A closed minute from the exchange's history. Minutes that it skips close at the price before them."""
    record = state[0]
    if record.minute != NO_MINUTE:
        _close_through(record, parameters, minute)
    record.last_price = close
    on_bar(record, parameters, close, turnover)  # type: ignore[name-defined]  # noqa: F821
    record.minute = minute + 1
