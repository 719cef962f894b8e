"""The scan over trades: one compiled kernel per strategy, the same for live batches of ten and for millions.

A strategy module gives a state dtype that begins with `HEAD`, and two jitted functions:

    on_bar(state, parameters, close, turnover)            a minute has closed
    on_trade(state, parameters, ts, price, figures, row)  gives QUIET, ENTRY or EXIT

`on_bar` also says which trades are worth asking about, so that most cost a few comparisons: `state.warm` (0: nothing
can be decided yet), `upper` and `lower` (only prices >= upper or <= lower are asked about) and `quiet_until` (only
event times from there on). They must not exclude a trade that `on_trade` would fire on; zeros exclude none.
`on_trade` alone decides, exactly; it fills `figures[row]` with change, rsi and turnover when it fires, and may change
the bounds.

Prices and turnovers are float64 in quote units (they feed indicators only): price = ticks / 10.0**price_decimals, the
float nearest to the decimal price, and turnover the sum of price x quantity in the order of the trades.
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
QUIET: Final = 0
ENTRY: Final = 1
EXIT: Final = 2
KINDS: Final = ("", "entry", "exit")  # by code
FIGURES: Final = 3  # change, rsi, turnover

HEAD: Final = [
    ("minute", np.int64),  # the open minute, NO_MINUTE before the first trade
    ("last_price", np.float64),
    ("open_turnover", np.float64),
    ("closed", np.int64),  # closed minutes so far, in `on_bar` this one included
    ("warm", np.int64),
    ("upper", np.float64),
    ("lower", np.float64),
    ("quiet_until", np.int64),
    ("failed", np.int64),  # the event minute in which the strategy raised: it judges nothing more; 0: it has not
]

Array = npt.NDArray[Any]
Scan = Callable[[Array, Array, float, float, Array, Array, Array, Array, Array, Array, int], tuple[int, int, int]]

_Int64s: Final = numba.types.Array(numba.int64, 1, "C", readonly=True)  # a column that may be written fits as well
_Vector: Final = numba.types.Array(numba.float64, 1, "C", readonly=True)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The compiled functions of one strategy. All take the state as an array of one record and change it in place.

    `scan(state, parameters, price_unit, quantity_unit, ts, price, quantity, fired, kinds, figures, start)` runs the
    rows from `start` on: `ts` in ms, `price` in ticks, `quantity` in steps, contiguous int64 columns of one length (a
    `Tape`'s own); units are 10.0**decimals. `fired[k]` becomes the row of the k-th event, `kinds[k]` its code,
    `figures[k]` its three figures. Returns (events, trades judged by a warm strategy, next row): where the buffers are
    full it stops before the trade that might need more room; call again with the next row until that is the number of
    rows. The buffers need room for one event at least.
    A trade of a closed minute is late and changes nothing. A strategy that raises leaves the state half changed.

    `roll(state, parameters, minute)`: every minute before `minute` is over.
    `warm(state, parameters, minute, close, turnover)`: a closed minute from history; close and turnover in quote units.
    """

    scan: Scan
    roll: Callable[[Array, Array, int], None]
    warm: Callable[[Array, Array, int, float, float], None]
    load: Callable[[], None]  # compile all three, or load what was compiled; to be called before any of them


def build(name: str, dtype: np.dtype[Any], on_bar: Callable[..., None], on_trade: Callable[..., int]) -> Kernel:
    """Compile the three functions for one strategy.

    The templates below are copied with the strategy's functions among their globals. A closure would read better, but
    numba stores compiled closures under a key that differs in every process, so every start would compile again.
    """
    close_through = _compile(_close_through, name, {"on_bar": on_bar})
    shared = {"on_bar": on_bar, "on_trade": on_trade, "_close_through": close_through}
    scan, roll, warm = (_compile(template, name, shared) for template in (_scan, _roll, _warm))
    state = numba.types.Array(numba.from_dtype(dtype), 1, "C")
    minute, number = numba.int64, numba.float64
    signatures = {
        scan: (
            state, _Vector, number, number, _Int64s, _Int64s, _Int64s, numba.int64[::1], numba.int64[::1],
            numba.float64[:, ::1], minute,
        ),
        roll: (state, _Vector, minute),
        warm: (state, _Vector, minute, number, number),
    }  # fmt: skip
    return Kernel(scan=scan, roll=roll, warm=warm, load=lambda: _load(signatures))


def _load(signatures: dict[Any, tuple[Any, ...]]) -> None:
    """One compiled form of each, for columns that may be written and for those that may not."""
    for function, signature in signatures.items():
        if not function.signatures:
            function.compile(signature)
            function.disable_compile()


def _compile(template: Callable[..., Any], name: str, names: dict[str, Any]) -> Callable[..., Any]:
    function = types.FunctionType(template.__code__, {**globals(), **names}, f"{template.__name__}_{name}")
    function.__qualname__ = function.__name__
    compiled: Callable[..., Any] = numba.njit(cache=True)(function)
    return compiled


def _close_through(state: Any, parameters: Any, minute: int) -> None:
    """Close every minute before `minute`; those without a trade close at the last price with no turnover."""
    while state.minute < minute:
        state.closed += 1
        on_bar(state, parameters, state.last_price, state.open_turnover)  # type: ignore[name-defined]  # noqa: F821
        state.open_turnover = 0.0
        state.minute += 1


def _scan(
    state: Any, parameters: Any, price_unit: float, quantity_unit: float, ts: Any, price: Any, quantity: Any,
    fired: Any, kinds: Any, figures: Any, start: int,
) -> Any:  # fmt: skip
    """See `Kernel`. What every trade reads is kept out of the record, which is only brought up to date where needed."""
    record = state[0]
    rows, room = ts.shape[0], fired.shape[0]
    if start < rows and record.minute == NO_MINUTE:
        record.minute = ts[start] // MINUTE_MS
    begin = record.minute * MINUTE_MS
    last, turnover, warm = record.last_price, record.open_turnover, record.warm
    upper, lower, quiet_until = record.upper, record.lower, record.quiet_until
    events = judged = 0
    row = start
    while row < rows:
        at = ts[row]
        if at >= begin + MINUTE_MS:
            record.last_price, record.open_turnover = last, turnover
            minute = at // MINUTE_MS
            _close_through(record, parameters, minute)
            begin = minute * MINUTE_MS
            turnover, warm = record.open_turnover, record.warm
            upper, lower, quiet_until = record.upper, record.lower, record.quiet_until
        if at >= begin:
            value = price[row] / price_unit
            traded = turnover + value * (quantity[row] / quantity_unit)
            if warm and (value >= upper or value <= lower) and at >= quiet_until:
                if events == room:
                    break
                record.last_price, record.open_turnover = value, traded
                code = on_trade(record, parameters, at, value, figures, events)  # type: ignore[name-defined]  # noqa: F821
                upper, lower, quiet_until = record.upper, record.lower, record.quiet_until
                if code != QUIET:
                    fired[events] = row
                    kinds[events] = code
                    events += 1
            last, turnover = value, traded
            judged += warm
        row += 1
    record.last_price, record.open_turnover = last, turnover
    return events, judged, row


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
    record.closed += 1
    on_bar(record, parameters, close, turnover)  # type: ignore[name-defined]  # noqa: F821
    record.minute = minute + 1
