"""Answers of the public REST as plain documents: what a source's trades and candles look like on the wire."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.quotes import BUY, SELL, Quote
from workers.exchange.candles import DAY_MS, MINUTE_MS, Candle, Interval, combined, filled, grouped, minute_candles
from workers.exchange.frames import decimal_text
from workers.exchange.market import MarketSource, Print, TimedQuote

Document = dict[str, object]
DEPTH_LEVELS_MAX: Final = 5_000
_DAY_FIELDS: Final = (
    "priceChange",
    "priceChangePercent",
    "prevClosePrice",
    "lastPrice",
    "openPrice",
    "highPrice",
    "lowPrice",
    "volume",
    "quoteVolume",
)


class Writer:
    """Writes one instrument's prices, quantities and amounts as decimal text."""

    def __init__(self, spec: InstrumentSpec) -> None:
        self.price = decimal_text(spec.price_decimals)
        self.quantity = decimal_text(spec.quantity_decimals)
        self.amount = decimal_text(spec.price_decimals + spec.quantity_decimals)


def exchange_info_row(spec: InstrumentSpec) -> Document:
    """One symbol's row of exchangeInfo. `baseSizePrecision` is the MINIMUM quantity, whatever its name says."""
    return {
        "symbol": spec.symbol,
        "status": "1",
        "baseAsset": spec.base_asset,
        "baseAssetPrecision": spec.quantity_decimals,
        "quoteAsset": spec.quote_asset,
        "quotePrecision": spec.price_decimals,
        "quoteAssetPrecision": spec.price_decimals,
        "baseCommissionPrecision": spec.quantity_decimals,
        "quoteCommissionPrecision": spec.price_decimals,
        "orderTypes": ["LIMIT", "MARKET", "LIMIT_MAKER"],
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "quoteAmountPrecision": f"{spec.notional_min:f}",
        "baseSizePrecision": f"{spec.quantity_min:f}",
        "permissions": ["SPOT"],
        "filters": [],
        "maxQuoteAmount": f"{spec.notional_max:f}",
        "makerCommission": f"{spec.maker_fee:f}",
        "takerCommission": f"{spec.taker_fee:f}",
        "quoteAmountPrecisionMarket": f"{spec.notional_min:f}",
        "maxQuoteAmountMarket": f"{spec.notional_max:f}",
        "fullName": spec.base_asset,
        "tradeSideType": 1,
        "st": False,
    }


def trade_rows(prints: Iterable[Print], spec: InstrumentSpec) -> list[Document]:
    """Rows of /trades, newest first; the real endpoint gives no ids either."""
    write = Writer(spec)
    rows: list[Document] = [
        {
            "id": None,
            "price": write.price(row.price_ticks),
            "qty": write.quantity(row.quantity_steps),
            "quoteQty": write.amount(row.price_ticks * row.quantity_steps),
            "time": row.time_ms,
            "isBuyerMaker": row.side == SELL,
            "isBestMatch": True,
            "tradeType": "BID" if row.side == BUY else "ASK",
        }
        for row in prints
    ]
    rows.reverse()
    return rows


def aggregate_rows(prints: Iterable[Print], spec: InstrumentSpec, limit: int) -> list[Document]:
    """Rows of /aggTrades: trades of one ms, side and price merged, times cut to the second, newest first."""
    merged: dict[tuple[int, int, int], int] = {}
    for row in prints:
        key = (row.time_ms, row.side, row.price_ticks)
        merged[key] = merged.get(key, 0) + row.quantity_steps
    write = Writer(spec)
    return [
        {
            "a": None,
            "f": None,
            "l": None,
            "p": write.price(price_ticks),
            "q": write.quantity(quantity_steps),
            "T": time_ms // 1_000 * 1_000,
            "m": side == SELL,
            "M": True,
        }
        for (time_ms, side, price_ticks), quantity_steps in list(merged.items())[: -limit - 1 : -1]
    ]


def minutes_until(source: MarketSource, symbol: str, first_ms: int, reached_ms: int) -> list[Candle]:
    """Minute candles from `first_ms` on; the last is the open minute of what has happened up to `reached_ms`."""
    open_ms = (reached_ms + 1) // MINUTE_MS * MINUTE_MS
    first_ms = first_ms // MINUTE_MS * MINUTE_MS
    # One minute more than asked for: its close is carried into an open minute that has no trade yet.
    closed = source.closed_minutes(symbol, first_ms - MINUTE_MS, open_ms)
    carried = closed[-1].close if closed else None
    wanted = [row for row in closed if row.open_ms >= first_ms]
    if not first_ms <= open_ms <= reached_ms:
        return wanted
    now = source.trades(symbol, open_ms, reached_ms)
    current = minute_candles(now.time_ms, now.price_ticks, now.quantity_steps)
    return wanted + filled(current, open_ms, open_ms + MINUTE_MS, carried)


def candle_window(interval: Interval, start_ms: int | None, end_ms: int, limit: int) -> int:
    """The first time needed for the answer: `start_ms`, or `limit` candles before the one of `end_ms`."""
    if start_ms is not None:
        first_ms = interval.start_of(start_ms)
        # A candle belongs to the answer by its opening time.
        return first_ms if first_ms == start_ms else interval.end_of(first_ms)
    return interval.start_of(max(end_ms - (limit - 1) * interval.longest_ms, 0))


def kline_rows(candles: Sequence[Candle], interval: Interval, spec: InstrumentSpec) -> list[list[object]]:
    """Rows of /klines, oldest first."""
    write = Writer(spec)
    return [
        [
            row.open_ms,
            write.price(row.open),
            write.price(row.high),
            write.price(row.low),
            write.price(row.close),
            write.quantity(row.volume),
            interval.end_of(row.open_ms),
            write.amount(row.turnover),
        ]
        for row in candles
    ]


def candles(
    source: MarketSource, symbol: str, interval: Interval, window: tuple[int | None, int, int], reached_ms: int
) -> list[Candle]:
    """Closed candles and the open one; `window` is (startTime or None, endTime, limit)."""
    start_ms, end_ms, limit = window
    end_ms = min(end_ms, reached_ms)
    first_ms = candle_window(interval, start_ms, end_ms, limit)
    if start_ms is not None:
        end_ms = min(end_ms, first_ms + limit * interval.longest_ms)
    last_ms = interval.end_of(interval.start_of(end_ms)) - 1
    rows = grouped(minutes_until(source, symbol, first_ms, min(last_ms, reached_ms)), interval)
    rows = [row for row in rows if row.open_ms <= end_ms]
    return rows[-limit:] if start_ms is None else rows[:limit]


def depth(timed: TimedQuote | None, symbol: str, spec: InstrumentSpec, levels: int) -> Document:
    """A book grown from its top: the same quote always gives the same levels."""
    if timed is None:
        return {"lastUpdateId": 0, "bids": [], "asks": []}
    write, quote = Writer(spec), timed.quote
    bids = _levels(symbol, quote.bid_ticks, quote.bid_steps, -1, levels)
    asks = _levels(symbol, quote.ask_ticks, quote.ask_steps, 1, levels)
    return {
        "lastUpdateId": timed.version,
        "bids": [[write.price(ticks), write.quantity(steps)] for ticks, steps in bids],
        "asks": [[write.price(ticks), write.quantity(steps)] for ticks, steps in asks],
    }


def _levels(symbol: str, ticks: int, steps: int, direction: int, levels: int) -> list[tuple[int, int]]:
    rows = [(ticks, steps)]
    for _ in range(levels - 1):
        dice = zlib.crc32(f"{symbol}{ticks}".encode())
        ticks += direction * (1 + dice % 3)
        if ticks <= 0:
            break
        rows.append((ticks, max(steps * (40 + (dice >> 8) % 160) // 100, 1)))
    return rows


def day_ticker(source: MarketSource, symbol: str, timed: TimedQuote | None, reached_ms: int) -> Document:
    """One row of /ticker/24hr: volume is base, quoteVolume quote; the percentage is a fraction."""
    first_ms = reached_ms - DAY_MS + 1
    minutes = minutes_until(source, symbol, -(-first_ms // MINUTE_MS) * MINUTE_MS, reached_ms)
    write = Writer(source.instruments[symbol])
    quote = timed.quote if timed else None
    row: Document = {"symbol": symbol, **_quote_fields(quote, write), "openTime": first_ms, "closeTime": reached_ms + 1}
    if not minutes:
        return row | dict.fromkeys(_DAY_FIELDS, "0") | {"count": None}
    day = combined(first_ms, minutes)
    change = day.close - day.open
    sign = "-" if change < 0 else ""
    return row | {
        "priceChange": sign + write.price(abs(change)),
        "priceChangePercent": f"{sign}{decimal_text(4)(abs(change) * 10_000 // day.open)}",
        "prevClosePrice": write.price(day.open),
        "lastPrice": write.price(day.close),
        "openPrice": write.price(day.open),
        "highPrice": write.price(day.high),
        "lowPrice": write.price(day.low),
        "volume": write.quantity(day.volume),
        "quoteVolume": write.amount(day.turnover),
        "count": None,
    }


def book_ticker(symbol: str, timed: TimedQuote | None, spec: InstrumentSpec) -> Document:
    """One row of /ticker/bookTicker."""
    return {"symbol": symbol, **_quote_fields(timed.quote if timed else None, Writer(spec))}


def _quote_fields(quote: Quote | None, write: Writer) -> Document:
    if quote is None:
        return dict.fromkeys(("bidPrice", "bidQty", "askPrice", "askQty"), "")
    return {
        "bidPrice": write.price(quote.bid_ticks),
        "bidQty": write.quantity(quote.bid_steps),
        "askPrice": write.price(quote.ask_ticks),
        "askQty": write.quantity(quote.ask_steps),
    }


def last_price(source: MarketSource, symbol: str, reached_ms: int) -> Document:
    """One row of /ticker/price."""
    last = source.last_trades(symbol, reached_ms, 1).prints()
    write = Writer(source.instruments[symbol])
    return {"symbol": symbol, "price": write.price(last[0].price_ticks) if last else "0"}


def average_price(source: MarketSource, symbol: str, reached_ms: int) -> Document:
    """The volume-weighted price of the last five minutes; without trades the last price."""
    prints = source.trades(symbol, reached_ms - 5 * MINUTE_MS, reached_ms).prints()
    steps = sum(row.quantity_steps for row in prints)
    if not steps:
        return {"mins": 5, "price": last_price(source, symbol, reached_ms)["price"]}
    turnover = sum(row.price_ticks * row.quantity_steps for row in prints)
    write = Writer(source.instruments[symbol])
    return {"mins": 5, "price": write.price((2 * turnover + steps) // (2 * steps))}
