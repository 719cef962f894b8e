"""What the ingest says about itself: the feed state for trading and pages, health for the supervisor."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Final

import redis

from apps.bus import streams
from apps.bus.streams import Fenced
from apps.engine import timeouts
from workers.ingest.clock import Clock
from workers.ingest.feeds import Feeds
from workers.ingest.inbox import Inbox
from workers.ingest.lease import Right, standby_key
from workers.ingest.publisher import Publisher
from workers.ingest.ring import Ring
from workers.ingest.roster import Roster
from workers.ingest.status import ConnectionStatus, State
from workers.ingest.tally import Tally
from workers.ingest.transitions import Transitions

WRITE_SECONDS: Final = 0.25
KEEP_MS: Final = 60_000
REACHED_MAX_SECONDS: Final = 5
OVERFLOW_SHOWN_SECONDS: Final = 60
DELIVERING: Final = frozenset({State.STREAMING, State.ROTATING})


class Report:
    """Reads the other threads' counters and states; writes nothing but words."""

    def __init__(
        self,
        right: Right,
        roster: Roster,
        feeds: Feeds,
        transitions: Transitions,
        tally: Tally,
        ring: Ring,
        inbox: Inbox,
        publisher: Publisher,
        clock: Clock,
    ) -> None:
        self.roster = roster
        self.feeds = feeds
        self.transitions = transitions
        self.tally = tally
        self.ring = ring
        self.inbox = inbox
        self.clock = clock
        self.redis_reached_at: float | None = None
        self.right = right
        self.standby = False  # whether another ingest waits to take over
        self._publisher = publisher
        self._parts: dict[str, Callable[[], object]] = {}

    def add(self, name: str, part: Callable[[], object]) -> None:
        """Have the feed state tell under this name what `part` returns at the time."""
        self._parts[name] = part

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
            "symbols": self.roster.wanted,
            "connections": [self._connection(status) for status in self.roster.statuses],
            "event_time_ms": tally.event_time_ms or None,
            "last_trade_ms": tally.last_trade_ms,
            "ring": {
                "trades": self.ring.trades,
                "oldest_ms": self._ring_oldest_ms(),
                "overflowed": self.ring.overflowed,
            },
            **{name: part() for name, part in self._parts.items()},
        }

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether data really flows, and each part's share in that."""
        now = self.clock.monotonic()
        connections = {status.name: self._flow(status, now) for status in self.roster.statuses}
        reached = self._publisher.reachable and _within(now, self.redis_reached_at, REACHED_MAX_SECONDS)
        overflowing = _within(now, self.ring.overflowed_at, OVERFLOW_SHOWN_SECONDS)
        valid = self.right.valid()
        flows = bool(connections) and all(part["ok"] for part in connections.values())
        healthy = flows and reached and not overflowing and valid
        blocked = sorted(name for name, part in connections.items() if part["state"] is State.BLOCKED)
        parts = {
            "healthy": healthy,
            "symbols": self.roster.wanted,
            "blocked": blocked,
            "connections": connections,
            "redis": {"ok": reached},
            "lease": {"ok": valid},
            "ring": {"ok": not overflowing, "trades": self.ring.trades, "overflowed": self.ring.overflowed},
        }
        return healthy, parts

    @property
    def last_message_ms(self) -> int:
        """Wall clock of the newest frame of any connection; 0 if there was none."""
        return max((status.vitals.last_frame_ms or 0 for status in self.roster.statuses), default=0)

    @property
    def lag_seconds(self) -> float:
        """How far the settled event time is behind the wall clock; means little where event time runs faster."""
        event_time_ms = self.tally.event_time_ms
        return (self.clock.wall_ms() - event_time_ms) / 1000 if event_time_ms else 0.0

    def _ring_oldest_ms(self) -> int | None:
        oldest_at = self.ring.oldest_at
        if oldest_at is None:
            return None
        waited = self.clock.machine_seconds(self.clock.monotonic() - oldest_at)
        return self.clock.wall_ms() - int(waited * 1000)

    def _flow(self, status: ConnectionStatus, now: float) -> dict[str, Any]:
        """A quiet market flows too: its quotes are repeated. Only a connection without any of them does not."""
        market_at = status.vitals.last_market_at
        flows = _within(now, market_at, timeouts.FEED_SILENCE_WARN_SECONDS)
        return {
            "ok": status.state in DELIVERING and flows,
            "state": status.state,
            "reason": status.reason,
            "last_data_age_s": None if market_at is None else round(now - market_at, 1),
            "refused": len(status.refused),
            "silent": list(self.feeds.silent(status.name)),
        }

    def _connection(self, status: ConnectionStatus) -> dict[str, Any]:
        vitals = status.vitals
        return {
            "name": status.name,
            "state": status.state,
            "reason": status.reason,
            "since_ms": status.since_ms,
            "opened_ms": vitals.opened_ms,
            "last_frame_ms": vitals.last_frame_ms,
            "last_pong_ms": vitals.last_pong_ms,
            "blocked_until_ms": status.blocked_until_ms,
            "bytes_in": status.bytes_in,
            "subscriptions": status.accepted,
            "missing": list(status.missing),
            "refused": dict(status.refused),
            "silent": list(self.feeds.silent(status.name)),
            "reconnects": status.reconnects,
            "rotations": status.rotations,
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
        self._report.transitions.write(self._client, self._epoch, self._report.tally)
        self._report.redis_reached_at = self._report.clock.monotonic()
