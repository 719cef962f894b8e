"""How often somebody is woken again for the same thing, so that bells do not pile up behind one who is only slow."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

import redis

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 30.0
REMEMBERED_MAX: Final = 1_000


class _Pause(NamedTuple):
    seconds: float
    over_at: float


class Pauses:
    """Per thing that is rung for, the pause until it is rung for again.

    Messages that wait on a queue are not lost, and more of them make their reader slower still: while some wait, the
    pauses of a thing double. On an empty queue there is none for it, so it is rung for at every look. A restart forgets
    them, and then everything is rung for once too often. At most `REMEMBERED_MAX` things are remembered; more have to
    wait until the queue is empty.
    """

    def __init__(self, reader: redis.Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._pauses: dict[Hashable, _Pause] = {}

    def is_due(self, queue: str, thing: Hashable) -> bool:
        """Whether to ring now; if so, that is remembered. Raises what Redis raises."""
        now, last = self._clock(), self._pauses.get(thing)
        waiting: Any = self._reader.llen(queue)
        if last is not None and waiting and now < last.over_at:
            return False
        if last is None and not self._has_room(now):
            return not waiting
        seconds = min(2 * last.seconds, LONGEST_SECONDS) if last is not None and waiting else FIRST_SECONDS
        self._pauses[thing] = _Pause(seconds, now + seconds)
        return True

    def _has_room(self, now: float) -> bool:
        if len(self._pauses) >= REMEMBERED_MAX:
            self._pauses = {thing: pause for thing, pause in self._pauses.items() if pause.over_at > now}
        return len(self._pauses) < REMEMBERED_MAX
