"""Finding the quote that was in force when a paper order matured, on the stream or, where it was lost, in the segments.

A quote may lie on the stream before the trade that came before it in time: the exchange sends the quotes of a tick
ahead of its trades. So the scan begins a little before the order's trigger, and further back if it then meets nothing
that is surely older than the trigger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis

from apps.bus import codec, streams
from apps.engine.events import Event, QuoteBlock, TradeBlock, Watermark
from apps.engine.fence import Fence
from apps.engine.matching import TopOfBook
from apps.engine.model import Scale
from apps.market.segments import read_segments

Entries = Iterable[tuple[str, bytes | None]]
Source = Callable[[str], Entries]

BEFORE_MS: Final = (300, 5_000, 60_000)  # wall time, as entry ids carry it
OLDER_BLOCKS: Final = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """One matured order. `entry_id` is its trigger's; both times are event times in ms."""

    key: str
    symbol: str
    entry_id: str
    ts_trigger: int
    ts_mature: int


@dataclass(slots=True)
class Search:
    """What one scan found for one order. `quote` counts in ticks and steps: (time, bid, size, ask, size)."""

    wanted: Wanted
    quote: tuple[int, int, int, int, int] | None = None
    trigger_seen: bool = False
    passed: bool = False
    older_blocks: int = 0
    anchored: bool = False

    @property
    def complete(self) -> bool:
        """Every entry from the trigger's to the watermark that passes maturity was read."""
        return self.trigger_seen and self.passed

    def take(self, entry_id: tuple[int, int], event: Event) -> None:
        if isinstance(event, Watermark):
            self.passed |= self.wanted.symbol in event.ordinals and event.ts_event >= self.wanted.ts_mature
        elif isinstance(event, QuoteBlock) and event.symbol == self.wanted.symbol:
            self._quotes(event)
        elif isinstance(event, TradeBlock) and event.symbol == self.wanted.symbol:
            before = entry_id < streams.entry_order(self.wanted.entry_id)
            self.older_blocks += before and event.ts_event[-1] < self.wanted.ts_trigger
            self.anchored |= self.older_blocks >= OLDER_BLOCKS

    def _quotes(self, block: QuoteBlock) -> None:
        # A quote at or before the trigger: whatever lies further back on the stream is older than it.
        self.anchored |= block.ts_event[0] <= self.wanted.ts_trigger
        columns = (block.ts_event, block.bid, block.bid_quantity, block.ask, block.ask_quantity)
        for row in zip(*columns, strict=True):
            if row[0] <= self.wanted.ts_mature and (self.quote is None or row[0] >= self.quote[0]):
                self.quote = row


@dataclass(slots=True)
class Reader:
    """Where quotes are read from."""

    client: redis.Redis
    segments: Path
    epoch: int
    shard: int
    entries_read: int = field(default=0, init=False)

    def find(self, wanted: list[Wanted]) -> dict[str, Search]:
        """The search of each order that could be completed, by key. An order that is missing lies in a lost stretch."""
        found: dict[str, Search] = {}
        stages = [(self._stream, margin) for margin in BEFORE_MS] + [(self._segments, BEFORE_MS[-1])]
        for source, margin in stages:
            open_ones = [one for one in wanted if one.key not in found or self._may_improve(found[one.key], source)]
            if open_ones:
                found |= {one.wanted.key: one for one in self._scan(source, open_ones, margin) if one.complete}
        return found

    def _may_improve(self, search: Search, source: Source) -> bool:
        """A completed search is repeated from further back only where that is cheap: on the stream."""
        return not search.anchored and source == self._stream

    def _scan(self, source: Source, wanted: list[Wanted], margin_ms: int) -> list[Search]:
        searches = [Search(one) for one in wanted]
        first = min(streams.entry_order(one.entry_id) for one in wanted)
        for entry_id, events in self._events(source(f"{max(first[0] - margin_ms, 0)}-0")):
            order = streams.entry_order(entry_id)
            for search in searches:
                search.trigger_seen |= entry_id == search.wanted.entry_id
                for event in events:
                    search.take(order, event)
            if all(search.complete for search in searches):
                break
        return searches

    def _events(self, entries: Entries) -> Iterator[tuple[str, list[Event]]]:
        fence = Fence()
        for entry_id, payload in entries:
            self.entries_read += 1
            try:
                yield entry_id, fence.admitted(codec.decode(payload or b""))
            except codec.CodecError:
                yield entry_id, []  # set aside as a dead entry when it was drained

    def _stream(self, start: str) -> Entries:
        return streams.scan(self.client, self.epoch, self.shard, start=start)

    def _segments(self, start: str) -> Entries:
        return read_segments(self.segments, self.epoch, self.shard, start=start)


def top_of_book(row: tuple[int, int, int, int, int], scale: Scale) -> TopOfBook:
    ts_event, bid, bid_quantity, ask, ask_quantity = row
    return TopOfBook(
        ts_event, scale.price(bid), scale.quantity(bid_quantity), scale.price(ask), scale.quantity(ask_quantity)
    )
