"""Deriving a shard again, from the raw segments alone, in a fresh engine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from apps.bus import codec, streams
from apps.engine.bars import trade_hash
from apps.engine.events import TradeBlock
from apps.engine.model import (
    MINUTE_MS,
    BackfilledMinute,
    BarChange,
    ClosedBar,
    CoverageChange,
    RaisedSignal,
    UnprovenMinute,
)
from apps.engine.shard import ShardEngine
from apps.market.models import Coverage, EpochInstrument, Instrument, ShardCursor
from apps.market.segments import read_segments
from apps.market.selectors import scales, shard_instruments
from apps.market.services.ledger import HISTORY
from apps.signals.models import SessionStrategy
from apps.signals.services.state import specs_of

HASH_MODULUS = 2**64


@dataclass(slots=True)
class MinuteSum:
    """The trades of one minute as they stand in the segments, whatever the engine made of them."""

    count: int = 0
    hash_sum: int = 0


@dataclass(slots=True)
class DerivedShard:
    """One shard, derived through its cursor's `replay_from`."""

    cursor: ShardCursor
    instruments: dict[str, Instrument]
    engine: ShardEngine
    bindings: list[SessionStrategy]
    entries: int = 0
    dead: set[str] = field(default_factory=set)
    bars: dict[tuple[str, int], ClosedBar] = field(default_factory=dict)
    changes: list[BarChange] = field(default_factory=list)
    coverage: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)  # status and reason
    signals: list[RaisedSignal] = field(default_factory=list)
    minutes: dict[tuple[str, int], MinuteSum] = field(default_factory=dict)
    trade_ids: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, entry_id: str, payload: bytes) -> None:
        self.entries += 1
        try:
            events = codec.decode(payload)
        except codec.CodecError:
            self.dead.add(entry_id)
            return
        for event in events:
            effects = self.engine.apply(entry_id, [event])
            if effects.errors:
                self.dead.add(entry_id)
            elif isinstance(event, TradeBlock):
                self._sum(event)
            self.bars |= {(bar.symbol, bar.minute): bar for bar in effects.bars}
            self.changes += effects.changes
            self.signals += effects.signals
            for change in effects.coverage:
                self._cover(change)

    def _cover(self, change: CoverageChange) -> None:
        """A minute keeps the reason for which it was lost, also when it has been repaired."""
        place = (change.symbol, change.minute)
        status, reason = self.coverage.get(place, ("", HISTORY))
        if isinstance(change, BackfilledMinute):
            self.coverage[place] = (Coverage.Status.BACKFILLED, reason)
        elif isinstance(change, UnprovenMinute) and status != Coverage.Status.UNPROVEN:
            self.coverage[place] = (Coverage.Status.UNPROVEN, change.reason)

    def _sum(self, block: TradeBlock) -> None:
        columns = zip(block.ts_event, block.trade_id, block.side, block.price, block.quantity, strict=True)
        for ts, trade_id, side, price, quantity in columns:
            entry = self.minutes.setdefault((block.symbol, ts // MINUTE_MS), MinuteSum())
            entry.count += 1
            entry.hash_sum = (entry.hash_sum + trade_hash(ts, trade_id, side, price, quantity)) % HASH_MODULUS
            if trade_id:
                self.trade_ids[(block.symbol, trade_id)] += 1


def derive(*, epoch_id: int, segments: Path, bindings: list[SessionStrategy]) -> list[DerivedShard]:
    """Every shard of the epoch that has symbols."""
    used = set(EpochInstrument.objects.filter(epoch_id=epoch_id).values_list("shard", flat=True))
    specs = specs_of(bindings)
    shards = []
    for cursor in ShardCursor.objects.filter(epoch_id=epoch_id, shard__in=used).order_by("shard"):
        instruments = shard_instruments(epoch_id=epoch_id, shard=cursor.shard)
        shard = DerivedShard(cursor, instruments, ShardEngine(scales(instruments.values()), specs), bindings)
        last = streams.entry_order(cursor.replay_from)
        for entry_id, payload in read_segments(segments, epoch_id, cursor.shard):
            if streams.entry_order(entry_id) > last:
                break
            shard.add(entry_id, payload)
        shards.append(shard)
    return shards
