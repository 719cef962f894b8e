"""The map from wall time to event time; only the local exchange has one."""

from __future__ import annotations

from collections.abc import Callable


class EventClock:
    """Stands at `start_ms` until `start()`, then runs `speed` times as fast as the wall, and stops at `end_ms`."""

    def __init__(self, start_ms: int, end_ms: int | None, speed: float, monotonic: Callable[[], float]) -> None:
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.speed = speed
        self._monotonic = monotonic
        self._started_at: float | None = None

    @property
    def started(self) -> bool:
        return self._started_at is not None

    @property
    def running(self) -> bool:
        """Started, and not yet at its end."""
        return self.started and (self.end_ms is None or self.now_ms() < self.end_ms)

    def start(self) -> None:
        """Start the map; a second call changes nothing."""
        if self._started_at is None:
            self._started_at = self._monotonic()

    def now_ms(self) -> int:
        """The event time of this instant."""
        if self._started_at is None:
            return self.start_ms
        elapsed_ms = (self._monotonic() - self._started_at) * 1_000 * self.speed
        now_ms = self.start_ms + int(elapsed_ms)
        return now_ms if self.end_ms is None else min(now_ms, self.end_ms)
