"""The seeded synthetic market as a market source: trades, candles and quotes of any time, on demand."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import numpy as np

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.quotes import BUY, SELL, Quote
from workers.exchange.candles import Candle, filled, minute_candles
from workers.exchange.instruments import INSTRUMENTS, MarketShape, instrument, paced, slot_ms, symbols_of
from workers.exchange.market import TradeColumns, joined
from workers.exchange.synthetic_feed import SyntheticFeed
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

__all__ = ["HOUR_MS", "INSTRUMENTS", "MarketShape", "SyntheticSource"]

HOUR_MS: Final = 3_600_000
HISTORY_MS: Final = 72 * HOUR_MS  # candles reach so far back from the time asked for
LOOK_BACK_SECONDS_MAX: Final = 24 * 3_600
BLOCK_SECONDS: Final = 600
_FEW_SYMBOLS: Final = 50
_ID_STRIDE: Final = 400_000_000  # ids per second: 18 digits today, growing with time
_TRADE_KEY_STRIDE: Final = 256  # more than the trades a second can have
_BURST: Final = 8.0  # more than the whole market trades in a busy moment, as a multiple of its mean


class SyntheticSource:
    """A market of one seed and shape. Event time starts at `start_ms` and never ends."""

    def __init__(self, seed: int, start_ms: int, *, resumed: bool = False, shape: MarketShape | None = None) -> None:
        self.kind: Literal["synthetic"] = "synthetic"
        self.start_ms = start_ms
        self.end_ms: int | None = None
        self.resumed_from_ms = start_ms if resumed else None
        self._seed = seed
        self._shape = shape or MarketShape()
        self.trade_ids = self._shape.trade_ids
        items = paced(symbols_of(self._shape), self._shape)
        self._count = len(items)
        self._slot_ms = slot_ms(self._count, self._shape)
        self.instruments: dict[str, InstrumentSpec] = {item.spec.symbol: item.spec for item in items}
        self.markets = {item.spec.symbol: self._market(item, rank) for rank, item in enumerate(items)}

    def _market(self, item: SyntheticInstrument, rank: int) -> SymbolMarket:
        path = PricePath(item, self._seed, rank, self._count, self._slot_ms)
        return SymbolMarket(item, self._seed, path, blocks_kept=16 if self._count <= _FEW_SYMBOLS else 3)

    def add(self, symbol: str) -> None:
        """List one more symbol, with its own pace; raises UnknownSymbolError."""
        item = instrument(symbol)
        self.instruments[symbol] = item.spec
        self.markets[symbol] = self._market(item, len(self.markets))

    @property
    def trades_per_second_max(self) -> float:
        """More trades than all symbols together have in a second, but for rare luck."""
        means = [market.trades_per_second for market in self.markets.values()]
        return min(TRADES_PER_SECOND_MAX * len(means), max(_BURST * sum(means), TRADES_PER_SECOND_MAX))

    def feed(self) -> SyntheticFeed:
        return SyntheticFeed(self, self.start_ms)

    def trades(self, symbol: str, first_ms: int, last_ms: int) -> TradeColumns:
        market = self.markets[symbol]
        parts = [market.block(number) for number in range(market.number_at(first_ms), market.number_at(last_ms) + 1)]
        return joined(parts).between(first_ms, last_ms) if parts else _NO_TRADES

    def last_trades(self, symbol: str, last_ms: int, limit: int) -> TradeColumns:
        market = self.markets[symbol]
        last_number = market.number_at(last_ms)
        parts: list[TradeColumns] = []
        found = 0
        for number in range(last_number, last_number - LOOK_BACK_SECONDS_MAX // BLOCK_SECONDS, -1):
            block = market.block(number)
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
        rows = [row for hour in hours for row in self.markets[symbol].hour(hour)]
        return [row for row in rows if first_ms <= row.open_ms < end_ms]

    def quote_at(self, symbol: str, time_ms: int) -> Quote:
        """The quote in force at any time."""
        market = self.markets[symbol]
        return market.slot_quotes(market.path.slot(time_ms), 1)[0]


class SymbolMarket:
    """One symbol's trades in blocks of ten minutes; the newest blocks asked for are kept.

    Blocks of different symbols begin at different seconds, so that a feed never has to make all of them at once.
    """

    def __init__(self, item: SyntheticInstrument, seed: int, path: PricePath, blocks_kept: int) -> None:
        symbol = item.spec.symbol
        self.path = path
        self.trades_per_second = item.trades_per_second
        self.stagger = key_of(seed, symbol, "blocks") % BLOCK_SECONDS
        self._median_notional = item.median_notional
        self._key = key_of(seed, symbol, "trades")
        self.block = lru_cache(maxsize=blocks_kept)(self._make_block)
        self.hour = lru_cache(maxsize=80)(self._make_hour)

    def number_at(self, time_ms: int) -> int:
        """The block that holds a time."""
        return (time_ms // 1_000 + self.stagger) // BLOCK_SECONDS

    def block_end_ms(self, number: int) -> int:
        """Where a block ends and the next begins."""
        return ((number + 1) * BLOCK_SECONDS - self.stagger) * 1_000

    def slot_quotes(self, first: int, count: int) -> list[Quote]:
        """The quotes of `count` slots from slot `first` on."""
        columns = self.path.slot_quotes(np.arange(first, first + count))
        return list(map(Quote, *(column.tolist() for column in columns)))

    def _make_block(self, number: int) -> TradeColumns:
        first = number * BLOCK_SECONDS - self.stagger
        (time_ms, sides, price_ticks, quantity_steps), numbers = self._trades(first, first + BLOCK_SECONDS)
        ids = [f"{number:018d}X0_{number + 1:018d}X0".encode() for number in numbers.tolist()]
        return TradeColumns(time_ms, np.array(ids, dtype="S41"), sides, price_ticks, quantity_steps)

    def _make_hour(self, hour: int) -> list[Candle]:
        """Sixty candles; the close carried into an empty first minute is the last trade's before the hour."""
        (time_ms, _, price_ticks, quantity_steps), _ = self._trades(hour * 3_600, hour * 3_600 + 3_600)
        candles = minute_candles(time_ms, price_ticks, quantity_steps)
        first_ms = hour * HOUR_MS
        carried = None
        if not candles or candles[0].open_ms != first_ms:
            carried = self._last_price_before(first_ms)
        return filled(candles, first_ms, first_ms + HOUR_MS, carried)

    def _last_price_before(self, time_ms: int) -> int:
        """The price of the last trade before a time; without one for a day, the bid."""
        newest = self.number_at(time_ms - 1)
        for number in range(newest, newest - LOOK_BACK_SECONDS_MAX // BLOCK_SECONDS, -1):
            block = self.block(number)
            count = block.count_until(time_ms - 1)
            if count:
                return int(block.price_ticks[count - 1])
        return self.slot_quotes(self.path.slot(time_ms), 1)[0].bid_ticks

    def _trades(self, first_second: int, end_second: int) -> tuple[tuple[Array, Array, Array, Array], Array]:
        """(times, sides, ticks, steps) and the trade numbers of [first_second, end_second), in time order."""
        seconds = np.arange(first_second, end_second)
        counts = self.path.trade_counts(seconds)
        of_second = np.repeat(seconds, counts)
        within = np.arange(of_second.size) - np.repeat(np.cumsum(counts) - counts, counts)
        bits = hashes(self._key, of_second * _TRADE_KEY_STRIDE + within)
        time_ms = of_second * 1_000 + (bits & np.uint64(0xFFFF)).astype(np.int64) * 1_000 // 65_536
        order = np.argsort(time_ms, kind="stable")
        time_ms, bits = time_ms[order], bits[order]
        bid_ticks, _, ask_ticks, _ = self.path.quotes(time_ms)
        buys = uniform(bits, 16, 8) < 0.5 + 0.2 * self.path.rising(of_second)
        slip = uniform(bits, 24, 8) > 0.9
        price_ticks = np.where(buys, ask_ticks + slip, np.maximum(bid_ticks - slip, 1))
        notional = self._median_notional * lognormal(bits, 32, 1.3)
        numbers = of_second * _ID_STRIDE + within * 2
        sides = np.where(buys, BUY, SELL).astype(np.int8)
        return (time_ms, sides, price_ticks, self.path.steps(notional, price_ticks)), numbers


_NO_TRADES: Final = TradeColumns(*(np.empty(0, dtype=kind) for kind in (np.int64, "S41", np.int8, np.int64, np.int64)))
