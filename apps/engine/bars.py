"""One-minute bars and the proof of their completeness, for one symbol.

The bar of a minute closes at the first trade of a later minute or at the watermark that passes it, whichever comes
first on the stream; so bars are a function of the stream alone and of no batch split. Sums are exact integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from apps.engine.events import Backfill, CoverageStart, Loss, TradeBlock, WarmupBar
from apps.engine.history import HISTORY_MINUTES, NOT_RECEIVED, REMEMBERED_MINUTES, History
from apps.engine.model import (
    MINUTE_MS,
    BackfilledMinute,
    BarChange,
    CarriedClose,
    ClosedBar,
    CoverageChange,
    LateTrade,
    RefusedBackfill,
    ReplacedBar,
    UnprovenMinute,
)

HASH_MASK: Final = 2**64 - 1
ROLL_MINUTES_MAX: Final = 60 * 24 * 31
KLINES: Final = "klines"

ROW_VERSION: Final = 2


class EngineError(ValueError):
    """An event that must not be applied: it contradicts what came before it or names a symbol nobody follows."""


def trade_hash(ts_event: int, trade_id: str, side: int, price: int, quantity: int) -> int:
    """64-bit hash of one trade: BLAKE2b over its five values, prices in ticks and quantities in steps."""
    text = f"{ts_event}|{trade_id}|{side}|{price}|{quantity}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


@dataclass(slots=True)
class OpenBar:
    """The minute in progress."""

    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    turnover: int = 0
    count: int = 0
    first_trade_id: str = ""
    last_trade_id: str = ""
    hash_sum: int = 0

    def add(self, price: int, quantity: int, trade_id: str, hashed: int) -> None:
        if self.count == 0:
            self.open = self.high = self.low = price
            self.first_trade_id = trade_id
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += quantity
        self.turnover += price * quantity
        self.count += 1
        self.last_trade_id = trade_id
        self.hash_sum = (self.hash_sum + hashed) & HASH_MASK


@dataclass(slots=True)
class BarBuilder:
    """Bars, ordinals and coverage of one symbol."""

    symbol: str
    minute: int | None = None  # the open minute
    bar: OpenBar | None = None
    token: int | None = None
    ordinal: int = 0  # of the last trade seen under `token`
    reached: int | None = None  # event time up to which every trade is known to have been published
    processed: int = 0
    covered: bool = False  # between a CoverageStart and a CoverageEnd
    unproven: dict[int, str] = field(default_factory=dict)
    history: History = field(default_factory=History)

    # --- trades and time ------------------------------------------------------------------------------------------

    def add(self, block: TradeBlock) -> tuple[int, list[ClosedBar], list[LateTrade], list[UnprovenMinute]]:
        """Apply a block. Returns (how many of its first trades had been seen before, bars, late trades, marks)."""
        skip, marks = self._follow(block)
        closed: list[ClosedBar] = []
        late: list[LateTrade] = []
        for index in range(skip, len(block.ts_event)):
            ts, price, quantity = block.ts_event[index], block.price[index], block.quantity[index]
            trade_id = block.trade_id[index]
            hashed = trade_hash(ts, trade_id, block.side[index], price, quantity)
            minute = ts // MINUTE_MS
            self.processed += 1
            if self.minute is not None and minute < self.minute:
                if self._revises(minute, quantity):
                    late.append(LateTrade(self.symbol, minute, price, quantity, trade_id, hashed))
                continue
            if self.minute is None or self.bar is None:
                self.minute, self.bar = minute, OpenBar(price, price, price, price)
            closed += self.roll(minute)
            self.bar.add(price, quantity, trade_id, hashed)
        return skip, closed, late, marks

    def _revises(self, minute: int, quantity: int) -> bool:
        """Whether a late trade changes the minute's bar. What the exchange summed itself holds the trade already."""
        if minute in self.history:
            if self.history.received_in(minute) == NOT_RECEIVED:
                return False
            self.history.receive(minute, quantity)
        return True

    def roll(self, minute: int) -> list[ClosedBar]:
        """Close every minute before `minute`. Without a first price there is nothing to close."""
        closed: list[ClosedBar] = []
        if self.minute is None or self.bar is None:
            return closed
        if minute - self.minute > ROLL_MINUTES_MAX:
            raise EngineError(f"{self.symbol}: time would jump by {minute - self.minute} minutes")
        while self.minute < minute:
            bar = self.bar
            closed.append(
                ClosedBar(
                    self.symbol, self.minute, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.turnover,
                    bar.count, bar.first_trade_id, bar.last_trade_id, bar.hash_sum,
                )
            )  # fmt: skip
            self.history.add(self.minute, bar.close, bar.turnover, bar.volume)
            self.bar = OpenBar(bar.close, bar.close, bar.close, bar.close)
            self.minute += 1
        if closed:
            self._forget()
        return closed

    def _forget(self) -> None:
        """Keep what indicators need, and back to the minute before the oldest one that may still be repaired."""
        end = self.history.end
        if self.unproven:
            self.unproven = {m: why for m, why in self.unproven.items() if m >= end - REMEMBERED_MINUTES}
        oldest = min(self.unproven, default=end)
        self.history.keep(max(HISTORY_MINUTES, end - oldest + 1))

    def warm(self, bar: WarmupBar) -> list[ClosedBar]:
        """A minute of the exchange's history. Ignored once trades or newer history are known."""
        if self.processed or (self.minute is not None and bar.minute < self.minute):
            return []
        closed = self.roll(bar.minute)
        closed.append(
            ClosedBar(
                self.symbol, bar.minute, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.turnover,
                0, "", "", 0, from_klines=True,
            )
        )  # fmt: skip
        self.minute = bar.minute + 1
        self.bar = OpenBar(bar.close, bar.close, bar.close, bar.close)
        self.history.add(bar.minute, bar.close, bar.turnover, NOT_RECEIVED)
        self.unproven.pop(bar.minute, None)
        self._forget()
        return closed

    # --- coverage -------------------------------------------------------------------------------------------------

    def _follow(self, block: TradeBlock) -> tuple[int, list[UnprovenMinute]]:
        """Check the block's ordinals. Returns how many leading trades are repeats, and what a missing number means."""
        if block.token != self.token:
            marks = self._mark(block.ts_event[0], block.ts_event[0], "trades of an ingest that announced no coverage")
            self.token, self.ordinal = block.token, block.ordinal - 1
        elif block.ordinal > self.ordinal + 1:
            since = block.ts_event[0] if self.reached is None else min(self.reached, block.ts_event[0])
            marks = self._mark(since, block.ts_event[0], "trades lost on the stream")
        else:
            marks = []
        skip = min(max(self.ordinal + 1 - block.ordinal, 0), len(block.ts_event))
        self.ordinal = max(self.ordinal, block.ordinal + len(block.ts_event) - 1)
        return skip, marks

    def pass_watermark(self, token: int, ts_event: int, ordinal: int) -> tuple[list[ClosedBar], list[UnprovenMinute]]:
        """Every trade up to `ts_event` has been published, the last of them with this ordinal."""
        marks: list[UnprovenMinute] = []
        if token != self.token:
            raise EngineError(f"{self.symbol}: watermark of token {token}, followed is {self.token}")
        if ordinal > self.ordinal:
            since = ts_event if self.reached is None else self.reached
            marks = self._mark(since, ts_event, "trades lost on the stream")
            self.ordinal = ordinal
        self.reached = ts_event if self.reached is None else max(self.reached, ts_event)
        return self.roll(ts_event // MINUTE_MS), marks

    def start_coverage(self, event: CoverageStart) -> list[UnprovenMinute]:
        """Trades are complete from `since_ms` on; what lies between that and the time reached before is a gap."""
        self.covered = True
        if event.token != self.token:
            self.token, self.ordinal = event.token, 0
        if self.reached is None:
            partial = event.since_ms % MINUTE_MS != 0
            marks = self._mark(event.since_ms, event.since_ms, "the feed began in this minute") if partial else []
            self.reached = event.since_ms - 1
            return marks
        marks = []
        if event.since_ms > self.reached + 1:
            marks = self._mark(self.reached + 1, event.since_ms - 1, event.reason)
            self.reached = event.since_ms - 1
        return marks

    def end_coverage(self) -> None:
        """No trades will come. What was missed meanwhile becomes a gap when coverage starts again."""
        self.covered = False

    def outlived(self, since_ms: int) -> bool:
        """Whether so much time has passed that closing every minute up to `since_ms` makes no sense."""
        last = self.minute if self.minute is not None else (self.reached or since_ms) // MINUTE_MS
        return since_ms // MINUTE_MS - last > ROLL_MINUTES_MAX

    def abandon(self, event: CoverageStart) -> list[UnprovenMinute]:
        """The open minute will never close."""
        since = event.since_ms if self.reached is None else self.reached + 1
        return self._mark(since, since, event.reason)

    def lose(self, event: Loss) -> list[UnprovenMinute]:
        return self._mark(event.from_ms, event.to_ms, event.reason)

    def _mark(self, from_ms: int, to_ms: int, reason: str) -> list[UnprovenMinute]:
        """Minutes touched by [from_ms, to_ms], each once until it is repaired; the first reason stays."""
        first, last = from_ms // MINUTE_MS, max(from_ms, to_ms) // MINUTE_MS
        if last - first > ROLL_MINUTES_MAX:
            raise EngineError(f"{self.symbol}: a gap of {last - first} minutes")
        marks = []
        for minute in range(first, last + 1):
            if minute not in self.unproven:
                self.unproven[minute] = reason
                marks.append(UnprovenMinute(self.symbol, minute, reason))
        return marks

    def unproven_in(self, first: int, last: int) -> tuple[int, str]:
        """How many minutes of first..last are UNPROVEN, and the first one's reason."""
        if not self.unproven:
            return 0, ""
        found = [minute for minute in range(first, last + 1) if minute in self.unproven]
        return len(found), self.unproven[found[0]] if found else ""

    # --- repairs --------------------------------------------------------------------------------------------------

    def fill(self, event: Backfill) -> tuple[list[BarChange], list[CoverageChange]]:
        """Put what REST tells of a closed minute in the place of its bar.

        A minute that is not UNPROVEN needs no repair: nothing changes. One that was forgotten, or of which more was
        received than REST tells, stays as it is. Raises `EngineError` for one that has not closed.
        """
        minute = event.minute
        if self.minute is None or self.bar is None:
            raise EngineError(f"{self.symbol}: a repair of minute {minute} before any price was known")
        if minute >= self.minute:
            raise EngineError(f"{self.symbol}: a repair of minute {minute}, but {self.minute} is open")
        if any(ts // MINUTE_MS != minute for ts in event.ts_event) or min(*event.price, *event.quantity, 1, 1) <= 0:
            raise EngineError(f"{self.symbol}: a repair of minute {minute} with rows that cannot be its own")
        if minute not in self.history:
            return [], [RefusedBackfill(self.symbol, minute, "further back than the engine remembers")]
        if minute not in self.unproven:
            return [], []
        bar, received = self._bar_of(event), self.history.received_in(minute)
        if bar.volume < received:
            return [], [RefusedBackfill(self.symbol, minute, "REST tells less than was received", bar.volume, received)]
        del self.unproven[minute]
        self.history.replace(minute, bar.close, bar.turnover)
        return [bar, *self._carry(minute, bar.close)], [
            BackfilledMinute(self.symbol, minute, event.source, len(event.ts_event))
        ]

    def _bar_of(self, event: Backfill) -> ReplacedBar:
        price, minute = event.price, event.minute
        before = minute - 1 if minute - 1 in self.history else minute
        prices = price or [self.history.close_of(before)]
        return ReplacedBar(
            self.symbol, minute, prices[0], max(prices), min(prices), prices[-1], sum(event.quantity),
            sum(p * q for p, q in zip(price, event.quantity, strict=True)), len(price),
        )  # fmt: skip

    def _carry(self, minute: int, close: int) -> list[BarChange]:
        """Minutes without trades after `minute` close where it does, and the open minute begins there."""
        changes: list[BarChange] = []
        following = minute + 1
        while following in self.history and self.history.is_empty(following):
            if self.history.close_of(following) != close:
                self.history.carry(following, close)
                changes.append(CarriedClose(self.symbol, following, close))
            following += 1
        if following == self.minute and self.bar is not None and self.bar.count == 0:
            self.bar = OpenBar(close, close, close, close)
        return changes

    # --- storage --------------------------------------------------------------------------------------------------

    def row(self) -> list[Any]:
        """Plain values for the state blob."""
        bar = self.bar
        return [
            ROW_VERSION, self.minute, self.token, self.ordinal, self.reached, self.processed, self.covered,
            [[minute, why] for minute, why in sorted(self.unproven.items())], self.history.row(),
            None if bar is None else [
                bar.open, bar.high, bar.low, bar.close, str(bar.volume), str(bar.turnover), bar.count,
                bar.first_trade_id, bar.last_trade_id, str(bar.hash_sum),
            ],
        ]  # fmt: skip

    @classmethod
    def from_row(cls, symbol: str, row: list[Any]) -> BarBuilder:
        if row[0] != ROW_VERSION:
            raise EngineError(f"{symbol}: stored bar state has version {row[0]}, this is {ROW_VERSION}")
        minute, token, ordinal, reached, processed, covered, unproven, history, bar = row[1:]
        open_bar = None
        if bar is not None:
            high_low = (bar[0], bar[1], bar[2], bar[3])
            open_bar = OpenBar(*high_low, int(bar[4]), int(bar[5]), bar[6], bar[7], bar[8], int(bar[9]))
        return cls(
            symbol, minute, open_bar, token, ordinal, reached, processed, covered, dict(unproven), History(*history)
        )
