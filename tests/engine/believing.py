"""Which prices are believed and where a position ends, in plain Python on exact fractions.

Shares nothing with the engine. Everything is in whole ticks and ms. The manual (docs/exits.md) says the same in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

TENTH = Fraction(1, 10)
PARTS = 100_000_000


def far(price: int, reference: int) -> bool:
    return abs(Fraction(price, reference) - 1) > TENTH


@dataclass
class Believer:
    """What is believed after each trade; `price` is 0 until one is known."""

    price: int
    doubted: list[tuple[int, int]] = field(default_factory=list)  # may still be confirmed
    row: list[int] = field(default_factory=list)  # prices in a row that agree each with the one before

    def sees(self, ts: int, price: int) -> bool:
        """Whether this trade's price is believed."""
        if self.price and far(price, self.price):
            self.doubted = [(at, seen) for at, seen in self.doubted if abs(ts - at) <= 2_000 and not far(seen, price)]
            self.doubted.append((ts, price))
            self.row = [*self.row, price] if self.row and not far(self.row[-1], price) else [price]
            if len(self.doubted) < 3 and len(self.row) < 64:
                return False
        self.price, self.doubted, self.row = price, [], []
        return True


@dataclass(frozen=True)
class Ending:
    """Where a position ended: the trade's number (None: its time was over), its price and the one that counts."""

    reason: str
    number: int | None
    ts: int
    price: int
    counts: int


@dataclass(frozen=True)
class Plan:
    """A position's rules; the fill was at `entry` ticks. 0 is none, `trailing` is in parts of `PARTS`."""

    entry: int
    opened_ts: int
    stop: int
    target: int
    trailing: int
    due_ts: int
    retry_ts: int = 0
    last: int = 0  # price of the last trade before the first of those that are given
    high: int = 0

    def ending(
        self, trades: Sequence[tuple[int, int]], sells: frozenset[int] = frozenset(), end_ms: int = 0
    ) -> Ending | None:
        """The first exit on (ts, price) in order; `sells` are the trades on which the strategy says so."""
        believer, high, last = Believer(self.entry), self.high, self.last or self.entry
        counts, waits = last, False  # an exit signal on a print that is not believed counts on the next that is
        for number, (ts, price) in enumerate(trades):
            if ts >= self.due_ts:
                return Ending("max_holding", None, self.due_ts, last, counts)
            last = price
            waits |= number in sells and max(self.opened_ts + 1, self.retry_ts) <= ts
            if ts <= self.opened_ts:
                counts = believer.price if believer.doubted else price
                continue
            if not believer.sees(ts, price):
                counts = believer.price
                continue
            counts = price
            reason = next(self._reasons(price, high, sells=waits), "")
            if reason and ts >= self.retry_ts:
                return Ending(reason, number, ts, price, price)
            high = max(high, price)
        return Ending("max_holding", None, self.due_ts, last, counts) if self.due_ts <= end_ms else None

    def _reasons(self, price: int, high: int, *, sells: bool) -> Iterator[str]:
        if price <= self.stop:
            yield "stop_loss"
        if self.trailing and high and price <= high * (1 - Fraction(self.trailing, PARTS)):
            yield "trailing_stop"
        if self.target and price >= self.target:
            yield "take_profit"
        if sells:
            yield "exit_signal"
