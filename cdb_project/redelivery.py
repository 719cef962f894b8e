"""Tasks whose process ends each time are given up in the end, so that one of them cannot end processes for ever.

A message that was not acknowledged comes again, which is right once or twice. A task that takes all memory would end
every process it is given to. What it was to do is not lost by giving it up: the steward brings it up by a new message.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, Final

import redis
from celery import Task
from django.conf import settings

from apps.bus import clients

log = logging.getLogger(__name__)

REDELIVERIES_MAX: Final = 2
REMEMBERED_SECONDS: Final = 3_600


@cache
def _client() -> redis.Redis:
    """One client per worker process, made at the first message that comes again."""
    return clients.glance(settings.REDIS_URL)


class BoundedTask(Task):  # type: ignore[type-arg]
    """Runs a message that came again at most `REDELIVERIES_MAX` times, then acknowledges it without running it."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (self.request.delivery_info or {}).get("redelivered") and self._came_too_often():
            log.critical("task %s is given up: its process ended %d times", self.name, REDELIVERIES_MAX + 1)
            return None
        return super().__call__(*args, **kwargs)

    def _came_too_often(self) -> bool:
        """Without Redis nobody counts; but then no message comes either."""
        key = f"redelivered:{self.request.id}"
        try:
            times: Any = _client().incr(key)
            _client().expire(key, REMEMBERED_SECONDS)
        except redis.RedisError:
            return False
        return int(times) > REDELIVERIES_MAX
