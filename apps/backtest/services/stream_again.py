"""A session's stream, read again from the raw segments: its signals, and columns to search for exits and quotes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from apps.bus import codec
from apps.bus.streams import entry_order
from apps.engine.events import Event, QuoteBlock, TradeBlock
from apps.engine.exit_kernel import DUE, NOT_FOUND, REASONS, Bounds, Watch, find_exit, price_in_force
from apps.engine.matching import TopOfBook
from apps.engine.model import MINUTE_MS, Quote, RaisedSignal, Scale, UnprovenMinute
from apps.engine.shard import ShardEngine, StrategySpec
from apps.market.models import EpochInstrument
from apps.market.segments import read_segments
from apps.market.selectors import scales, shard_instruments


@dataclass(slots=True)
class Columns:
    """Trades and quotes of one symbol as the engine took them. Times in ms, prices in ticks, sizes in steps."""

    scale: Scale
    ts: array[int] = field(default_factory=lambda: array("q"))
    price: array[int] = field(default_factory=lambda: array("q"))
    ids: list[str] = field(default_factory=list)
    quote_ts: array[int] = field(default_factory=lambda: array("q"))
    quotes: list[Quote] = field(default_factory=list)

    def add_trades(self, block: TradeBlock, fresh: int) -> None:
        """The last `fresh` trades of the block: those before them were read from another entry."""
        first = len(block.ts_event) - fresh
        self.ts.extend(block.ts_event[first:])
        self.price.extend(block.price[first:])
        self.ids.extend(block.trade_id[first:])

    def add_quotes(self, block: QuoteBlock) -> None:
        columns = (block.ts_event, block.bid, block.bid_quantity, block.ask, block.ask_quantity)
        for values in zip(*columns, strict=True):
            if not self.quote_ts or values[0] >= self.quote_ts[-1]:  # an older one never comes into force
                self.quote_ts.append(values[0])
                self.quotes.append(Quote(*values))

    def quote_at(self, ts_event: int) -> TopOfBook | None:
        """The quote in force at an event time, in quote and base units."""
        row = int(np.searchsorted(np.frombuffer(self.quote_ts, np.int64), ts_event, side="right")) - 1
        if row < 0:
            return None
        quote, scale = self.quotes[row], self.scale
        return TopOfBook(
            quote.ts_event, scale.price(quote.bid), scale.quantity(quote.bid_quantity), scale.price(quote.ask),
            scale.quantity(quote.ask_quantity),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundExit:
    """Where the rules of a position end it. A time exit has no trade id; Prices in ticks.

    `confirmed` is what is acted on; it differs from `price` where the last print before a time exit was not believed.
    """

    reason: str
    ts_event: int
    trade_id: str
    price: int
    confirmed: int


@dataclass(slots=True)
class StreamAgain:
    """Everything that a session's decisions and fills follow from."""

    columns: dict[str, Columns] = field(default_factory=dict)
    signals: list[RaisedSignal] = field(default_factory=list)
    unproven: dict[tuple[str, int], str] = field(default_factory=dict)
    entries: int = 0

    def gap_at(self, symbol: str, ts_event: int) -> str:
        """Why the minute of an event time was UNPROVEN, at some time; empty if it never was."""
        return self.unproven.get((symbol, ts_event // MINUTE_MS), "")

    def quote_at(self, symbol: str, ts_event: int) -> TopOfBook | None:
        return self.columns[symbol].quote_at(ts_event)

    def exit_of(self, symbol: str, bounds: Bounds, watch: Watch) -> FoundExit | None:
        """The exit that the rules find from the fill on; None if the stream does not reach one."""
        columns = self.columns[symbol]
        ts = np.frombuffer(columns.ts, np.int64)
        price = np.frombuffer(columns.price, np.int64)
        row, code, watch = find_exit(ts, price, 0, bounds, watch)
        if code == NOT_FOUND:
            return None
        if code == DUE:
            last = int(price[row - 1])
            return FoundExit(REASONS[DUE], bounds.due_ts, "", last, price_in_force(watch, last))
        found = int(price[row])
        return FoundExit(REASONS[code], int(ts[row]), columns.ids[row], found, found)


def read_again(*, epoch_id: int, segments: Path, specs: list[StrategySpec], ends: Mapping[int, str]) -> StreamAgain:
    """Every shard, through its entry in `ends` (shard -> last stream entry)."""
    again = StreamAgain()
    for shard in sorted(set(EpochInstrument.objects.filter(epoch_id=epoch_id).values_list("shard", flat=True))):
        instruments = shard_instruments(epoch_id=epoch_id, shard=shard)
        known = scales(instruments.values())
        again.columns |= {symbol: Columns(scale) for symbol, scale in known.items()}
        engine = ShardEngine(known, specs)
        _read_shard(again, engine, read_segments(segments, epoch_id, shard), ends.get(shard, "0-0"))
    return again


def _read_shard(again: StreamAgain, engine: ShardEngine, entries: Iterable[tuple[str, bytes]], last: str) -> None:
    end = entry_order(last)
    for entry_id, payload in entries:
        if entry_order(entry_id) > end:
            return
        again.entries += 1
        try:
            events = codec.decode(payload)
        except codec.CodecError:
            continue  # set aside as a dead entry when it was drained
        for event in events:
            before = _processed(engine, event)
            effects = engine.apply(entry_id, [event])
            again.signals += effects.signals
            for change in effects.coverage:
                if isinstance(change, UnprovenMinute):
                    again.unproven[change.symbol, change.minute] = change.reason
            if effects.errors:
                continue
            if isinstance(event, TradeBlock):
                again.columns[event.symbol].add_trades(event, _processed(engine, event) - before)
            elif isinstance(event, QuoteBlock):
                again.columns[event.symbol].add_quotes(event)


def _processed(engine: ShardEngine, event: Event) -> int:
    """Trades that the event's symbol has taken so far; 0 for other events."""
    if not isinstance(event, TradeBlock) or event.symbol not in engine.symbols:
        return 0
    return engine.symbols[event.symbol].builder.processed
