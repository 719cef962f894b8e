"""Plain counters, read when somebody asks. Counting costs an addition, never a metric object per trade.

Each counter is written by one thread only, except the drops and those of the connection threads: they have a lock.
"""

from __future__ import annotations

import threading
from collections import Counter

from workers.ingest.log import BoundedLog


class Tally:
    """What happened since this ingest started."""

    def __init__(self, bounded_log: BoundedLog) -> None:
        self.log = bounded_log
        self.frames: Counter[str] = Counter()  # deals and quotes of our channels; consumer
        self.trades_received = 0  # in decoded frames; consumer
        self.trades_decoded = 0  # valid, known for the first time, numbered; consumer
        self.trades_published = 0  # on the stream; publisher
        self.trades_overflowed = 0  # numbered, then lost to a full ring; consumer
        self.quotes_received = 0  # consumer
        self.quotes_decoded = 0  # changed and valid; consumer
        self.quotes_published = 0  # publisher
        self.entries_published = 0  # publisher
        self.events: Counter[str] = (
            Counter()
        )  # watermark, coverage_start, loss, warmup_bar put into the stream; consumer
        self.redis_errors: Counter[str] = Counter()  # by operation; each operation belongs to one thread
        self.rings: Counter[str] = Counter()  # doorbell: rung, failed; bell thread
        self.event_time_ms = 0  # greatest settled event time; consumer
        self.last_trade_ms: int | None = None  # wall clock; consumer
        self.dropped: Counter[str] = Counter()
        self.warmup_failures = 0
        self.decode_errors = 0  # binary frames refused; consumer
        self.texts = 0  # text frames; connection threads
        self.reconnects = 0  # links opened after one that ended unplanned; connection threads
        self._drop_lock = threading.Lock()

    def drop(self, reason: str, **facts: object) -> None:
        """Something was refused: count it, and say so at a bounded rate."""
        with self._drop_lock:
            self.dropped[reason] += 1
        self.log.warn("dropped", reason, **facts)

    def count_drop(self, reason: str, count: int = 1) -> None:
        """As `drop`, for what is expected and needs no line."""
        with self._drop_lock:
            self.dropped[reason] += count

    def text(self) -> None:
        """A text frame has come."""
        with self._drop_lock:
            self.texts += 1

    def reconnected(self) -> None:
        """A connection is open again after an end that nobody planned."""
        with self._drop_lock:
            self.reconnects += 1

    def warmup_failed(self, symbol: str, error: str) -> None:
        """A symbol begins without history."""
        with self._drop_lock:
            self.warmup_failures += 1
        self.log.warn("warmup_failed", error, symbol=symbol)
