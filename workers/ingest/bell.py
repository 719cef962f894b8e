"""Ringing the doorbell in a thread of its own: a broker that hangs never delays a trade."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import redis
from kombu.exceptions import KombuError

from workers.ingest.clock import Clock
from workers.ingest.tally import Tally

PAUSE_SECONDS: Final = 0.005
_RETRY_SECONDS: Final = 0.5


class Bell(threading.Thread):
    """Rings each shard at most once per 5 ms. A ring that failed is repeated; the steward knows the rest."""

    def __init__(self, ring: Callable[[int], None], tally: Tally, clock: Clock) -> None:
        super().__init__(name="bell", daemon=True)
        self._ring = ring
        self._tally = tally
        self._clock = clock
        self._due: dict[int, float] = {}
        self._rung_at: dict[int, float] = {}
        self._changed = threading.Condition()
        self._stopping = False

    def order(self, shard: int) -> None:
        """Have the shard rung soon."""
        with self._changed:
            earliest = self._rung_at.get(shard, 0.0) + PAUSE_SECONDS
            self._due[shard] = min(self._due.get(shard, earliest), earliest)
            self._changed.notify()

    def stop(self) -> None:
        """End after ringing what is due now."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        while (shard := self._next()) is not None:
            now = self._clock.monotonic()
            try:
                self._ring(shard)
            except (OSError, KombuError, redis.RedisError) as error:
                self._tally.rings["failed"] += 1
                self._tally.log.warn("doorbell_failed", type(error).__name__, shard=shard, error=str(error))
                with self._changed:
                    self._due.setdefault(shard, now + _RETRY_SECONDS)
            else:
                self._tally.rings["rung"] += 1
            self._rung_at[shard] = now

    def _next(self) -> int | None:
        """The shard to ring now; waits for one. None when it is time to end."""
        with self._changed:
            while True:
                now = self._clock.monotonic()
                shard = min(self._due, key=self._due.__getitem__, default=None)
                if shard is not None and self._due[shard] <= now:
                    del self._due[shard]
                    return shard
                if self._stopping:
                    return None
                wait = None if shard is None else self._clock.machine_seconds(self._due[shard] - now)
                self._changed.wait(wait)
