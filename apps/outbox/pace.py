"""Doing the same thing at a bounded rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Final

KEYS_MAX: Final = 1_000


class AtMostEvery:
    """Answers whether a thing may be said (again): at most once per `seconds` for each key."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._said: dict[Hashable, float] = {}

    def ready(self, key: Hashable) -> bool:
        now = self._clock()
        last = self._said.get(key)
        if last is not None and now - last < self._seconds:
            return False
        if len(self._said) >= KEYS_MAX:
            self._said.clear()
        self._said[key] = now
        return True


class Pause:
    """A rest of `seconds` after a failure."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._ends: float | None = None

    def begin(self) -> None:
        self._ends = self._clock() + self._seconds

    @property
    def active(self) -> bool:
        return self._ends is not None and self._clock() < self._ends
