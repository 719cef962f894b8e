"""Finding the very trades again: on the stream, else in the raw segments, else in the archive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import redis

from apps.bus import codec, streams
from apps.engine.events import BUY, TradeBlock
from apps.engine.model import MINUTE_MS, Scale
from apps.engine.shard import same_ms_before
from apps.market.archive.keeping import key_of
from apps.market.archive.layout import TRADES, ArchiveError, Folder, day_of
from apps.market.archive.tables import STREAM, scan_table
from apps.market.models import FeedEpoch, Instrument
from apps.market.segments import read_frames, shard_folder
from apps.ops.explain.parts import StreamPart, StreamTrade
from apps.signals.models import Signal, SignalRefusal

ON_STREAM: Final = "the stream"
IN_SEGMENTS: Final = "the raw segments"
IN_ARCHIVE: Final = "the archive"
NOWHERE: Final = ""
BEFORE_MINUTE_MS: Final = 120_000  # wall time read before a trigger's entry: a minute of event time at half speed
SIDES: Final = {True: "BUY", False: "SELL"}

Entry = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Row:
    """A trade of the market in ticks and steps, with the place on the stream that it came from."""

    order: tuple[int, int]
    ts_event: int
    trade_id: str
    side: int
    price: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Sources:
    """Where trades may still be. `client` is None where the stream is not to be asked."""

    client: redis.Redis | None
    segments: Path
    archive: Path

    def trades_of(self, place: Place, entry_id: str, ts_event: int) -> tuple[list[Row], str]:
        """The symbol's trades of one entry, in its order, and where they were found."""
        order = streams.entry_order(entry_id)
        for name, found in (
            (ON_STREAM, lambda: self._on_stream(place, entry_id, entry_id)),
            (IN_SEGMENTS, lambda: self._in_segments(place, order, order)),
        ):
            entries = list(found())
            if entries:
                return [row for entry in entries for row in rows_of(entry, place.symbol)], name
        minute = ts_event // MINUTE_MS
        around = (self._in_archive(place, near) for near in (minute - 1, minute, minute + 1))  # an entry may span two
        own = [row for rows in around for row in rows if row.order == order]
        return own, IN_ARCHIVE if own else NOWHERE

    def minute_of(self, place: Place, entry_id: str, ts_event: int) -> list[Row] | None:
        """The symbol's trades of a trigger's minute, up to its entry; None if nobody has all of them any more.

        All are there if an older one is too: the minute's first trade comes after it.
        """
        last = streams.entry_order(entry_id)
        first = (max(last[0] - BEFORE_MINUTE_MS, 0), 0)
        minute = ts_event // MINUTE_MS
        for entries in (
            self._on_stream(place, f"{first[0]}-0", entry_id),
            self._in_segments(place, first, last),
        ):
            rows = [row for entry in entries for row in rows_of(entry, place.symbol)]
            older = any(row.ts_event // MINUTE_MS < minute for row in rows)
            if older and rows[-1].order == last:
                return [row for row in rows if row.ts_event // MINUTE_MS == minute]
        return [row for row in self._in_archive(place, minute) if row.order <= last] or None

    def _on_stream(self, place: Place, first: str, last: str) -> Iterator[Entry]:
        if self.client is None:
            return
        ms, sequence = streams.entry_order(first)
        after = f"{ms}-{sequence - 1}" if sequence else f"{max(ms - 1, 0)}-{2**63 - 1}"
        try:
            while rows := streams.read(
                self.client, place.epoch.pk, place.shard, after=after, count=200, through=last
            ):  # fmt: skip
                yield from ((entry_id, payload) for entry_id, payload in rows if payload is not None)
                after = rows[-1][0]
        except redis.RedisError:
            return  # a stream that cannot be asked has nothing; the segments may

    def _in_segments(self, place: Place, first: tuple[int, int], last: tuple[int, int]) -> list[Entry]:
        """Entries from `first` to `last`, each once. Files that begin after `last` are not opened."""
        found: dict[tuple[int, int], Entry] = {}
        files = sorted(shard_folder(self.segments, place.epoch.pk, place.shard).glob("*.seg"))
        for number, path in enumerate(files):
            if _first_of(path) > last:
                break
            later = files[number + 1 :]
            if later and _first_of(later[0]) <= first and _name_of(later[0]) == _name_of(path):
                continue  # the same process went on to a later file before `first`
            found |= _within(path, first, last)
        return [found[order] for order in sorted(found)]

    def _in_archive(self, place: Place, minute: int) -> list[Row]:
        start = minute * MINUTE_MS
        path = Folder(self.archive, key_of(place.epoch)).file(TRADES, day_of(start), place.symbol)
        if not path.exists():
            return []
        try:
            rows = scan_table(path, TRADES).filter(
                (pl.col("ts") >= start) & (pl.col("ts") < start + MINUTE_MS) & (pl.col("origin") == STREAM)
            )
            found = rows.sort("entry_ms", "entry_sequence", "row").collect()
        except (ArchiveError, OSError, pl.exceptions.PolarsError):
            return []  # a damaged file has nothing to tell; `archive status` says that it is damaged
        return _named(found.rows(named=True))


@dataclass(frozen=True, slots=True)
class Place:
    """Whose trades, in which shard of which epoch."""

    epoch: FeedEpoch
    shard: int
    symbol: str

    @classmethod
    def of(cls, epoch: FeedEpoch, symbol: str) -> Place:
        return cls(epoch, streams.shard_of(symbol, epoch.shard_count), symbol)


def rows_of(entry: Entry, symbol: str) -> list[Row]:
    """The symbol's trades of an entry. An entry that cannot be read has none: it was set aside when it was drained."""
    order = streams.entry_order(entry[0])
    try:
        events = codec.decode(entry[1])
    except codec.CodecError:
        return []
    return [
        row
        for event in events
        if isinstance(event, TradeBlock) and event.symbol == symbol
        for row in _rows_of(order, event)
    ]


def _rows_of(order: tuple[int, int], block: TradeBlock) -> Iterable[Row]:
    """Trades without an id of the exchange are named as signals name them: their number within the millisecond."""
    for index, ts in enumerate(block.ts_event):
        name = block.trade_id[index] or f"#{same_ms_before(block.ts_event, index)}"
        yield Row(order, ts, name, block.side[index], block.price[index], block.quantity[index])


def _named(rows: Sequence[dict[str, Any]]) -> list[Row]:
    """Rows of the archive. A trade without an id of the exchange is named as the stream's is: by its number within the
    millisecond, among the rows that stood directly before it in its entry."""
    found: list[Row] = []
    number, before = 0, (0, 0, 0, -2)
    for row in rows:
        here = (row["entry_ms"], row["entry_sequence"], row["ts"], row["row"])
        number = number + 1 if here[:3] == before[:3] and here[3] == before[3] + 1 else 0
        before = here
        name = row["trade_id"] or f"#{number}"
        found.append(Row(here[:2], row["ts"], name, row["side"], row["price"], row["quantity"]))
    return found


def _first_of(path: Path) -> tuple[int, int]:
    ms, sequence, _ = path.stem.split("-", 2)
    return int(ms), int(sequence)


def _name_of(path: Path) -> str:
    return path.stem.split("-", 2)[2].rstrip("a")


def _within(path: Path, first: tuple[int, int], last: tuple[int, int]) -> dict[tuple[int, int], Entry]:
    found = {}
    for _, entries in read_frames(path):
        if streams.entry_order(entries[0][0]) > last:
            break
        for entry in entries:
            order = streams.entry_order(entry[0])
            if first <= order <= last:
                found[order] = entry
    return found


def stream_part(
    signal: Signal | SignalRefusal, epoch: FeedEpoch, instrument: Instrument, sources: Sources
) -> StreamPart:
    """The entry behind a signal, with the trades of its symbol; and in words where it was, or that it is gone."""
    place = Place.of(epoch, instrument.symbol)
    rows, where = sources.trades_of(place, signal.entry_id, signal.ts_event)
    scale = Scale(instrument.price_decimals, instrument.quantity_decimals)
    by_time = not signal.trade_id
    shown = tuple(
        StreamTrade(
            ts_event=row.ts_event,
            trade_id=row.trade_id,
            side=SIDES[row.side == BUY],
            price=scale.price(row.price),
            quantity=scale.quantity(row.quantity),
            is_trigger=not by_time and (row.ts_event, row.trade_id) == (signal.ts_event, signal.trade_id),
        )
        for row in rows
    )
    words = _words(signal, where, shown, by_time=by_time)
    return StreamPart(signal.entry_id, epoch.pk, place.shard, where, words, shown)


def _words(signal: Signal | SignalRefusal, where: str, trades: Sequence[StreamTrade], *, by_time: bool) -> str:
    if by_time:
        return "its time was over: no trade triggered it, a watermark passed the time that it was due"
    if not where:
        return f"entry {signal.entry_id} is gone: neither the stream nor the raw segments nor the archive has it"
    if not any(trade.is_trigger for trade in trades):
        return f"{where} has the entry, and trade {signal.trade_id} is not in it"
    return f"{len(trades)} {'trade' if len(trades) == 1 else 'trades'} of its symbol in the entry, read from {where}"
