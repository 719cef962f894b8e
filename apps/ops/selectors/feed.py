"""The ingest's report as the pages need it."""

from __future__ import annotations

import logging
from functools import lru_cache

import redis
from django.conf import settings

from apps.bus.clients import glance
from apps.bus.feed import BLOCKED, DELIVERING, FeedReport, UnreadableReport, read_report, symbol_of

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def client(url: str) -> redis.Redis:
    """One connection pool per process, for looking only."""
    return glance(url)


def newest_report(epoch_id: int) -> tuple[FeedReport | None, bool]:
    """The newest report, and whether Redis answered. A report that cannot be read counts as none."""
    try:
        return read_report(client(settings.REDIS_URL), epoch=epoch_id), True
    except redis.RedisError:
        return None, False
    except UnreadableReport as error:
        log.warning("the report of the ingest cannot be read: %s", error)
        return None, True


def refused_channels(report: FeedReport | None) -> tuple[tuple[str, str], ...]:
    """(symbol, the exchange's text) of every channel it refuses, in symbol order."""
    if report is None:
        return ()
    rows = {(symbol_of(channel), text) for c in report.connections for channel, text in c.refused.items()}
    return tuple(sorted(rows))


def broken_connection(report: FeedReport | None) -> str:
    """The first connection that does not deliver, in words without a full stop; empty if all do."""
    for connection in report.connections if report else []:
        if connection.state not in DELIVERING:
            reason = f": {connection.reason}" if connection.reason else ""
            return f"{connection.name} is {connection.state}{reason}"
    return ""


def blocked_connections(report: FeedReport | None) -> tuple[str, ...]:
    """The names of the connections of which the exchange refuses every channel."""
    return tuple(connection.name for connection in report.connections if connection.state == BLOCKED) if report else ()
