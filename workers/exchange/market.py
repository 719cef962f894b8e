"""What the server asks of a market source, and the columns its trades come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.quotes import Quote
from workers.exchange.candles import Candle

Ints: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class TradeColumns:
    """One symbol's trades in time order: ms, ids as ASCII bytes, aggressor sides, ticks, steps."""

    time_ms: Ints
    trade_ids: Ints
    sides: Ints
    price_ticks: Ints
    quantity_steps: Ints

    def __len__(self) -> int:
        return int(self.time_ms.size)

    def part(self, start: int, stop: int) -> TradeColumns:
        """Rows [start, stop)."""
        cut = slice(start, stop)
        return TradeColumns(
            self.time_ms[cut], self.trade_ids[cut], self.sides[cut], self.price_ticks[cut], self.quantity_steps[cut]
        )

    def between(self, first_ms: int, last_ms: int) -> TradeColumns:
        """Rows with first_ms <= time <= last_ms."""
        return self.part(int(np.searchsorted(self.time_ms, first_ms)), self.count_until(last_ms))

    def count_until(self, last_ms: int) -> int:
        """How many rows have time <= last_ms."""
        return int(np.searchsorted(self.time_ms, last_ms, side="right"))

    def prints(self) -> list[Print]:
        """The rows as plain Python values."""
        columns = (self.time_ms, self.trade_ids, self.sides, self.price_ticks, self.quantity_steps)
        return list(map(Print, *(column.tolist() for column in columns)))


def joined(parts: Sequence[TradeColumns]) -> TradeColumns:
    """The parts one after the other."""
    names = ("time_ms", "trade_ids", "sides", "price_ticks", "quantity_steps")
    return TradeColumns(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Print(NamedTuple):
    """One trade: ms, id, aggressor side, ticks, steps."""

    time_ms: int
    trade_id: bytes
    side: int
    price_ticks: int
    quantity_steps: int


class TimedQuote(NamedTuple):
    """A quote with the event time from which it is in force and its place in the sequence of changes."""

    time_ms: int
    quote: Quote
    version: int


class Moves(NamedTuple):
    """What happened to one symbol in a step: its trades, and the quotes that came into force."""

    prints: Sequence[Print]
    quotes: Sequence[TimedQuote]


NOTHING: Final = Moves((), ())


class Feed(Protocol):
    """A source read forwards once, from its start."""

    sent_count: int  # trades whose time has passed

    def step_end(self, until_ms: int, trades_max: int) -> int:
        """The furthest time not after `until_ms` that brings about `trades_max` trades at most."""

    def advance(self, until_ms: int) -> Mapping[str, Moves]:
        """What happened after the last call's time up to `until_ms` included; symbols without a move are left out."""

    def quote(self, symbol: str) -> TimedQuote | None:
        """The quote in force at the time reached."""

    def add(self, symbol: str) -> None:
        """Follow a symbol that the source has just been given."""


class UnknownSymbolError(ValueError):
    """A text that cannot be a symbol of a market source."""


class MarketSource(Protocol):
    """Trades of the past and the future; the server alone decides which of them have happened."""

    @property
    def kind(self) -> str: ...
    @property
    def instruments(self) -> Mapping[str, InstrumentSpec]: ...
    @property
    def start_ms(self) -> int: ...
    @property
    def end_ms(self) -> int | None: ...
    @property
    def resumed_from_ms(self) -> int | None: ...
    @property
    def trade_ids(self) -> bool:
        """Whether trades carry their ids on the wire."""

    def feed(self) -> Feed:
        """A feed that stands just before `start_ms`."""

    def add(self, symbol: str) -> None:
        """Hold one more symbol; raises UnknownSymbolError if there is no such thing."""

    def trades(self, symbol: str, first_ms: int, last_ms: int) -> TradeColumns:
        """Trades with first_ms <= time <= last_ms."""

    def last_trades(self, symbol: str, last_ms: int, limit: int) -> TradeColumns:
        """The newest `limit` trades with time <= last_ms, oldest first."""

    def closed_minutes(self, symbol: str, first_ms: int, end_ms: int) -> list[Candle]:
        """Minute candles opening in [first_ms, end_ms), both whole minutes, without a hole after the first known."""
