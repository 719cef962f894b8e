"""Running chores at their own pace, each on its own, so that one that fails does not stop the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import redis
from celery.exceptions import CeleryError
from django.db import DatabaseError, InterfaceError, close_old_connections
from kombu.exceptions import KombuError

log = logging.getLogger(__name__)

# What an outage looks like: the chore is tried again at its next turn. Anything else is a fault of ours and ends the
# process, visibly; the process manager starts it again.
OUTAGES: Final = (DatabaseError, InterfaceError, redis.RedisError, KombuError, CeleryError, OSError)
COMPLAIN_EVERY_SECONDS: Final = 10.0


@dataclass(slots=True)
class Chore:
    """One duty and how often it is done."""

    name: str
    every_seconds: float
    work: Callable[[], None]
    due: float = 0.0
    failures: int = 0
    complained: float = field(default=float("-inf"))


class Loop:
    """Does what is due until it is told to stop."""

    def __init__(self, chores: list[Chore], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.chores = chores
        self._clock = clock
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            self.turn()
            wait = min(chore.due for chore in self.chores) - self._clock()
            self._stop.wait(max(wait, 0.01))

    def turn(self) -> None:
        """Do every chore that is due now."""
        for chore in self.chores:
            if chore.due <= self._clock():
                self._do(chore)
                chore.due = self._clock() + chore.every_seconds

    def _do(self, chore: Chore) -> None:
        try:
            close_old_connections()
            chore.work()
            chore.failures = 0
        except OUTAGES as error:
            chore.failures += 1
            if self._clock() - chore.complained > COMPLAIN_EVERY_SECONDS:
                chore.complained = self._clock()
                log.warning("%s failed %d times: %s", chore.name, chore.failures, error)
