"""Recorded trades as a market source; quotes are derived from the prints (apps/engine/quotes.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, Literal

import numpy as np

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.quotes import EMPTY, QuoteState, derive
from apps.engine.recording import Recording
from workers.exchange.candles import MINUTE_MS, Candle, filled, minute_candles
from workers.exchange.market import NOTHING, Ints, Moves, Print, TimedQuote, TradeColumns, UnknownSymbolError

TAIL_MS: Final = 120_000  # event time runs on so long after the minute of the last trade


class ReplaySource:
    """A recording; there is no history before its first trade."""

    def __init__(self, recording: Recording, resume_ms: int | None = None, *, trade_ids: bool = True) -> None:
        self.kind: Literal["replay"] = "replay"
        self.instruments: dict[str, InstrumentSpec] = dict(recording.instruments)
        first_ms, last_ms = int(recording.time_ms[0]), int(recording.time_ms[-1])
        self.start_ms = first_ms // MINUTE_MS * MINUTE_MS if resume_ms is None else resume_ms
        self.end_ms: int = last_ms // MINUTE_MS * MINUTE_MS + TAIL_MS
        self.resumed_from_ms = resume_ms
        self.trade_ids = trade_ids
        self._time_ms = recording.time_ms
        self._columns = {symbol: _columns_of(recording, symbol) for symbol in recording.symbols}
        self._all_minutes = cache(self._make_minutes)

    def feed(self) -> ReplayFeed:
        return ReplayFeed(self._time_ms, self._columns, self.start_ms)

    def add(self, symbol: str) -> None:
        raise UnknownSymbolError(f"the recording holds no {symbol}")

    def trades(self, symbol: str, first_ms: int, last_ms: int) -> TradeColumns:
        return self._columns[symbol].between(first_ms, last_ms)

    def last_trades(self, symbol: str, last_ms: int, limit: int) -> TradeColumns:
        columns = self._columns[symbol]
        stop = columns.count_until(last_ms)
        return columns.part(max(stop - limit, 0), stop)

    def closed_minutes(self, symbol: str, first_ms: int, end_ms: int) -> list[Candle]:
        minutes = self._all_minutes(symbol)
        origin_ms, last = minutes[0].open_ms, minutes[-1]
        start = max((first_ms - origin_ms) // MINUTE_MS, 0)
        rows = minutes[start : max((end_ms - origin_ms) // MINUTE_MS, 0)]
        after_ms = max(first_ms, last.open_ms + MINUTE_MS)
        return rows + filled((), after_ms, end_ms, last.close)

    def _make_minutes(self, symbol: str) -> list[Candle]:
        columns = self._columns[symbol]
        candles = minute_candles(columns.time_ms, columns.price_ticks, columns.quantity_steps)
        return filled(candles, candles[0].open_ms, candles[-1].open_ms + MINUTE_MS, None)


def _columns_of(recording: Recording, symbol: str) -> TradeColumns:
    rows = np.flatnonzero(recording.symbol_index == recording.symbols.index(symbol))
    return TradeColumns(
        recording.time_ms[rows],
        recording.trade_ids[rows],
        recording.sides[rows],
        recording.price_ticks[rows],
        recording.quantity_steps[rows],
    )


class ReplayFeed:
    """Trades in time order, and every change of the derived quotes, at most one per symbol and millisecond."""

    def __init__(self, time_ms: Ints, columns: Mapping[str, TradeColumns], start_ms: int) -> None:
        self.sent_count = 0
        self._time_ms = time_ms
        self._skipped = int(np.searchsorted(time_ms, start_ms))
        self._symbols = {symbol: _SymbolFeed(rows, start_ms) for symbol, rows in columns.items()}

    def step_end(self, until_ms: int, trades_max: int) -> int:
        last = self._skipped + self.sent_count + trades_max - 1
        return min(until_ms, int(self._time_ms[last])) if last < self._time_ms.size else until_ms

    def advance(self, until_ms: int) -> Mapping[str, Moves]:
        moves = {}
        for symbol, feed in self._symbols.items():
            move = feed.advance(until_ms)
            if move is not NOTHING:
                moves[symbol] = move
                self.sent_count += len(move.prints)
        return moves

    def add(self, symbol: str) -> None:
        raise UnknownSymbolError(f"the recording holds no {symbol}")

    def quote(self, symbol: str) -> TimedQuote | None:
        return self._symbols[symbol].quote


class _SymbolFeed:
    """One symbol's position, quote state and newest quote."""

    def __init__(self, columns: TradeColumns, start_ms: int) -> None:
        self.quote: TimedQuote | None = None
        self._columns = columns
        self._position = 0
        self._state: QuoteState = EMPTY
        self.advance(start_ms - 1)

    def advance(self, until_ms: int) -> Moves:
        stop = self._columns.count_until(until_ms)
        if stop == self._position:
            return NOTHING
        prints = self._columns.part(self._position, stop).prints()
        quotes = self._new_quotes(prints)
        self._position = stop
        return Moves(prints, quotes)

    def _new_quotes(self, prints: Sequence[Print]) -> list[TimedQuote]:
        changes: list[TimedQuote] = []
        state, newest, version = self._state, self.quote, self._position
        for time_ms, _, side, price_ticks, quantity_steps in prints:
            version += 1
            state = derive(state, side, price_ticks, quantity_steps)
            if state.quote is None:
                continue
            if changes and changes[-1].time_ms == time_ms:
                changes.pop()
                newest = changes[-1] if changes else self.quote
            if newest is None or newest.quote != state.quote:
                newest = TimedQuote(time_ms, state.quote, version)
                changes.append(newest)
        self._state, self.quote = state, newest
        return changes
