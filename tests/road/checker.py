"""An oracle that shares no code with the system: what a recording alone says about bars and fills.

It imports nothing from apps, cdb_project or workers. It reads the file, applies the published rules in exact decimal
arithmetic, and compares with rows read from PostgreSQL by plain SQL.
"""

from __future__ import annotations

import csv
import gzip
import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_UP, Decimal
from pathlib import Path
from typing import Any

import psycopg

MINUTE_MS = 60_000
BPS = Decimal(10_000)


@dataclass
class Symbol:
    """One symbol of a recording: its trades, and the quote after each of them."""

    tick: Decimal
    step: Decimal
    taker_fee: Decimal
    times: list[int] = field(default_factory=list)
    prices: list[Decimal] = field(default_factory=list)
    quantities: list[Decimal] = field(default_factory=list)
    quotes: list[tuple[Decimal, Decimal, Decimal, Decimal] | None] = field(default_factory=list)
    last_buy: tuple[Decimal, Decimal] | None = None
    last_sell: tuple[Decimal, Decimal] | None = None

    def add(self, time_ms: int, side: str, price: Decimal, quantity: Decimal) -> None:
        self.times.append(time_ms)
        self.prices.append(price)
        self.quantities.append(quantity)
        if side == "buy":
            self.last_buy = (price, quantity)
        else:
            self.last_sell = (price, quantity)
        self.quotes.append(self._quote(side, price, quantity))

    def _quote(self, side: str, price: Decimal, quantity: Decimal) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
        """The last buy is the ask, the last sell the bid; the side that did not print last gives way by one tick."""
        if side == "buy":
            ask, ask_size = price, quantity
            bid, bid_size = self.last_sell or (price - self.tick, quantity)
            bid = min(bid, price - self.tick)
        else:
            bid, bid_size = price, quantity
            ask, ask_size = self.last_buy or (price + self.tick, quantity)
            ask = max(ask, price + self.tick)
        return (bid, bid_size, ask, ask_size) if bid > 0 else None

    def quote_at(self, time_ms: int) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
        index = bisect_right(self.times, time_ms)
        return self.quotes[index - 1] if index else None


def read(paths: Iterable[Path]) -> dict[str, Symbol]:
    """Recordings with the `.instruments.json` beside them."""
    symbols: dict[str, Symbol] = {}
    rows: list[tuple[int, dict[str, str]]] = []
    for path in paths:
        beside = path.with_name(path.name.split(".csv")[0] + ".instruments.json")
        for name, spec in json.loads(beside.read_text()).items():
            symbols[name] = Symbol(
                Decimal(1).scaleb(-spec["quotePrecision"]),
                Decimal(1).scaleb(-spec["baseAssetPrecision"]),
                Decimal(spec["takerCommission"]),
            )
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt") as file:
            rows += [(int(row["time_ms"]), row) for row in csv.DictReader(file)]
    rows.sort(key=lambda pair: pair[0])
    for time_ms, row in rows:
        symbols[row["symbol"]].add(time_ms, row["aggressor_side"], Decimal(row["price"]), Decimal(row["quantity"]))
    return symbols


def bars(symbol: Symbol) -> dict[int, tuple[Decimal, ...]]:
    """minute -> (open, high, low, close, volume, turnover, count), empty minutes included."""
    grouped: dict[int, list[int]] = {}
    for index, time_ms in enumerate(symbol.times):
        grouped.setdefault(time_ms // MINUTE_MS, []).append(index)
    result: dict[int, tuple[Decimal, ...]] = {}
    close = Decimal(0)
    for minute in range(min(grouped), max(grouped) + 1):
        inside = grouped.get(minute, [])
        prices = [symbol.prices[index] for index in inside] or [close]
        close = prices[-1]
        volume = sum((symbol.quantities[index] for index in inside), Decimal(0))
        turnover = sum((symbol.prices[index] * symbol.quantities[index] for index in inside), Decimal(0))
        result[minute] = (prices[0], max(prices), min(prices), close, volume, turnover, Decimal(len(inside)))
    return result


def expected_fill(
    symbol: Symbol,
    *,
    side: str,
    quantity: Decimal,
    ts_trigger: int,
    latency_ms: int,
    base_bps: Decimal,
    impact_bps: Decimal,
) -> tuple[int, Decimal, Decimal] | None:
    """(event time, price, fee) of a paper order that was triggered at `ts_trigger`."""
    ts_mature = ts_trigger + latency_ms
    quote = symbol.quote_at(ts_mature)
    if quote is None:
        return None
    bid, bid_size, ask, ask_size = quote
    best, size = (ask, ask_size) if side == "BUY" else (bid, bid_size)
    excess = max(Decimal(0), quantity - size)
    # bps = base + impact * excess / quantity, kept as one fraction so that nothing is rounded before the tick
    weight = base_bps * quantity + impact_bps * min(excess, quantity)
    sign = 1 if side == "BUY" else -1
    ticks = best * (BPS * quantity + sign * weight) / (BPS * quantity) / symbol.tick
    price = ticks.to_integral_value(ROUND_CEILING if side == "BUY" else ROUND_FLOOR) * symbol.tick
    fee = (price * quantity * symbol.taker_fee).quantize(Decimal("1e-8"), ROUND_UP)
    return ts_mature, price, fee


FILLS = """
    SELECT i.symbol, t.side, t.quantity, t.price, t.fee, t.ts_event, n.ts_event AS ts_trigger, s.config
      FROM execution_trade t
      JOIN execution_order o ON o.id = t.order_id
      JOIN risk_orderintent n ON n.id = o.intent_id
      JOIN market_instrument i ON i.id = t.instrument_id
      JOIN portfolio_account a ON a.id = t.account_id
      JOIN portfolio_tradingsession s ON s.id = a.session_id
     WHERE s.id = %s
     ORDER BY t.ts_event
"""
BARS = """
    SELECT i.symbol, b.minute, b.open, b.high, b.low, b.close, b.volume, b.turnover, b.count
      FROM market_bar b JOIN market_instrument i ON i.id = b.instrument_id
     WHERE b.epoch_id = (SELECT epoch_id FROM portfolio_tradingsession WHERE id = %s)
"""


def check_fills(database_url: str, session_id: int, symbols: dict[str, Symbol]) -> tuple[int, list[str]]:
    """Compare every fill of a session. Returns (how many, what differs)."""
    faults: list[str] = []
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(FILLS, [session_id]).fetchall()
    for name, side, quantity, price, fee, ts_event, ts_trigger, config in rows:
        paper: dict[str, Any] = config["paper"]
        wanted = expected_fill(
            symbols[name],
            side=side,
            quantity=quantity,
            ts_trigger=ts_trigger,
            latency_ms=int(paper["latency_ms"]),
            base_bps=Decimal(paper["base_bps"]),
            impact_bps=Decimal(paper["impact_bps"]),
        )
        if wanted != (ts_event, price, fee):
            faults.append(
                f"{name} {side} {quantity} triggered {ts_trigger}: {(ts_event, price, fee)}, expected {wanted}"
            )
    return len(rows), faults


def check_bars(database_url: str, session_id: int, symbols: dict[str, Symbol]) -> tuple[int, list[str]]:
    """Compare every bar of the session's epoch to the last digit."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(BARS, [session_id]).fetchall()
    stored = {(row[0], row[1]): tuple(row[2:]) for row in rows}
    wanted = {(name, minute): row for name, symbol in symbols.items() for minute, row in bars(symbol).items()}
    # Each symbol begins with its first trade, but all of them end with the recording.
    last = max(minute for _, minute in wanted)
    faults = [
        f"{key}: stored {stored.get(key)}, expected {row}" for key, row in wanted.items() if stored.get(key) != row
    ]
    faults += [f"{key}: a bar that no trade explains" for key in stored.keys() - wanted.keys() if key[1] > last]
    return len(wanted), faults
