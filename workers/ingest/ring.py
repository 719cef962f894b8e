"""Between the consumer and the publisher: batches in order, bounded, and honest about what it had to let go."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from apps.engine.events import CoverageEnd, CoverageStart, Event, Loss, QuoteBlock, TradeBlock, WarmupBar

TRADES_MAX: Final = 60_000
ROWS_MAX: Final = 200_000
BATCH_TRADES_MAX: Final = 500
BATCH_ROWS_MAX: Final = 2_000


@dataclass(slots=True)
class Batch:
    """Events of one shard that become one entry. `rows` counts trades, quotes, rows of repairs and all events."""

    shard: int
    opened_at: float
    events: list[Event] = field(default_factory=list)
    trades: int = 0
    quotes: int = 0
    repaired: int = 0  # rows of repairs

    @property
    def rows(self) -> int:
        return self.trades + self.quotes + self.repaired + len(self.events)

    def append(self, other: Batch) -> None:
        self.events += other.events
        self.trades += other.trades
        self.quotes += other.quotes
        self.repaired += other.repaired


class Ring:
    """One thread puts, one takes. What is taken stays counted until `done`; only what still waits can overflow."""

    def __init__(
        self, token: int, monotonic: Callable[[], float], *, trades_max: int = TRADES_MAX, rows_max: int = ROWS_MAX
    ) -> None:
        self.overflowed = 0  # trades
        self.overflowed_at: float | None = None
        self._token = token
        self._monotonic = monotonic
        self._trades_max = trades_max
        self._rows_max = rows_max
        self._waiting: deque[Batch] = deque()
        self._newest: dict[int, Batch] = {}
        self._residues: dict[int, _Residue] = {}
        self._in_flight: Batch | None = None
        self._trades = 0
        self._rows = 0
        self._changed = threading.Condition()
        self._reader_gets_on = False

    @property
    def trades(self) -> int:
        """Trades that wait or are being published."""
        return self._trades

    @property
    def rows(self) -> int:
        """Rows of any kind that wait or are being published."""
        return self._rows

    @property
    def oldest_at(self) -> float | None:
        """When the oldest waiting batch was opened, in the ring's clock."""
        with self._changed:
            oldest = self._in_flight or (self._waiting[0] if self._waiting else None)
            return oldest.opened_at if oldest else None

    @property
    def empty(self) -> bool:
        with self._changed:
            return self._in_flight is None and not self._waiting and not self._residues

    def put(self, batch: Batch) -> set[str]:
        """Queue a batch. Returns the symbols whose quotes were let go, so that the next one is published again."""
        forgotten: set[str] = set()
        with self._changed:
            newest = self._newest.get(batch.shard)
            if (
                newest is not None
                and newest.trades + batch.trades <= BATCH_TRADES_MAX
                and newest.rows + batch.rows <= BATCH_ROWS_MAX
            ):
                newest.append(batch)
            else:
                self._waiting.append(batch)
                self._newest[batch.shard] = batch
            self._trades += batch.trades
            self._rows += batch.rows
            while (self._trades > self._trades_max or self._rows > self._rows_max) and len(self._waiting) > 1:
                forgotten |= self._let_go(self._waiting.popleft())
            self._changed.notify()
        return forgotten

    def take(self, seconds: float) -> Batch | None:
        """The oldest batch, preceded by the losses declared for its shard; None after `seconds` of the machine."""
        with self._changed:
            if not self._waiting and not self._residues:
                self._changed.wait(seconds)
            batch = self._next()
            self._in_flight = batch
            return batch

    def done(self) -> None:
        """The batch taken last is on the stream."""
        with self._changed:
            batch, self._in_flight = self._in_flight, None
            if batch is not None:
                self._trades -= batch.trades
                self._rows -= batch.rows
            self._changed.notify()

    def reader_gets_on(self) -> None:
        """What was taken has reached the stream: it is worth waiting for room."""
        self._reader_gets_on = True

    def reader_is_stuck(self) -> None:
        """What was taken does not reach the stream. Until something does again, nobody waits for room."""
        with self._changed:
            self._reader_gets_on = False
            self._changed.notify()

    def wait_for_room(self) -> None:
        """Wait while the ring is half full and its reader gets on: a slow reader slows the sender, it loses nothing."""
        if self._has_room:
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._reader_gets_on or self._has_room)

    @property
    def _has_room(self) -> bool:
        return self._trades <= self._trades_max // 2 and self._rows <= self._rows_max // 2

    def _next(self) -> Batch | None:
        if self._waiting:
            batch = self._waiting.popleft()
            if self._newest.get(batch.shard) is batch:
                del self._newest[batch.shard]
        elif self._residues:
            batch = Batch(next(iter(self._residues)), self._monotonic())
        else:
            return None
        residue = self._residues.pop(batch.shard, None)
        if residue is not None:
            events = residue.events(self._token)
            batch.events[:0] = events
            self._rows += len(events)
        return batch

    def _let_go(self, batch: Batch) -> set[str]:
        if self._newest.get(batch.shard) is batch:
            del self._newest[batch.shard]
        self._trades -= batch.trades
        self._rows -= batch.rows
        self.overflowed += batch.trades
        self.overflowed_at = self._monotonic()
        return self._residues.setdefault(batch.shard, _Residue()).absorb(batch.events)


class _Residue:
    """What must be said about batches that were let go: where coverage began, warm-up bars, and what was lost."""

    def __init__(self) -> None:
        self._coverage: dict[tuple[str, ...], CoverageStart | CoverageEnd] = {}
        self._bars: list[WarmupBar] = []
        self._lost: dict[str, tuple[int, int]] = {}
        self._ts_init = 0

    def absorb(self, events: list[Event]) -> set[str]:
        """Take note of events that will never be published; returns the symbols of the quotes among them.

        Watermarks are forgotten without a trace: the next one says more.
        """
        forgotten = set()
        for event in events:
            match event:
                case TradeBlock():
                    self._lose(event.symbol, min(event.ts_event), max(event.ts_event), event.ts_init)
                case QuoteBlock():
                    forgotten.add(event.symbol)
                    self._lose(event.symbol, min(event.ts_event), max(event.ts_event), event.ts_init)
                case Loss():
                    for symbol in event.symbols:
                        self._lose(symbol, event.from_ms, event.to_ms, event.ts_init)
                case CoverageStart() | CoverageEnd():  # the latest of the same symbols says enough
                    self._coverage.pop(tuple(event.symbols), None)
                    self._coverage[tuple(event.symbols)] = event
                case WarmupBar():
                    self._bars.append(event)
        return forgotten

    def events(self, token: int) -> list[Event]:
        losses = [
            Loss(token, from_ms, to_ms, self._ts_init, [symbol], "ring overflow")
            for symbol, (from_ms, to_ms) in self._lost.items()
        ]
        return [*self._bars, *self._coverage.values(), *losses]

    def _lose(self, symbol: str, from_ms: int, to_ms: int, ts_init: int) -> None:
        earliest, latest = self._lost.get(symbol, (from_ms, to_ms))
        self._lost[symbol] = (min(earliest, from_ms), max(latest, to_ms))
        self._ts_init = max(self._ts_init, ts_init)
