"""Raw segments, recordings and archives made for tests, and ways to look at them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from apps.bus import codec
from apps.engine.events import CoverageStart, Event, QuoteBlock, TradeBlock, Watermark
from apps.market.archive.layout import TRADES, Folder
from apps.market.archive.moving import ShardMover, prepare
from apps.market.segments import SegmentWriter

EPOCH, SHARD = 7, 0
SYMBOLS = ("AAAUSDT", "BBBUSDT")
DAY_MS = 86_400_000
# Ten minutes before midnight: what is made here lies in two days.
START_MS = 20_000 * DAY_MS + DAY_MS - 600_000
FIRST_DAY, SECOND_DAY = "2024-10-04", "2024-10-05"
WALL_MS = 1_800_000_000_000 // 600_000 * 600_000

Entry = tuple[str, list[Event]]


def make_stream(seed: int = 1, *, entries: int = 120, minutes: int = 20, late: int = 5) -> list[Entry]:
    """A shard's stream over midnight: trades with and without ids, quotes, watermarks, repeats and late trades."""
    dice = random.Random(seed)
    ordinals = dict.fromkeys(SYMBOLS, 0)
    made: list[Entry] = [(f"{WALL_MS}-0", [CoverageStart(1, START_MS, WALL_MS, list(SYMBOLS), "test")])]
    before: list[Event] = []
    for number in range(entries):
        now = START_MS + minutes * 60_000 * number // entries
        events: list[Event] = []
        for symbol in SYMBOLS:
            count = dice.randrange(4)
            if count:
                events.append(_block(dice, symbol, ordinals[symbol] + 1, now, count, late=dice.randrange(100) < late))
                ordinals[symbol] += count
            if dice.random() < 0.5:
                events.append(
                    QuoteBlock(symbol, 1, WALL_MS + number, [now, now + 5], [99, 98], [5, 6], [101, 102], [7, 8])
                )
        if dice.random() < 0.1:
            events += before  # an ingest that did not know whether it had written
        events.append(Watermark(1, now, WALL_MS + number, dict(ordinals)))
        before = [event for event in events if isinstance(event, TradeBlock)]
        made.append((f"{WALL_MS + (number + 1) * 45_000}-{number % 3}", events))
    return made


def _block(dice: random.Random, symbol: str, ordinal: int, now: int, count: int, *, late: bool) -> TradeBlock:
    ts = sorted(now + dice.randrange(4_000) - (130_000 if late else 0) for _ in range(count))
    ids = [f"{symbol}-{ordinal + n}" if symbol == SYMBOLS[0] else "" for n in range(count)]
    prices, quantities = ([dice.randrange(1, 500) for _ in range(count)] for _ in range(2))
    sides = [dice.choice([1, 2]) for _ in range(count)]
    return TradeBlock(symbol, 1, ordinal, now + 3, ts, prices, quantities, sides, ids)


def write_segments(root: Path, entries: Iterable[Entry], *, epoch: int = EPOCH, shard: int = SHARD) -> None:
    """As one drain would, some entries per frame."""
    writer = SegmentWriter(root, epoch, shard)
    packed = [(entry_id, codec.encode(events)) for entry_id, events in entries]
    for first in range(0, len(packed), 4):
        writer.append(packed[first : first + 4])
    writer.close()


def mover(root: Path, segments: Path, *, symbols: Sequence[str] = SYMBOLS, rows_max: int = 10_000) -> ShardMover:
    folder = Folder(root, "test")
    folder.path.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    return ShardMover(folder, segments=segments, epoch=EPOCH, shard=SHARD, symbols=symbols, slice_rows_max=rows_max)


def never() -> bool:
    return False


def move_all(root: Path, segments: Path) -> None:
    """Everything that was read, into day files."""
    moving = mover(root, segments)
    moving.collect(enough=never, whole=True)
    moving.settle(enough=never, every=True)


def digests(root: Path, pattern: str = "*/*/*/*.parquet") -> dict[str, str]:
    """Every day file with the hash of its bytes."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob(pattern))
        if "/parts/" not in path.as_posix()
    }


def rows(root: Path, kind: str = TRADES, *, key: str = "test") -> pl.DataFrame:
    """Every row of a kind, with its symbol and day."""
    found = [
        pl.read_parquet(path).with_columns(symbol=pl.lit(symbol), day=pl.lit(day))
        for at, day, symbol, path in Folder(root, key).files()
        if at == kind
    ]
    return pl.concat(found)


def without(event: Event, **values: Any) -> Event:
    return replace(event, **values)
