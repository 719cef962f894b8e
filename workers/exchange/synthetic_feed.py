"""The synthetic market read forwards: what a tick costs depends on what happened in it, not on how many symbols exist.

Each symbol's trades come from a tape of made blocks, and a heap knows whose trade is next. Quotes stand for whole
slots and are made many at a time, because one alone costs nearly as much.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from apps.engine.quotes import Quote
from workers.exchange.market import NOTHING, Moves, Print, TimedQuote

if TYPE_CHECKING:
    from workers.exchange.synthetic import SymbolMarket, SyntheticSource

_SLOTS_AT_ONCE: Final = 300
_JUMP_SLOTS: Final = 30  # event time so fast that most slots are passed over: then one quote at a time


class SyntheticFeed:
    """Every symbol's moves; at most one quote change per symbol and step, the last."""

    def __init__(self, source: SyntheticSource, start_ms: int) -> None:
        self.sent_count = 0
        self._source = source
        self._reached_ms = start_ms - 1
        self._tapes: dict[str, _Tape] = {}
        self._books: dict[str, _Book] = {}
        self._next: list[tuple[int, str]] = []  # a heap of the times of each symbol's next trade
        for symbol in source.instruments:
            self.add(symbol)

    def add(self, symbol: str) -> None:
        """Follow one more symbol from here on."""
        market = self._source.markets[symbol]
        self._tapes[symbol] = tape = _Tape(market, self._reached_ms)
        self._books[symbol] = _Book(market, self._reached_ms + 1)
        heapq.heappush(self._next, (tape.next_ms, symbol))
        self._trades_per_second_max = self._source.trades_per_second_max

    def step_end(self, until_ms: int, trades_max: int) -> int:
        # Trades come at a bounded rate, so a bounded time holds a bounded number of them (but for rare luck).
        step_ms = int(trades_max * 1_000 / self._trades_per_second_max)
        return min(until_ms, self._reached_ms + max(step_ms, 1))

    def advance(self, until_ms: int) -> Mapping[str, Moves]:
        moves: dict[str, Moves] = {}
        self._reached_ms = max(until_ms, self._reached_ms)
        for symbol, prints in self._traded(until_ms).items():
            self.sent_count += len(prints)
            moves[symbol] = Moves(prints, ())
        for symbol, book in self._books.items():
            if book.moved(until_ms):
                moves[symbol] = Moves(moves.get(symbol, NOTHING).prints, (book.timed,))
        return moves

    def quote(self, symbol: str) -> TimedQuote | None:
        return self._books[symbol].timed

    def _traded(self, until_ms: int) -> dict[str, list[Print]]:
        prints: dict[str, list[Print]] = {}
        while self._next and self._next[0][0] <= until_ms:
            symbol = self._next[0][1]
            tape = self._tapes[symbol]
            new = tape.take(until_ms)
            heapq.heapreplace(self._next, (tape.next_ms, symbol))
            if new:
                prints.setdefault(symbol, []).extend(new)
        return prints


class _Tape:
    """One symbol's trades from a time on, block by block."""

    def __init__(self, market: SymbolMarket, reached_ms: int) -> None:
        self._market = market
        self._load(market.number_at(reached_ms))
        self._position = bisect_right(self._times, reached_ms)

    def _load(self, number: int) -> None:
        self._number = number
        self._end_ms = self._market.block_end_ms(number)
        self._prints = self._market.block(number).prints()
        self._times = [row.time_ms for row in self._prints]
        self._position = 0

    @property
    def next_ms(self) -> int:
        """When to ask again: the next trade's time, or where the next block begins."""
        return self._times[self._position] if self._position < len(self._times) else self._end_ms

    def take(self, until_ms: int) -> list[Print]:
        """The trades after those taken before, up to and including a time."""
        taken: list[Print] = []
        while True:
            stop = bisect_right(self._times, until_ms, self._position)
            taken += self._prints[self._position : stop]
            self._position = stop
            if until_ms < self._end_ms:
                return taken
            self._load(self._number + 1)


class _Book:
    """One symbol's newest quote."""

    def __init__(self, market: SymbolMarket, time_ms: int) -> None:
        self._market = market
        self._path = market.path
        self._slot = self._path.slot(time_ms)
        self._first = self._slot
        # The first stretch is shorter by a symbol's own measure, so that not all symbols need new ones at once.
        self._quotes = market.slot_quotes(self._slot, _SLOTS_AT_ONCE // 4 + market.stagger % (_SLOTS_AT_ONCE // 2))
        self.timed = TimedQuote(time_ms, self._quotes[0], time_ms)

    def moved(self, time_ms: int) -> bool:
        """Go on to a time; whether another quote is in force then."""
        slot = self._path.slot(time_ms)
        if slot == self._slot:
            return False
        quote = self._quote(slot)
        self._slot = slot
        if quote == self.timed.quote:
            return False
        self.timed = TimedQuote(time_ms, quote, time_ms)
        return True

    def _quote(self, slot: int) -> Quote:
        if not 0 <= slot - self._first < len(self._quotes):
            count = 1 if slot - self._slot > _JUMP_SLOTS else _SLOTS_AT_ONCE
            self._first, self._quotes = slot, self._market.slot_quotes(slot, count)
        return self._quotes[slot - self._first]
