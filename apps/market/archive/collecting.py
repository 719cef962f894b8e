"""From entries of one shard's stream to rows of the archive. Pure: no clock, no database, no files.

What counts is what the engine counts: entries of a replaced ingest, repeats under a token and symbols that the shard
does not follow are left out (apps/engine/fence.py, apps/engine/bars.py). A trade is late if its minute had been closed
by a later trade or a watermark when it came.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from apps.bus import codec
from apps.bus.streams import START, entry_order
from apps.engine.bars import ROLL_MINUTES_MAX
from apps.engine.events import Backfill, CoverageStart, Event, QuoteBlock, TradeBlock, WarmupBar, Watermark
from apps.engine.fence import UNKNOWN, Fence
from apps.engine.model import MINUTE_MS
from apps.market.archive.layout import DAY_MS, QUOTES, TRADES
from apps.market.archive.tables import REST, SCHEMAS, STREAM

SYMBOL: Final = "symbol"
DAY: Final = "day"  # whole days since 1970


@dataclass(slots=True)
class Followed:
    """What must be remembered of one symbol to tell new trades from repeats, and late ones from others."""

    token: int | None = None
    ordinal: int = 0
    minute: int | None = None
    reached: int | None = None
    traded: bool = False


@dataclass(slots=True)
class Standing:
    """How far one shard has been collected. `as_row` and `from_row` keep it with the files."""

    position: str = START
    fence: int = UNKNOWN
    watermark_ms: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((TRADES, QUOTES, "late", "unreadable"), 0))
    symbols: dict[str, Followed] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Standing:
        symbols = {name: Followed(**values) for name, values in row["symbols"].items()}
        return cls(row["position"], row["fence"], row["watermark_ms"], dict(row["counts"]), symbols)


class _Columns:
    """Rows of one kind as typed columns, eight bytes a number."""

    def __init__(self, kind: str) -> None:
        schema = SCHEMAS[kind]
        self.kind = kind
        self.numbers = {name: array("q") for name in (SYMBOL, *schema) if schema.get(name) != pl.String}
        self.texts: list[str] = []

    def __len__(self) -> int:
        return len(self.numbers["ts"])

    def extend(self, place: tuple[int, int, int, int], ts_init: int, **columns: list[int]) -> None:
        """`place` is symbol, entry and the number of the first row; the columns have one length."""
        symbol, entry_ms, sequence, row = place
        count = len(columns["ts"])
        for name, values in columns.items():
            self.numbers[name].extend(values)
        alike = {SYMBOL: symbol, "ts_init": ts_init, "entry_ms": entry_ms, "entry_sequence": sequence}
        for name, value in alike.items():
            self.numbers[name].extend([value] * count)
        self.numbers["row"].extend(range(row, row + count))

    def frame(self, names: list[str]) -> pl.DataFrame:
        """Sorted by symbol, day and time, so that a file of it is read by symbol."""
        columns: dict[str, Any] = {
            name: np.frombuffer(values, dtype=np.int64) if len(values) else np.empty(0, np.int64)
            for name, values in self.numbers.items()
        }
        if self.kind == TRADES:
            columns["trade_id"] = self.texts
        found = pl.DataFrame(columns, schema_overrides={"trade_id": pl.String} if self.kind == TRADES else None)
        symbols = pl.Series(names, dtype=pl.String)
        schema = SCHEMAS[self.kind]
        return found.select(
            symbols.gather(found[SYMBOL]).alias(SYMBOL),
            (pl.col("ts") // DAY_MS).alias(DAY),
            *(pl.col(name).cast(kind) for name, kind in schema.items()),
        ).sort(SYMBOL, DAY, "ts", "entry_ms", "entry_sequence", "row")


class Collector:
    """Takes entries in stream order; `standing` moves with them and belongs to the rows collected so far."""

    def __init__(self, standing: Standing, symbols: Iterable[str]) -> None:
        self.standing = standing
        self._fence = Fence(standing.fence)
        self._names = sorted(symbols)
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._columns = {TRADES: _Columns(TRADES), QUOTES: _Columns(QUOTES)}

    def __len__(self) -> int:
        return sum(len(columns) for columns in self._columns.values())

    def frames(self) -> dict[str, pl.DataFrame]:
        return {kind: columns.frame(self._names) for kind, columns in self._columns.items()}

    def add(self, entry_id: str, payload: bytes) -> None:
        """One entry. What cannot be read was set aside by the drain, and is counted here."""
        self.standing.position = entry_id
        try:
            events = codec.decode(payload)
        except codec.CodecError:
            self.standing.counts["unreadable"] += 1
            return
        entry = entry_order(entry_id)
        rows = {TRADES: 0, QUOTES: 0}
        for event in events:
            if self._fence.admits(event) and all(name in self._numbers for name in _names(event)):
                self._take(event, entry, rows)
        self.standing.fence = self._fence.token

    def _take(self, event: Event, entry: tuple[int, int], rows: dict[str, int]) -> None:
        if isinstance(event, TradeBlock):
            self._trades(event, entry, rows)
        elif isinstance(event, QuoteBlock):
            self._quotes(event, entry, rows)
        elif isinstance(event, Watermark):
            self._pass(event)
        elif isinstance(event, CoverageStart):
            for symbol in event.symbols:
                self._start(symbol, event)
        elif isinstance(event, WarmupBar):
            self._warm(event)
        elif isinstance(event, Backfill):
            self._fill(event, entry, rows)

    def _followed(self, symbol: str) -> Followed:
        return self.standing.symbols.setdefault(symbol, Followed())

    # --- rows -----------------------------------------------------------------------------------------------------

    def _trades(self, block: TradeBlock, entry: tuple[int, int], rows: dict[str, int]) -> None:
        state = self._followed(block.symbol)
        skip = _repeats(state, block)
        ts = block.ts_event[skip:]
        if ts:
            late = _late(state, ts)
            columns = self._columns[TRADES]
            columns.extend(
                (self._numbers[block.symbol], *entry, rows[TRADES] + skip),
                block.ts_init,
                ts=ts,
                price=block.price[skip:],
                quantity=block.quantity[skip:],
                side=block.side[skip:],
                late=late,
                origin=[STREAM] * len(ts),
            )
            columns.texts += block.trade_id[skip:]
            self.standing.counts[TRADES] += len(ts)
            self.standing.counts["late"] += sum(late)
        rows[TRADES] += len(block.ts_event)

    def _quotes(self, block: QuoteBlock, entry: tuple[int, int], rows: dict[str, int]) -> None:
        self._columns[QUOTES].extend(
            (self._numbers[block.symbol], *entry, rows[QUOTES]),
            block.ts_init,
            ts=block.ts_event,
            bid=block.bid,
            bid_quantity=block.bid_quantity,
            ask=block.ask,
            ask_quantity=block.ask_quantity,
        )
        self.standing.counts[QUOTES] += len(block.ts_event)
        rows[QUOTES] += len(block.ts_event)

    def _fill(self, event: Backfill, entry: tuple[int, int], rows: dict[str, int]) -> None:
        count = len(event.ts_event)
        columns = self._columns[TRADES]
        columns.extend(
            (self._numbers[event.symbol], *entry, rows[TRADES]),
            event.ts_init,
            ts=event.ts_event,
            price=event.price,
            quantity=event.quantity,
            side=event.side,
            late=[0] * count,
            origin=[REST] * count,
        )
        columns.texts += [""] * count
        rows[TRADES] += count

    # --- who is followed, and which minute is open ------------------------------------------------------------------

    def _pass(self, event: Watermark) -> None:
        self.standing.watermark_ms = max(self.standing.watermark_ms, event.ts_event)
        for symbol, ordinal in event.ordinals.items():
            state = self._followed(symbol)
            if event.token != state.token:
                continue
            state.ordinal = max(state.ordinal, ordinal)
            state.reached = max(state.reached or 0, event.ts_event)
            if state.minute is not None:
                state.minute = max(state.minute, event.ts_event // MINUTE_MS)

    def _start(self, symbol: str, event: CoverageStart) -> None:
        state = self._followed(symbol)
        since = event.since_ms // MINUTE_MS
        known = state.minute if state.minute is not None else (state.reached or event.since_ms) // MINUTE_MS
        if since - known > ROLL_MINUTES_MAX:
            traded = state.traded
            state = self.standing.symbols[symbol] = Followed(traded=traded)
        if event.token != state.token:
            state.token, state.ordinal = event.token, 0
        if state.reached is None or event.since_ms > state.reached + 1:
            state.reached = event.since_ms - 1

    def _warm(self, bar: WarmupBar) -> None:
        state = self._followed(bar.symbol)
        if not state.traded and (state.minute is None or bar.minute >= state.minute):
            state.minute = bar.minute + 1


def _names(event: Event) -> Iterable[str]:
    if isinstance(event, TradeBlock | QuoteBlock | WarmupBar | Backfill):
        return (event.symbol,)
    return event.ordinals if isinstance(event, Watermark) else event.symbols


def _repeats(state: Followed, block: TradeBlock) -> int:
    """How many of the block's first trades have been seen under this token (as `BarBuilder` decides it)."""
    if block.token != state.token:
        state.token, state.ordinal = block.token, block.ordinal - 1
    skip = min(max(state.ordinal + 1 - block.ordinal, 0), len(block.ts_event))
    state.ordinal = max(state.ordinal, block.ordinal + len(block.ts_event) - 1)
    return skip


def _late(state: Followed, ts: list[int]) -> list[int]:
    """1 for each trade whose minute was closed when it came; moves the open minute."""
    state.traded = True
    minute = ts[0] // MINUTE_MS if state.minute is None else state.minute
    late = []
    for moment in ts:
        own = moment // MINUTE_MS
        late.append(int(own < minute))
        minute = max(minute, own)
    state.minute = minute
    return late
