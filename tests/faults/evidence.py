"""What a run left behind, read by means of its own: the exchange's journal, the stream, the tables.

Nothing of apps/ or workers/ is imported here or in the checker, so a mistake of theirs cannot excuse itself. The packed
form of the stream and the columns of the tables are read by their documented layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec
import psycopg
import redis

MINUTE_MS: Final = 60_000
TRADE_BLOCK: Final = 1  # tag of a block of trades on the stream
QUOTE_BLOCK: Final = 2
WARMUP_BAR: Final = 6
BACKFILL: Final = 8
OUT_OF_ORDER: Final = ("reorder", "late")
_ENTRIES_PER_READ: Final = 500


class Trade(NamedTuple):
    """Event time in ms, id ("" if the exchange sends none), aggressor (1 buys, 2 sells), whole ticks, whole steps."""

    ts_ms: int
    trade_id: str
    side: int
    price: int
    quantity: int


class Bar(NamedTuple):
    """One stored minute, prices and sums as PostgreSQL has them."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    turnover: Decimal
    trade_count: int
    first_trade_id: str
    last_trade_id: str
    hash_sum: int
    source: str


class Statement(NamedTuple):
    """A row of the coverage ledger."""

    status: str
    reason: str


class Block(NamedTuple):
    """One event of an entry: trades of one symbol, or (without trades) something else that names its token."""

    entry_id: str
    token: int
    symbol: str
    ordinal: int
    trades: tuple[Trade, ...]


Key: TypeAlias = tuple[str, int]  # symbol and minute


@dataclass
class Evidence:
    """Everything one run is judged by. `closed` holds, per symbol, the last minute its shard calls closed."""

    start_minute: int
    decimals: dict[str, tuple[int, int]]
    journal: dict[str, list[Trade]]
    disordered: set[Key] = field(default_factory=set)
    bars: dict[Key, Bar] = field(default_factory=dict)
    coverage: dict[Key, Statement] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    swept: dict[str, int | None] = field(default_factory=dict)
    shards: dict[int, list[Block]] = field(default_factory=dict)
    dead: set[tuple[int, str]] = field(default_factory=set)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------

_INSTRUMENTS: Final = """
    SELECT i.symbol, i.price_decimals, i.quantity_decimals, c.closed_minute, e.swept_minute
      FROM market_epochinstrument e
      JOIN market_instrument i ON i.id = e.instrument_id
      LEFT JOIN market_shardcursor c ON c.epoch_id = e.epoch_id AND c.shard = e.shard
     WHERE e.epoch_id = %s
"""
_BARS: Final = """
    SELECT i.symbol, b.minute, b.open, b.high, b.low, b.close, b.volume, b.turnover, b.count, b.first_trade_id,
           b.last_trade_id, b.hash_sum, b.source
      FROM market_bar b JOIN market_instrument i ON i.id = b.instrument_id
     WHERE b.epoch_id = %s
"""
_COVERAGE: Final = """
    SELECT i.symbol, c.minute, c.status, c.reason
      FROM market_coverage c JOIN market_instrument i ON i.id = c.instrument_id
     WHERE c.epoch_id = %s
"""
_DEAD: Final = "SELECT shard, entry_id FROM market_deadentry WHERE epoch_id = %s"


def read_tables(evidence: Evidence, database_url: str, epoch: int) -> None:
    with psycopg.connect(database_url) as connection:
        for symbol, price_decimals, quantity_decimals, closed, swept in connection.execute(_INSTRUMENTS, [epoch]):
            evidence.decimals[symbol] = (price_decimals, quantity_decimals)
            evidence.swept[symbol] = swept
            if closed is not None:
                evidence.closed[symbol] = closed
        for symbol, minute, *values in connection.execute(_BARS, [epoch]):
            evidence.bars[symbol, minute] = Bar(*values)
        for symbol, minute, status, reason in connection.execute(_COVERAGE, [epoch]):
            evidence.coverage[symbol, minute] = Statement(status, reason)
        evidence.dead = {(shard, entry_id) for shard, entry_id in connection.execute(_DEAD, [epoch])}


# --- the stream -------------------------------------------------------------------------------------------------------


def read_stream(evidence: Evidence, redis_url: str, epoch: int, shard_count: int) -> None:
    """Every entry of every shard, oldest first."""
    with redis.Redis.from_url(redis_url) as client:
        for shard in range(shard_count):
            evidence.shards[shard] = [
                block
                for entry_id, payload in _entries(client, f"market_data:{epoch}:{shard}")
                for block in _blocks(entry_id, payload)
            ]


def _entries(client: redis.Redis, key: str) -> Iterator[tuple[str, bytes]]:
    after = "-"
    while rows := cast("list[Any]", client.xrange(key, min=after, count=_ENTRIES_PER_READ)):
        for entry_id, fields in rows:
            yield entry_id.decode(), fields[b"b"]
        after = f"({rows[-1][0].decode()}"


def _blocks(entry_id: str, payload: bytes) -> Iterator[Block]:
    """The packed form is a list of events, each a tag and its fields in order."""
    for tag, *fields in msgspec.msgpack.decode(payload):
        if tag == TRADE_BLOCK:
            symbol, token, ordinal, _, times, prices, quantities, sides, ids = fields
            trades = tuple(map(Trade, times, ids, sides, prices, quantities))
            yield Block(entry_id, token, symbol, ordinal, trades)
        elif tag == QUOTE_BLOCK:
            yield Block(entry_id, fields[1], "", 0, ())
        elif tag != WARMUP_BAR:  # history names no token; every other event begins with it
            yield Block(entry_id, fields[0], "", 0, ())


# --- the exchange's journal -------------------------------------------------------------------------------------------


class TornJournal(ValueError):
    """The journal is not what the exchange writes: a line is missing or twice."""


def read_journal(evidence: Evidence, path: Path) -> None:
    """Every trade that the market made, by its `made` lines, which are numbered from 1 for each symbol.

    `fault` lines of the kinds `reorder` and `late` name trades that were sent out of order: there the exchange itself
    contradicts the order of its minutes. Raises `TornJournal` if a number is missing.
    """
    moved: list[tuple[str, list[int]]] = []
    for row in _lines(path):
        kind = row["k"]
        if kind == "start":
            evidence.start_minute = int(row["start_ms"]) // MINUTE_MS
        elif kind == "made" and row["s"] in evidence.decimals:
            trades = evidence.journal.setdefault(row["s"], [])
            trades.append(_made(row, *evidence.decimals[row["s"]]))
            if row["n"] != len(trades):
                raise TornJournal(f"{row['s']}: number {row['n']} is the {len(trades)}th trade")
        elif kind == "fault" and row["do"] in OUT_OF_ORDER:
            moved += [(row["s"], span) for span in row["n"]]
    for symbol, (first, last) in moved:
        for trade in evidence.journal.get(symbol, [])[first - 1 : last]:
            evidence.disordered.add((symbol, trade.ts_ms // MINUTE_MS))


def _made(row: dict[str, Any], price_decimals: int, quantity_decimals: int) -> Trade:
    price, quantity = whole(row["p"], price_decimals), whole(row["q"], quantity_decimals)
    return Trade(row["t"], row["id"], row["side"], price, quantity)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """A last line that a kill has cut off is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield msgspec.json.decode(line)


def whole(text: str, decimals: int) -> int:
    """A decimal text as a whole number of ticks or steps. Raises ValueError if it is none."""
    scaled = Decimal(text).scaleb(decimals)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{text} has more than {decimals} decimals")
    return int(scaled)
