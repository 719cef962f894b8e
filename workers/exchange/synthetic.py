"""The seeded synthetic market as a market source: trades, candles and quotes of any time, on demand."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.quotes import BUY, SELL, Quote
from workers.exchange.candles import MINUTE_MS, Candle, filled, minute_candles
from workers.exchange.market import Moves, Print, TimedQuote, TradeColumns, joined
from workers.exchange.synthetic_path import (
    TRADES_PER_SECOND_MAX,
    Array,
    PricePath,
    SyntheticInstrument,
    hashes,
    key_of,
    lognormal,
    uniform,
)

HOUR_MS: Final = 3_600_000
HISTORY_MS: Final = 72 * HOUR_MS  # candles reach so far back from the time asked for
LOOK_BACK_MINUTES_MAX: Final = 24 * 60
_ID_STRIDE: Final = 400_000_000  # ids per second: 18 digits today, growing with time
_TRADE_KEY_STRIDE: Final = 256  # more than the trades a second can have


def _instrument(
    base: str, price: float, decimals: tuple[int, int], rate: float, height: float, notional: float
) -> SyntheticInstrument:
    price_decimals, quantity_decimals = decimals
    minimum = Decimal(1).scaleb(-quantity_decimals)
    spec = InstrumentSpec(f"{base}USDT", base, "USDT", price_decimals, quantity_decimals, minimum, Decimal(1))
    return SyntheticInstrument(spec, price, rate, height, notional)


# Names and precisions are those of real coins; the prices are invented.
INSTRUMENTS: Final = (
    _instrument("BTC", 96_000.0, (2, 6), 8.0, 0.036, 900.0),
    _instrument("ETH", 3_400.0, (2, 5), 6.0, 0.040, 600.0),
    _instrument("SOL", 190.0, (2, 4), 4.5, 0.044, 350.0),
    _instrument("XRP", 2.4, (4, 2), 4.5, 0.042, 300.0),
    _instrument("DOGE", 0.36, (5, 1), 3.5, 0.046, 200.0),
    _instrument("ADA", 0.95, (4, 2), 3.0, 0.023, 180.0),
    _instrument("LINK", 22.0, (3, 3), 2.5, 0.044, 160.0),
    _instrument("AVAX", 38.0, (3, 3), 2.5, 0.046, 160.0),
    _instrument("LTC", 104.0, (2, 4), 2.5, 0.027, 200.0),
    _instrument("PEPE", 0.00001834, (10, 0), 3.0, 0.048, 120.0),
)


class SyntheticSource:
    """Ten symbols of one seed. Event time starts at `start_ms` and never ends."""

    def __init__(self, seed: int, start_ms: int, *, resumed: bool = False) -> None:
        self.kind: Literal["synthetic"] = "synthetic"
        self.start_ms = start_ms
        self.end_ms: int | None = None
        self.resumed_from_ms = start_ms if resumed else None
        self.instruments: Mapping[str, InstrumentSpec] = {item.spec.symbol: item.spec for item in INSTRUMENTS}
        self._markets = {item.spec.symbol: _SymbolMarket(item, seed, rank) for rank, item in enumerate(INSTRUMENTS)}

    def feed(self) -> SyntheticFeed:
        return SyntheticFeed(self, self.start_ms)

    def trades(self, symbol: str, first_ms: int, last_ms: int) -> TradeColumns:
        minutes = range(first_ms // MINUTE_MS, last_ms // MINUTE_MS + 1)
        parts = [self._markets[symbol].minute(minute) for minute in minutes]
        return joined(parts).between(first_ms, last_ms) if parts else _NO_TRADES

    def last_trades(self, symbol: str, last_ms: int, limit: int) -> TradeColumns:
        market, last_minute = self._markets[symbol], last_ms // MINUTE_MS
        parts: list[TradeColumns] = []
        found = 0
        for minute in range(last_minute, last_minute - LOOK_BACK_MINUTES_MAX, -1):
            block = market.minute(minute)
            block = block.part(0, block.count_until(last_ms))
            parts.insert(0, block)
            found += len(block)
            if found >= limit:
                break
        columns = joined(parts)
        return columns.part(max(len(columns) - limit, 0), len(columns))

    def closed_minutes(self, symbol: str, first_ms: int, end_ms: int) -> list[Candle]:
        first_ms = max(first_ms, end_ms - HISTORY_MS)
        hours = range(first_ms // HOUR_MS, (end_ms - 1) // HOUR_MS + 1)
        rows = [row for hour in hours for row in self._markets[symbol].hour(hour)]
        return [row for row in rows if first_ms <= row.open_ms < end_ms]

    def quote_at(self, symbol: str, time_ms: int) -> Quote:
        """The quote in force at any time."""
        return self._markets[symbol].quote(time_ms)


class _SymbolMarket:
    """One symbol's trades in blocks; the newest blocks asked for are kept."""

    def __init__(self, instrument: SyntheticInstrument, seed: int, rank: int) -> None:
        symbol = instrument.spec.symbol
        self._instrument = instrument
        self._path = PricePath(instrument, seed, rank, len(INSTRUMENTS))
        self._key = key_of(seed, symbol, "trades")
        self.minute = lru_cache(maxsize=128)(self._make_minute)
        self.hour = lru_cache(maxsize=80)(self._make_hour)

    def quote(self, time_ms: int) -> Quote:
        bid_ticks, bid_steps, ask_ticks, ask_steps = self._path.quotes(np.array([time_ms]))
        return Quote(int(bid_ticks[0]), int(bid_steps[0]), int(ask_ticks[0]), int(ask_steps[0]))

    def _make_minute(self, minute: int) -> TradeColumns:
        (time_ms, sides, price_ticks, quantity_steps), numbers = self._trades(minute * 60, minute * 60 + 60)
        ids = [f"{number:018d}X0_{number + 1:018d}X0".encode() for number in numbers.tolist()]
        return TradeColumns(time_ms, np.array(ids, dtype="S41"), sides, price_ticks, quantity_steps)

    def _make_hour(self, hour: int) -> list[Candle]:
        """Sixty candles; the close carried into an empty first minute is the last trade's before the hour."""
        (time_ms, _, price_ticks, quantity_steps), _ = self._trades(hour * 3_600, hour * 3_600 + 3_600)
        candles = minute_candles(time_ms, price_ticks, quantity_steps)
        first_ms = hour * HOUR_MS
        carried = None
        if not candles or candles[0].open_ms != first_ms:
            carried = self._last_price_before(hour * 60)
        return filled(candles, first_ms, first_ms + HOUR_MS, carried)

    def _last_price_before(self, minute: int) -> int:
        for earlier in range(minute - 1, minute - LOOK_BACK_MINUTES_MAX, -1):
            prices = self.minute(earlier).price_ticks
            if prices.size:
                return int(prices[-1])
        return self.quote(minute * MINUTE_MS).bid_ticks

    def _trades(self, first_second: int, end_second: int) -> tuple[tuple[Array, Array, Array, Array], Array]:
        """(times, sides, ticks, steps) and the trade numbers of [first_second, end_second), in time order."""
        seconds = np.arange(first_second, end_second)
        counts = self._path.trade_counts(seconds)
        of_second = np.repeat(seconds, counts)
        within = np.arange(of_second.size) - np.repeat(np.cumsum(counts) - counts, counts)
        bits = hashes(self._key, of_second * _TRADE_KEY_STRIDE + within)
        time_ms = of_second * 1_000 + (bits & np.uint64(0xFFFF)).astype(np.int64) * 1_000 // 65_536
        order = np.argsort(time_ms, kind="stable")
        time_ms, bits = time_ms[order], bits[order]
        bid_ticks, _, ask_ticks, _ = self._path.quotes(time_ms)
        buys = uniform(bits, 16, 8) < 0.5 + 0.2 * self._path.rising(of_second)
        slip = uniform(bits, 24, 8) > 0.9
        price_ticks = np.where(buys, ask_ticks + slip, np.maximum(bid_ticks - slip, 1))
        notional = self._instrument.median_notional * lognormal(bits, 32, 1.3)
        numbers = of_second * _ID_STRIDE + within * 2
        sides = np.where(buys, BUY, SELL).astype(np.int8)
        return (time_ms, sides, price_ticks, self._path.steps(notional, price_ticks)), numbers


_NO_TRADES: Final = TradeColumns(*(np.empty(0, dtype=kind) for kind in (np.int64, "S41", np.int8, np.int64, np.int64)))


class SyntheticFeed:
    """The market read forwards; at most one quote change per symbol and step, the last."""

    def __init__(self, source: SyntheticSource, start_ms: int) -> None:
        self.sent_count = 0
        self._source = source
        self._reached_ms = start_ms - 1
        self._quotes = {
            symbol: TimedQuote(start_ms, source.quote_at(symbol, start_ms), start_ms) for symbol in source.instruments
        }

    def step_end(self, until_ms: int, trades_max: int) -> int:
        # Trades come at a bounded rate, so a bounded time holds a bounded number of them (but for rare luck).
        step_ms = int(trades_max * 1_000 / (TRADES_PER_SECOND_MAX * len(self._quotes)))
        return min(until_ms, self._reached_ms + max(step_ms, 1))

    def advance(self, until_ms: int) -> Mapping[str, Moves]:
        first_ms, self._reached_ms = self._reached_ms + 1, until_ms
        return {symbol: self._move(symbol, first_ms, until_ms) for symbol in self._quotes}

    def quote(self, symbol: str) -> TimedQuote | None:
        return self._quotes[symbol]

    def _move(self, symbol: str, first_ms: int, until_ms: int) -> Moves:
        prints: list[Print] = self._source.trades(symbol, first_ms, until_ms).prints() if first_ms <= until_ms else []
        self.sent_count += len(prints)
        quote = self._source.quote_at(symbol, until_ms)
        if quote == self._quotes[symbol].quote:
            return Moves(prints, ())
        timed = TimedQuote(until_ms, quote, until_ms)
        self._quotes[symbol] = timed
        return Moves(prints, (timed,))
