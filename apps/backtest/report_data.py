"""What a backtest's report is made of: plain values, nothing of a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from apps.engine.model import MINUTE_MS
from apps.engine.performance import Performance, RoundTrip
from apps.engine.tapes import Tape

Int64s = npt.NDArray[np.int64]

ENTRY: Final = "entry"
EXIT: Final = "exit"
WIDTHS_MINUTES: Final = (1, 5, 15, 60, 240, 1440, 7 * 1440)


@dataclass(frozen=True, slots=True)
class Candles:
    """Bars of `width` minutes, oldest first, as columns: the minute each begins with, and prices in ticks.

    A bar without trades is not there.
    """

    minute: Int64s
    open: Int64s
    high: Int64s
    low: Int64s
    close: Int64s
    width: int = 1

    def __len__(self) -> int:
        return len(self.minute)


_NONE: Final = np.empty(0, np.int64)
_EMPTY: Final = Candles(_NONE, _NONE, _NONE, _NONE, _NONE)


@dataclass(frozen=True, slots=True)
class Marker:
    """A fill on a chart. `kind` is ENTRY or EXIT, `price` in quote units, `words` say why."""

    kind: str
    ts_event: int
    price: Decimal
    words: str = ""


@dataclass(frozen=True, slots=True)
class SymbolChart:
    """One symbol's market with our fills on it. A tick is 10^-price_decimals quote units."""

    symbol: str
    price_decimals: int
    candles: Candles
    markers: Sequence[Marker] = ()


@dataclass(frozen=True, slots=True)
class ReportData:
    """A whole report. Times of `curve` are minutes, of everything else event ms; money in `currency`.

    `facts` are what the run was given and what identifies it, as (name, value), shown as they stand. `counts` is the
    road in its order: trades, signals, decisions, orders, fills. `denied` counts decisions by the words of their
    reason. `notes` are sentences a reader must know, such as days without data.
    """

    title: str
    currency: str
    facts: Sequence[tuple[str, str]]
    counts: Sequence[tuple[str, int]]
    performance: Performance
    curve: Sequence[tuple[int, Decimal]]
    trips: Sequence[RoundTrip]
    denied: Mapping[str, int]
    charts: Sequence[SymbolChart]
    notes: Sequence[str] = ()


def candles_of(tape: Tape) -> Candles:
    """The minutes of a tape that have trades. Parts of one minute from two tapes are made one by `joined`."""
    return _grouped(tape.ts // MINUTE_MS, tape.price, tape.price, tape.price, tape.price, width=1)


def joined(parts: Sequence[Candles]) -> Candles:
    """Candles of one symbol that follow each other, such as those of successive slices of its tape."""
    if not parts:
        return _EMPTY
    minute, first, high, low, last = (
        np.concatenate(columns)
        for columns in zip(*((part.minute, part.open, part.high, part.low, part.close) for part in parts), strict=True)
    )
    return _grouped(minute, first, high, low, last, width=parts[0].width)


def widened(candles: Candles, width: int) -> Candles:
    """Bars of `width` minutes, a multiple of the present width, from midnight UTC on."""
    minute = candles.minute // width * width
    return _grouped(minute, candles.open, candles.high, candles.low, candles.close, width=width)


def fitting(candles: Candles, count_max: int) -> Candles:
    """The candles at the smallest usual width at which their span has at most `count_max` bars."""
    if not len(candles):
        return candles
    first, last = int(candles.minute[0]), int(candles.minute[-1])
    wide_enough = (
        width for width in WIDTHS_MINUTES if width >= candles.width and last // width - first // width < count_max
    )
    return widened(candles, next(wide_enough, WIDTHS_MINUTES[-1]))


def _grouped(minute: Int64s, first: Int64s, high: Int64s, low: Int64s, last: Int64s, *, width: int) -> Candles:
    """One candle per run of equal minutes."""
    if not len(minute):
        return replace(_EMPTY, width=width)
    starts = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    ends = np.append(starts[1:], len(minute)) - 1
    return Candles(
        minute=minute[starts],
        open=first[starts],
        high=np.maximum.reduceat(high, starts),
        low=np.minimum.reduceat(low, starts),
        close=last[ends],
        width=width,
    )
