"""What to ask REST for minutes that were not received whole, and whether the answers are whole themselves.

Nothing here asks anybody. A minute is replaced as a whole and begins and ends at whole seconds, so that rows with times
in seconds have no inexact edges; it counts as told when rows and kline agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise, takewhile
from typing import Final

from apps.bus.orders import FAILED, FILLED, PARTIAL, UNFILLABLE, Repair
from workers.ingest.rest import (
    KLINES_MAX,
    MINUTE_MS,
    PAGE_ROWS,
    SECOND_MS,
    WINDOW_MINUTES_MAX,
    Kline,
    Print,
    RestError,
    Scaled,
)

TRADES: Final = "trades"
AGGREGATES: Final = "aggTrades"
KLINES: Final = "klines"
ROWS_MAX: Final = 20_000  # of one minute


@dataclass(frozen=True, slots=True)
class Batch:
    """Minutes of one symbol that one call for klines covers; oldest first, with the attempt of each."""

    symbol: str
    attempts: dict[int, int]

    @property
    def minutes(self) -> list[int]:
        return list(self.attempts)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one minute. `rows` are oldest first and complete if the status is `filled`, else none."""

    minute: int
    status: str
    detail: str = ""
    source: str = ""
    rows: tuple[Print, ...] = ()


def plan(repairs: Iterable[Repair], before_ms: int) -> list[Batch]:
    """Batches with the newest minutes first, of minutes that ended before `before_ms`."""
    wanted: dict[str, dict[int, int]] = {}
    for repair in repairs:
        if (repair.minute + 1) * MINUTE_MS <= before_ms:
            wanted.setdefault(repair.symbol, {})[repair.minute] = repair.attempt
    batches = [
        Batch(symbol, {minute: attempts[minute] for minute in reversed(minutes)})
        for symbol, attempts in wanted.items()
        for minutes in _runs(sorted(attempts, reverse=True), KLINES_MAX)
    ]
    return sorted(batches, key=lambda batch: (-batch.minutes[-1], batch.symbol))


def windows(minutes: Iterable[int]) -> list[list[int]]:
    """Minutes that calls for aggTrades can share, each list newest first."""
    return _runs(sorted(minutes, reverse=True), WINDOW_MINUTES_MAX)


def _runs(newest_first: list[int], length_max: int) -> list[list[int]]:
    """Split so that none spans more than `length_max` minutes."""
    runs: list[list[int]] = []
    for minute in newest_first:
        if runs and runs[-1][0] - minute < length_max:
            runs[-1].append(minute)
        else:
            runs.append([minute])
    return runs


class Pages:
    """Pages of aggTrades backwards through a window, until every wanted minute is known to its first second.

    A full page may have cut its oldest second: those rows are left out and the next page ends with that second. If a
    full page holds one second only, the rest of that second cannot be had.
    """

    def __init__(self, minutes: Sequence[int]) -> None:
        """`minutes` are wanted, newest first, and span an hour at most."""
        self._minutes = list(minutes)
        self._begin_ms = self._minutes[-1] * MINUTE_MS
        self._end_ms = self._minutes[0] * MINUTE_MS + MINUTE_MS - SECOND_MS
        self._rows: dict[int, list[Print]] = {minute: [] for minute in self._minutes}
        self._cut: set[int] = set()

    def next(self) -> tuple[int, int] | None:
        """The next window to ask for, as whole seconds, both inclusive; None when everything was asked."""
        for minute in self._minutes:
            if minute * MINUTE_MS <= self._end_ms:
                self._end_ms = min(self._end_ms, minute * MINUTE_MS + MINUTE_MS - SECOND_MS)
                return self._begin_ms, self._end_ms
        return None

    def add(self, rows: Sequence[Print]) -> None:
        """The answer to `next`, oldest first. Raises `RestError` for rows that no such question has as an answer."""
        if any(later.ts_event < earlier.ts_event for earlier, later in pairwise(rows)):
            raise RestError("aggTrades are not in the order of their times")
        if rows and not self._begin_ms <= rows[0].ts_event <= rows[-1].ts_event < self._end_ms + SECOND_MS:
            raise RestError("aggTrades lie outside the window that was asked for")
        if len(rows) < PAGE_ROWS:
            self._take(rows)
            self._end_ms = self._begin_ms - SECOND_MS
            return
        oldest_ms = rows[0].ts_event // SECOND_MS * SECOND_MS
        whole = [row for row in rows if row.ts_event >= oldest_ms + SECOND_MS]
        self._take(whole)
        if whole:
            self._end_ms = oldest_ms
        else:
            self._cut.add(oldest_ms // MINUTE_MS)
            self._end_ms = oldest_ms - SECOND_MS

    def _take(self, rows: Sequence[Print]) -> None:
        """Put older rows before what is known."""
        found: dict[int, list[Print]] = {}
        for row in rows:
            found.setdefault(row.ts_event // MINUTE_MS, []).append(row)
        for minute, older in found.items():
            if minute in self._rows:
                self._rows[minute][:0] = older

    def is_cut(self, minute: int) -> bool:
        """Whether a second of it had more rows than a page holds."""
        return minute in self._cut

    def is_known(self, minute: int) -> bool:
        """Whether it was asked for back to its first second."""
        return self._end_ms < minute * MINUTE_MS

    def rows(self, minute: int) -> list[Print]:
        return self._rows[minute]


def reach_ms(trades: Sequence[Print]) -> int:
    """The first second (ms) from which on `trades`, the newest ones of a symbol, oldest first, are complete."""
    if len(trades) < PAGE_ROWS:
        return 0
    return (trades[0].ts_event // SECOND_MS + 1) * SECOND_MS


def rows_of(trades: Iterable[Print], minute: int) -> list[Print]:
    return [row for row in trades if row.ts_event // MINUTE_MS == minute]


def settle(minute: int, source: str, rows: Sequence[Print], kline: Kline | None, instrument: Scaled) -> Result:
    """Whether the rows are the whole minute, judged by its kline."""
    if kline is None:
        return Result(minute, FAILED, "the exchange tells no kline of this minute", source)
    if len(rows) > ROWS_MAX:
        return Result(minute, UNFILLABLE, f"{len(rows)} rows, at most {ROWS_MAX} are taken", source)
    if not rows and kline.volume:
        detail = f"no rows, volume {_text(kline.volume, instrument.quantity_decimals)} in the kline"
        return Result(minute, UNFILLABLE, detail, source)
    difference = compare(rows, kline, instrument)
    if difference:
        return Result(minute, FAILED, difference, source)
    arranged = arrange(rows, kline)
    if arranged and (arranged[0].price, arranged[-1].price) != (kline.open, kline.close):
        return Result(minute, FAILED, "no order of the rows gives both the kline's open and its close", source)
    return Result(minute, FILLED, "", source, tuple(arranged))


def cut(minute: int, source: str) -> Result:
    return Result(minute, PARTIAL, f"one second has {PAGE_ROWS} rows or more", source)


def compare(rows: Sequence[Print], kline: Kline, instrument: Scaled) -> str:
    """The first difference in words, with both numbers; empty if rows and kline agree."""
    ticks, steps = instrument.price_decimals, instrument.quantity_decimals
    volume = sum(row.quantity for row in rows)
    if volume != kline.volume:
        return f"volume {_text(volume, steps)} in rows, {_text(kline.volume, steps)} in the kline"
    turnover = sum(row.price * row.quantity for row in rows)
    if abs(turnover - kline.turnover) >= kline.turnover_unit:  # cut or rounded at that decimal
        return f"turnover {_text(turnover, ticks + steps)} in rows, {_text(kline.turnover, ticks + steps)} in the kline"
    if not rows:
        return ""
    prices = [row.price for row in rows]
    first, last = _same_time(rows), _same_time(rows[::-1])
    for name, ours, theirs, right in (
        ("high", max(prices), kline.high, max(prices) == kline.high),
        ("low", min(prices), kline.low, min(prices) == kline.low),
        ("open", prices[0], kline.open, any(row.price == kline.open for row in first)),
        ("close", prices[-1], kline.close, any(row.price == kline.close for row in last)),
    ):
        if not right:
            return f"{name} {_text(ours, ticks)} in rows, {_text(theirs, ticks)} in the kline"
    return ""


def arrange(rows: Sequence[Print], kline: Kline) -> list[Print]:
    """The rows in an order that begins and ends as the kline does.

    Rows of one time have no order that REST could tell: merged rows hold trades from before and after others. If one
    row is both the first and the last price of the minute, it is split by one step.
    """
    arranged = list(rows)
    if not arranged:
        return arranged
    if arranged[0].price != kline.open:
        place = next(index for index, row in enumerate(arranged) if row.price == kline.open)
        arranged.insert(0, arranged.pop(place))
    if arranged[-1].price != kline.close:
        place = next(index for index in reversed(range(len(arranged))) if arranged[index].price == kline.close)
        row = arranged.pop(place)
        if place == 0 and row.price == kline.open and row.quantity > 1:
            arranged.insert(0, replace(row, quantity=row.quantity - 1))
            row = replace(row, quantity=1)
        arranged.append(row)
    return arranged


def _same_time(rows: Sequence[Print]) -> list[Print]:
    """The first row and those of the same time that follow it."""
    return list(takewhile(lambda row: row.ts_event == rows[0].ts_event, rows))


def _text(units: int, decimals: int) -> str:
    return f"{Decimal(units).scaleb(-decimals):f}"
