"""Candles from trades: exact sums, flat candles for minutes without trades, and coarser candles from minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
_MONDAY_MS: Final = 4 * DAY_MS  # 1970-01-05


class Candle(NamedTuple):
    """Prices in ticks, volume in steps; `turnover` is the exact sum of ticks x steps."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    trade_count: int


def minute_candles(time_ms: NDArray[Any], price_ticks: NDArray[Any], quantity_steps: NDArray[Any]) -> list[Candle]:
    """Candles of the minutes that have trades; columns are in time order."""
    if time_ms.size == 0:
        return []
    minutes = time_ms // MINUTE_MS
    starts = np.concatenate(([0], np.flatnonzero(np.diff(minutes)) + 1))
    ends = np.concatenate((starts[1:], [time_ms.size]))
    volumes = np.add.reduceat(quantity_steps, starts)
    turnovers = np.add.reduceat(_products(price_ticks, quantity_steps), starts)
    columns = (
        minutes[starts] * MINUTE_MS,
        price_ticks[starts],
        np.maximum.reduceat(price_ticks, starts),
        np.minimum.reduceat(price_ticks, starts),
        price_ticks[ends - 1],
        volumes,
        turnovers,
        ends - starts,
    )
    return list(map(Candle, *(column.tolist() for column in columns)))


def _products(price_ticks: NDArray[Any], quantity_steps: NDArray[Any]) -> NDArray[Any]:
    """ticks x steps such that their sums stay exact: int64 where they surely fit, else Python integers."""
    largest = int(price_ticks.max()) * int(quantity_steps.max()) * price_ticks.size
    kind: type = np.int64 if largest < 2**62 else object
    return np.asarray(price_ticks.astype(kind) * quantity_steps.astype(kind))


def flat(open_ms: int, price_ticks: int) -> Candle:
    """A minute without trades: the last close carried on."""
    return Candle(open_ms, price_ticks, price_ticks, price_ticks, price_ticks, 0, 0, 0)


def filled(candles: Iterable[Candle], first_ms: int, end_ms: int, carried: int | None) -> list[Candle]:
    """Every minute of [first_ms, end_ms); `carried` is the close before it, None if there was no trade yet."""
    by_minute = {candle.open_ms: candle for candle in candles}
    rows = []
    for open_ms in range(first_ms, end_ms, MINUTE_MS):
        candle = by_minute.get(open_ms)
        if candle is None and carried is not None:
            candle = flat(open_ms, carried)
        if candle is not None:
            rows.append(candle)
            carried = candle.close
    return rows


def _week_start(time_ms: int) -> int:
    return (time_ms - _MONDAY_MS) // (7 * DAY_MS) * (7 * DAY_MS) + _MONDAY_MS


def _month_start(time_ms: int) -> int:
    moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1_000


def _next_month(open_ms: int) -> int:
    return _month_start(int((datetime.fromtimestamp(open_ms / 1_000, UTC) + timedelta(days=32)).timestamp()) * 1_000)


class Interval(NamedTuple):
    """A candle length: where the candle of a time starts, where it ends, and its length in ms at most."""

    start_of: Callable[[int], int]
    end_of: Callable[[int], int]
    longest_ms: int


def _fixed(length_ms: int) -> Interval:
    return Interval(lambda time_ms: time_ms // length_ms * length_ms, lambda open_ms: open_ms + length_ms, length_ms)


INTERVALS: Final[Mapping[str, Interval]] = {
    "1m": _fixed(MINUTE_MS),
    "5m": _fixed(5 * MINUTE_MS),
    "15m": _fixed(15 * MINUTE_MS),
    "30m": _fixed(30 * MINUTE_MS),
    "60m": _fixed(60 * MINUTE_MS),
    "4h": _fixed(240 * MINUTE_MS),
    "1d": _fixed(DAY_MS),
    "1W": Interval(_week_start, lambda open_ms: open_ms + 7 * DAY_MS, 7 * DAY_MS),
    "1M": Interval(_month_start, _next_month, 31 * DAY_MS),
}


def grouped(minutes: Iterable[Candle], interval: Interval) -> list[Candle]:
    """Minute candles put together to candles of the interval."""
    return [
        combined(open_ms, list(rows)) for open_ms, rows in groupby(minutes, lambda row: interval.start_of(row.open_ms))
    ]


def combined(open_ms: int, rows: list[Candle]) -> Candle:
    """One candle of several; `rows` is not empty. A minute without trades adds no price of its own."""
    rows = [row for row in rows if row.trade_count] or rows[:1]
    return Candle(
        open_ms,
        rows[0].open,
        max(row.high for row in rows),
        min(row.low for row in rows),
        rows[-1].close,
        sum(row.volume for row in rows),
        sum(row.turnover for row in rows),
        sum(row.trade_count for row in rows),
    )
