"""What an account holds and has promised, the prices it is valued at, and the orders approved near an event time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from apps.engine.model import MINUTE_MS
from apps.engine.money import total
from apps.engine.portfolio import Side, worth
from apps.engine.risk.values import Intent, Limits
from apps.engine.risk.words import plain

DAY_MS: Final = 86_400_000
SECOND_MS: Final = 1_000


class Held(NamedTuple):
    """An open position, as far as a decision needs it."""

    position_id: int
    symbol: str
    quantity: Decimal


class Promised(NamedTuple):
    """An active reservation, as far as a decision needs it."""

    symbol: str
    reducing: bool
    position_id: int | None
    currency: str
    amount: Decimal
    notional: Decimal


@dataclass(frozen=True, slots=True)
class Book:
    """What an account holds and has promised, read once. Meaningful under the account's lock."""

    positions: list[Held]
    reservations: list[Promised]

    @property
    def symbols(self) -> set[str]:
        """Symbols whose price matters: held, or about to be."""
        opening = {row.symbol for row in self.reservations if not row.reducing}
        return opening | {row.symbol for row in self.positions}

    def worth(self, marks: Mapping[str, Decimal], symbol: str | None = None) -> tuple[Decimal, tuple[str, ...]]:
        """The value of the positions (of one symbol), and held symbols without a mark, which count nothing."""
        return worth([(row.symbol, row.quantity) for row in self.positions if symbol in (None, row.symbol)], marks)

    def promised(self, symbol: str | None = None) -> Decimal:
        """What open orders may add to exposure."""
        return total([row.notional for row in self.reservations if symbol in (None, row.symbol)])

    def exposure(self, marks: Mapping[str, Decimal], symbol: str | None = None) -> Decimal:
        """Gross: positions at their marks and open orders at their limits. What has no mark counts nothing."""
        return total([self.worth(marks, symbol)[0], self.promised(symbol)])

    def entries_of(self, symbol: str) -> int:
        """Open positions in a symbol, and opening orders that may become one. Half filled, an order counts as both."""
        held = sum(row.symbol == symbol for row in self.positions)
        return held + sum(row.symbol == symbol and not row.reducing for row in self.reservations)

    def opposite(self, symbol: str, *, reducing: bool) -> int:
        """Open orders in a symbol on the other side of one that reduces, or of one that opens."""
        return sum(row.symbol == symbol and row.reducing is not reducing for row in self.reservations)

    def reserved(self, currency: str) -> Decimal:
        return total([row.amount for row in self.reservations if row.currency == currency])


@dataclass(frozen=True, slots=True)
class MarkSet:
    """The prices that a decision values everything with, and the closed minute they are from (None: none closed)."""

    minute: int | None
    prices: Mapping[str, Decimal]

    def as_json(self) -> dict[str, Any]:
        prices = {symbol: plain(price) for symbol, price in sorted(self.prices.items())}
        return {"minute": self.minute, "prices": prices}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> MarkSet:
        prices = {symbol: Decimal(price) for symbol, price in stored.get("prices", {}).items()}
        return cls(stored.get("minute"), prices)

    def narrowed(self, symbols: Iterable[str], older: MarkSet) -> MarkSet:
        """Only `symbols`; one that has no price here keeps the one it had in `older`."""
        known = {**older.prices, **self.prices}
        return MarkSet(self.minute, {symbol: known[symbol] for symbol in symbols if symbol in known})


class NearOrder(NamedTuple):
    """An approved order close in event time to the one that is judged."""

    ts_event: int
    reducing: bool
    symbol: str
    side: Side
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Earlier:
    """Approved orders near an event time, on either side of it: signals of several shards do not arrive in order."""

    orders_second: int
    orders_minute: int
    orders_day: int
    exits_second: int
    repeats: int
    twin_ms: int | None


def reach_of(limits: Limits) -> int:
    """How far (ms, exclusive) from the order's event time `earlier` must be given orders."""
    return max(MINUTE_MS, limits.duplicate_ms + 1, limits.repeat_window_ms)


def earlier(rows: Iterable[NearOrder], *, of_the_day: int, ts_event: int, intent: Intent, limits: Limits) -> Earlier:
    """Counts for throttle, repetition and duplicate, for an order at `ts_event`.

    `rows` are the orders within `reach_of`; `of_the_day` counts opening ones of the trading day.
    """
    opening: list[int] = []
    exits: list[int] = []
    twins: list[int] = []
    repeats = 0
    for row in rows:
        away_ms = abs(row.ts_event - ts_event)
        (exits if row.reducing else opening).append(away_ms)
        if not row.reducing and row.symbol == intent.symbol and row.side == intent.side:
            repeats += away_ms < limits.repeat_window_ms
            if row.quantity == intent.quantity:
                twins.append(away_ms)
    return Earlier(
        orders_second=sum(away_ms < SECOND_MS for away_ms in opening),
        orders_minute=sum(away_ms < MINUTE_MS for away_ms in opening),
        orders_day=of_the_day,
        exits_second=sum(away_ms < SECOND_MS for away_ms in exits),
        repeats=repeats,
        twin_ms=min(twins, default=None),
    )
