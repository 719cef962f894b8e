"""What the ingest says about itself: the newest report in Redis, or that there is none."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final, cast

import msgspec
import redis
from django.conf import settings

from apps.bus.clients import glance
from apps.bus.streams import feed_state_key
from apps.engine import timeouts
from apps.ops.sentence import SymbolFeed

log = logging.getLogger(__name__)

STREAMING: Final = "STREAMING"


class ConnectionReport(msgspec.Struct, frozen=True):
    """One connection to the exchange. Times are wall clock, ms; None: never."""

    name: str
    state: str
    reason: str | None = None
    since_ms: int | None = None
    last_frame_ms: int | None = None
    last_pong_ms: int | None = None
    subscriptions: int = 0
    refused: dict[str, str] = {}
    reconnects: int = 0
    symbols: list[str] = []

    @property
    def heard_ms(self) -> int | None:
        """When anything last arrived on it, while it streams."""
        heard = [ms for ms in (self.last_frame_ms, self.last_pong_ms) if ms is not None]
        return max(heard) if heard and self.state == STREAMING else None


class Counts(msgspec.Struct, frozen=True):
    received: int = 0
    decoded: int = 0
    published: int = 0


class FeedReport(msgspec.Struct, frozen=True):
    """The JSON behind `feed_state:<epoch>`, as far as pages need it."""

    token: int
    written_ms: int
    counts: Counts = Counts()
    connections: list[ConnectionReport] = []
    event_time_ms: int | None = None
    last_trade_ms: int | None = None

    def feed(self, symbol: str, now_ms: int) -> SymbolFeed:
        """The age of one symbol's feed. A report that is itself old makes every age at least as old."""
        heard = [c.heard_ms for c in self.connections if symbol in c.symbols and c.heard_ms is not None]
        if not heard:
            return SymbolFeed(symbol, None)
        age_ms, silent_ms = now_ms - max(heard), now_ms - self.written_ms
        return SymbolFeed(symbol, max(age_ms, silent_ms if silent_ms > timeouts.FEED_AGE_MAX_MS else 0, 0))


_decoder: Final = msgspec.json.Decoder(FeedReport)


@lru_cache(maxsize=1)
def _client(url: str) -> redis.Redis:
    return glance(url)


def read_report(epoch_id: int) -> tuple[FeedReport | None, bool]:
    """The newest report, and whether Redis answered. A report that cannot be read counts as none."""
    try:
        raw = cast("bytes | None", _client(settings.REDIS_URL).get(feed_state_key(epoch_id)))
    except redis.RedisError:
        return None, False
    if raw is None:
        return None, True
    try:
        return _decoder.decode(raw), True
    except msgspec.MsgspecError as error:
        log.warning("the report of the ingest cannot be read: %s", error)
        return None, True


def refused_channels(report: FeedReport | None) -> tuple[tuple[str, str], ...]:
    """(symbol, the exchange's text) of every channel it refuses, in symbol order."""
    if report is None:
        return ()
    rows = {(channel.rpartition("@")[2], text) for c in report.connections for channel, text in c.refused.items()}
    return tuple(sorted(rows))


def broken_connection(report: FeedReport | None) -> str:
    """The first connection that does not stream, in words; empty if all do."""
    for connection in report.connections if report else []:
        if connection.state != STREAMING:
            reason = f": {connection.reason}" if connection.reason else ""
            return f"{connection.name.capitalize()} is {connection.state}{reason}."
    return ""
