"""The Redis clients, one factory for all. Nobody else makes one.

redis-py repeats a timed-out command ten times by default, so a write could land twice: the writer never repeats.
"""

from __future__ import annotations

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from apps.engine import timeouts


def writer(url: str) -> redis.Redis:
    """For commands that change something. An error leaves the outcome unknown; the caller decides."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeouts.REDIS_SOCKET_SECONDS,
        socket_connect_timeout=timeouts.REDIS_CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def reader(url: str) -> redis.Redis:
    """For commands that only look. Repeats a failed one at most three times."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeouts.REDIS_SOCKET_SECONDS,
        socket_connect_timeout=timeouts.REDIS_CONNECT_SECONDS,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), 3),
    )


def glance(url: str) -> redis.Redis:
    """For pages and health checks: no second try, because "unknown" at once is better than a page that waits."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeouts.REDIS_GLANCE_SECONDS,
        socket_connect_timeout=timeouts.REDIS_GLANCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
