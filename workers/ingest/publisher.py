"""Batches from the ring onto the stream: explicit ids, the fence, and no entry twice after an unknown outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import redis

from apps.bus import codec, streams
from apps.bus.failpoints import failpoint
from apps.bus.streams import Appender, Fenced, entry_order
from apps.engine.events import QuoteBlock
from workers.ingest.clock import Clock
from workers.ingest.ring import Batch, Ring
from workers.ingest.tally import Tally

_TAKE_SECONDS: Final = 0.25
_RETRY_FIRST_SECONDS: Final = 0.05
_RETRY_MAX_SECONDS: Final = 1.0
_RETRY_STOPPING_SECONDS: Final = 0.2


class EntryIds:
    """Ids `<wall_ms>-<n>` per shard that only grow, also when the wall clock goes back."""

    def __init__(self, last: Mapping[int, str]) -> None:
        self._last = {shard: entry_order(entry_id) for shard, entry_id in last.items()}

    def next(self, shard: int, wall_ms: int) -> str:
        ms, sequence = self._last[shard]
        ms, sequence = (wall_ms, 0) if wall_ms > ms else (ms, sequence + 1)
        self._last[shard] = (ms, sequence)
        return f"{ms}-{sequence}"

    def raise_to(self, shard: int, entry_id: str) -> None:
        """The shard holds this id already."""
        self._last[shard] = max(self._last[shard], entry_order(entry_id))


class Publisher(threading.Thread):
    """Takes batch by batch; while Redis is away it stays with the one it has, and the ring fills behind it.

    So it does while `may_write` says no: the lease is not renewed, but nobody else has taken it yet.
    """

    def __init__(
        self,
        client: redis.Redis,
        epoch: int,
        token: int,
        ids: EntryIds,
        ring: Ring,
        tally: Tally,
        clock: Clock,
        *,
        may_write: Callable[[], bool],
        on_dirty: Callable[[int], None],
        on_fenced: Callable[[str], None],
        observe_latency: Callable[[float], None],
    ) -> None:
        super().__init__(name="publisher", daemon=True)
        self.reachable = True
        self._client = client
        self._epoch = epoch
        self._appender = Appender(client, epoch, token)
        self._ids = ids
        self._ring = ring
        self._tally = tally
        self._clock = clock
        self._may_write = may_write
        self._on_dirty = on_dirty
        self._on_fenced = on_fenced
        self._observe_latency = observe_latency
        self._stopping = threading.Event()
        self._give_up_at: float | None = None

    def stop(self, seconds: float) -> None:
        """Publish what the ring holds and end, after `seconds` at the latest."""
        self._give_up_at = self._clock.monotonic() + seconds
        self._stopping.set()

    def run(self) -> None:
        try:
            while not (self._stopping.is_set() and self._ring.empty) and not self._out_of_time():
                batch = self._ring.take(_TAKE_SECONDS)
                if batch is not None and self._publish(batch):
                    self._ring.done()
        except Fenced as fenced:
            self._on_fenced(str(fenced))
        finally:
            self._ring.reader_is_stuck()

    def _publish(self, batch: Batch) -> bool:
        """Append one batch, however long it takes. False if it had to be given up at the end. Raises `Fenced`."""
        payload = codec.encode(batch.events)
        entry_id = self._ids.next(batch.shard, self._clock.wall_ms())
        pause = _RETRY_FIRST_SECONDS
        unknown = False
        while True:
            try:
                if unknown:
                    entry_id = self._after_unknown(batch.shard, entry_id)
                    if not entry_id:
                        self._on_dirty(batch.shard)  # whether the flag was new is unknown too
                        break
                # Right before the write: this process may have been stopped for a while at any line above.
                if self._may_write():
                    new = self._appender.append(batch.shard, entry_id, payload)
                    failpoint("ingest.appended")
                    if new:
                        self._on_dirty(batch.shard)
                    break
                self._ring.reader_is_stuck()
                self._tally.log.warn("paused", "the lease is not renewed", trades=batch.trades)
            except redis.RedisError as error:
                self._note_error("append", error)
                unknown = True
            if self._out_of_time():
                return False
            self._rest(pause)
            pause = min(pause * 2, _RETRY_MAX_SECONDS)
        self._note_success(batch)
        return True

    def _after_unknown(self, shard: int, entry_id: str) -> str:
        """The id to append with: the same if the entry is absent, a greater one if others passed it, "" if there."""
        last = self._appender.last_id(shard)
        if entry_order(last) < entry_order(entry_id):
            return entry_id
        if last == entry_id or self._is_there(shard, entry_id):
            return ""
        self._ids.raise_to(shard, last)
        return self._ids.next(shard, self._clock.wall_ms())

    def _is_there(self, shard: int, entry_id: str) -> bool:
        return bool(self._client.xrange(streams.stream_key(self._epoch, shard), entry_id, entry_id))

    def _note_error(self, operation: str, error: redis.RedisError) -> None:
        self.reachable = False
        self._ring.reader_is_stuck()
        self._tally.redis_errors[operation] += 1
        self._tally.log.warn("redis_error", type(error).__name__, operation=operation, error=str(error))

    def _note_success(self, batch: Batch) -> None:
        self.reachable = True
        self._ring.reader_gets_on()
        self._tally.trades_published += batch.trades
        self._tally.quotes_published += sum(len(e.ts_event) for e in batch.events if isinstance(e, QuoteBlock))
        self._tally.entries_published += 1
        self._observe_latency(self._clock.monotonic() - batch.opened_at)

    def _out_of_time(self) -> bool:
        return self._give_up_at is not None and self._clock.monotonic() >= self._give_up_at

    def _rest(self, seconds: float) -> None:
        """Wait; a stop cuts it short once, afterwards the deadline is near and Redis may come back before it."""
        if self._stopping.is_set():
            time.sleep(self._clock.machine_seconds(min(seconds, _RETRY_STOPPING_SECONDS)))
        else:
            self._stopping.wait(self._clock.machine_seconds(seconds))
