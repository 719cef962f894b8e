"""A worker that takes no message although some wait for it ends itself, and the supervisor starts another.

A worker may be there, answer, tell that it lives, and yet never ask the broker again: its event loop has lost the
connection that it reads from (celery/celery issues 8030 and 10302 tell of it). The known ways are closed by the
releases we use, `cdb_project.broker` and the settings; this is for those that nobody knows yet. Messages that wait
longer than any task of this worker may last, without one being taken, are a sign that needs no knowledge of the way.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
from celery import Celery

from apps.engine import timeouts
from cdb_project.pipeline import MISC_QUEUE, TASK_QUEUES

log = logging.getLogger(__name__)

DEAF_EXIT: Final = 70  # EX_SOFTWARE of sysexits.h


class Attention:
    """Looks at the queues of one worker. `took` is told of every message that it takes."""

    def __init__(self, client: redis.Redis, queues: Sequence[str], *, looks: int) -> None:
        """`looks` in a row that find the same messages taken and some waiting make the worker deaf."""
        self._client, self._queues, self._looks = client, queues, looks
        self._taken = 0
        self._taken_before = 0
        self._idle_looks = 0

    def took(self, **_: Any) -> None:
        self._taken += 1

    def unheard(self) -> dict[str, int]:
        """How many messages wait in which queue, if this worker has taken none for too long; otherwise nothing.

        A broker that does not answer has no messages to give.
        """
        taken = self._taken
        try:
            lengths = {queue: self._client.llen(queue) for queue in self._queues}
        except redis.RedisError:
            lengths = {}
        waiting = {queue: length for queue, length in lengths.items() if length}
        self._idle_looks = self._idle_looks + 1 if waiting and taken == self._taken_before else 0
        self._taken_before = taken
        return waiting if self._idle_looks >= self._looks else {}


def patience_seconds(application: Celery, queues: Sequence[str]) -> int:
    """How long a message may wait here while none is taken: the longest task of these queues, and a margin."""
    of_tasks = [
        int(task.time_limit)
        for name, task in application.tasks.items()
        if task.time_limit and TASK_QUEUES.get(name, MISC_QUEUE) in queues
    ]
    return max(timeouts.CELERY_HARD_LIMIT_SECONDS, *of_tasks, 0) + timeouts.DEAF_MARGIN_SECONDS


def watch(attention: Attention, *, look_seconds: float, ended: threading.Event, end: Callable[[], None]) -> None:
    """Look every `look_seconds` until the worker has `ended`. If it is deaf, write down where it stands, and `end`."""
    while not ended.wait(look_seconds):
        waiting = attention.unheard()
        if waiting:
            words = ", ".join(f"{length} in {queue}" for queue, length in waiting.items())
            log.critical("this worker takes no messages although some wait (%s): it ends", words)
            faulthandler.dump_traceback(sys.stderr)
            end()
            return


def end_this_process() -> None:
    """Ask it to end, and end it if it does not: what hangs may not hear either. Its children die with it."""
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(timeouts.DEAF_END_SECONDS)
    os._exit(DEAF_EXIT)
