"""What the ingest says about itself: the feed state for trading and pages, health for the supervisor."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis

from apps.bus import streams
from apps.bus.streams import Fenced
from apps.engine import timeouts
from workers.ingest.clock import Clock
from workers.ingest.inbox import Inbox
from workers.ingest.lease import Right, standby_key
from workers.ingest.publisher import Publisher
from workers.ingest.ring import Ring
from workers.ingest.status import ConnectionStatus, State
from workers.ingest.tally import Tally

WRITE_SECONDS: Final = 0.25
KEEP_MS: Final = 60_000
REACHED_MAX_SECONDS: Final = 5
OVERFLOW_SHOWN_SECONDS: Final = 60


class Report:
    """Reads the other threads' counters and states; writes nothing but words."""

    def __init__(
        self,
        right: Right,
        statuses: Sequence[ConnectionStatus],
        tally: Tally,
        ring: Ring,
        inbox: Inbox,
        publisher: Publisher,
        clock: Clock,
    ) -> None:
        self.statuses = statuses
        self.tally = tally
        self.ring = ring
        self.inbox = inbox
        self.clock = clock
        self.redis_reached_at: float | None = None
        self.right = right
        self.standby = False  # whether another ingest waits to take over
        self._publisher = publisher

    def feed_state(self) -> dict[str, Any]:
        """As the readers of `feed_state:<epoch>` expect it; all times are wall clock ms except event_time_ms."""
        tally = self.tally
        return {
            "token": self.right.token,
            "lease": self.right.report(),
            "standby": self.standby,
            "written_ms": self.clock.wall_ms(),
            "counts": {
                "received": tally.trades_received,
                "decoded": tally.trades_decoded,
                "published": tally.trades_published,
            },
            "dropped": dict(tally.dropped),
            "connections": [self._connection(status) for status in self.statuses],
            "event_time_ms": tally.event_time_ms or None,
            "last_trade_ms": tally.last_trade_ms,
            "ring": {
                "trades": self.ring.trades,
                "oldest_ms": self._ring_oldest_ms(),
                "overflowed": self.ring.overflowed,
            },
        }

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether data really flows, and each part's share in that."""
        now = self.clock.monotonic()
        connections = {status.name: self._flow(status, now) for status in self.statuses}
        reached = self._publisher.reachable and _within(now, self.redis_reached_at, REACHED_MAX_SECONDS)
        overflowing = _within(now, self.ring.overflowed_at, OVERFLOW_SHOWN_SECONDS)
        valid = self.right.valid()
        healthy = all(part["ok"] for part in connections.values()) and reached and not overflowing and valid
        parts = {
            "healthy": healthy,
            "connections": connections,
            "redis": {"ok": reached},
            "lease": {"ok": valid},
            "ring": {"ok": not overflowing, "trades": self.ring.trades, "overflowed": self.ring.overflowed},
        }
        return healthy, parts

    def _ring_oldest_ms(self) -> int | None:
        oldest_at = self.ring.oldest_at
        if oldest_at is None:
            return None
        return self.clock.wall_ms() - int((self.clock.monotonic() - oldest_at) * 1000)

    @staticmethod
    def _flow(status: ConnectionStatus, now: float) -> dict[str, Any]:
        flows = _within(now, status.last_market_at, timeouts.FEED_SILENCE_WARN_SECONDS)
        age = None if status.last_market_at is None else round(now - status.last_market_at, 1)
        streaming = status.state is State.STREAMING
        return {"ok": streaming and flows, "state": status.state, "reason": status.reason, "last_data_age_s": age}

    @staticmethod
    def _connection(status: ConnectionStatus) -> dict[str, Any]:
        return {
            "name": status.name,
            "state": status.state,
            "reason": status.reason,
            "since_ms": status.since_ms,
            "last_frame_ms": status.last_frame_ms,
            "last_pong_ms": status.last_pong_ms,
            "subscriptions": status.accepted,
            "refused": dict(status.refused),
            "reconnects": status.reconnects,
            "symbols": list(status.symbols),
            "last_close": status.last_close,
        }


def _within(now: float, at: float | None, seconds: float) -> bool:
    return at is not None and now - at < seconds


class Reporter(threading.Thread):
    """Writes the feed state four times a second, and keeps older tokens out and looks for newer ones in the fence."""

    def __init__(self, client: redis.Redis, epoch: int, report: Report, on_fenced: Callable[[str], None]) -> None:
        super().__init__(name="reporter", daemon=True)
        self._client = client
        self._epoch = epoch
        self._report = report
        self._on_fenced = on_fenced
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._report.right.valid():
                    self._write()
            except Fenced as fenced:
                self._on_fenced(str(fenced))
                return
            except redis.RedisError as error:
                self._report.tally.redis_errors["feed_state"] += 1
                self._report.tally.log.warn(
                    "redis_error", type(error).__name__, operation="feed_state", error=str(error)
                )
            self._stopping.wait(WRITE_SECONDS)

    def _write(self) -> None:
        streams.assert_fence(self._client, self._epoch, self._report.right.token)
        self._report.standby = bool(self._client.exists(standby_key(self._epoch)))
        state = json.dumps(self._report.feed_state())
        self._client.set(streams.feed_state_key(self._epoch), state, px=KEEP_MS)
        self._report.redis_reached_at = self._report.clock.monotonic()
