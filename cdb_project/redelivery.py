"""What every task of ours has: an end to being tried again, and a connection that the next task can use.

A message that was not acknowledged comes again, which is right once or twice. A task that takes all memory would end
every process it is given to. What it was to do is not lost by giving it up: the steward brings it up by a new message.

A soft time limit is raised wherever the task stands, also while it waits for PostgreSQL. The driver tidies up after a
KeyboardInterrupt only; the connection would answer every later task with "another command is already in progress".
"""

from __future__ import annotations

import traceback
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Final

import redis
from celery import Task
from django.conf import settings
from django.db import connections
from psycopg.pq import TransactionStatus

from apps.bus import clients
from cdb_project.given_up import TookTooMuch, give_up, times_ended

REDELIVERIES_MAX: Final = 2
REMEMBERED_SECONDS: Final = 3_600
IDLE: Final = TransactionStatus.IDLE


@cache
def _client() -> redis.Redis:
    """One client per worker process, made at the first message that comes again."""
    return clients.glance(settings.REDIS_URL)


def close_unusable() -> None:
    """Close connections that are in the middle of something although no task runs; the next query opens a new one."""
    for wrapper in connections.all(initialized_only=True):
        driver = wrapper.connection
        if driver is not None and not wrapper.in_atomic_block and driver.info.transaction_status != IDLE:
            wrapper.close()


class BoundedTask(Task):  # type: ignore[type-arg]
    """Runs a message that came again at most `REDELIVERIES_MAX` times, then acknowledges it without running it."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (self.request.delivery_info or {}).get("redelivered") and self._came_too_often():
            give_up(self.name, kwargs, times_ended(REDELIVERIES_MAX + 1))
            return None
        try:
            with self._turn():
                return super().__call__(*args, **kwargs)
        except MemoryError as error:
            # What the task took is held by its frames; whoever tells of it needs some memory too.
            traceback.clear_frames(error.__traceback__)
            # Celery ends the whole worker for this one, and the message would come again to the next.
            raise TookTooMuch(f"MemoryError in task {self.name}") from None
        finally:
            close_unusable()

    def _turn(self) -> AbstractContextManager[None]:
        """What this message leads to on the queue that it came from is done after it (`apps.outbox.at_hand`)."""
        queue = (self.request.delivery_info or {}).get("routing_key")
        if not queue:  # called from within another task
            return nullcontext()
        from apps.outbox import at_hand, services  # models: not before Django is set up

        return at_hand.serving(queue, tell=services.publish, done=services.note_published)

    def _came_too_often(self) -> bool:
        """Without Redis nobody counts; but then no message comes either."""
        key = f"redelivered:{self.request.id}"
        try:
            times: Any = _client().incr(key)
            _client().expire(key, REMEMBERED_SECONDS)
        except redis.RedisError:
            return False
        return int(times) > REDELIVERIES_MAX
