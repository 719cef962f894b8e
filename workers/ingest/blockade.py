"""While the exchange refuses everything on every connection, one attempt per minute is enough for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from apps.engine import timeouts

PAUSE_SECONDS: Final = timeouts.FEED_REFUSED_RETRY_FIRST_SECONDS


class Blockade:
    """Shared by all connections. Times are seconds of the ingest's clock."""

    def __init__(self) -> None:
        self._delivering: set[str] = set()
        self._waiting: dict[str, Callable[[], object]] = {}
        self._taken = -float(PAUSE_SECONDS)  # the latest time that was given to somebody
        self._lock = threading.Lock()

    @property
    def lifted(self) -> bool:
        """Some connection delivers, so refusals are about channels and not about us."""
        return bool(self._delivering)

    def delivers(self, name: str) -> None:
        """The first one to do so wakes all that wait."""
        with self._lock:
            wake = [] if self._delivering else list(self._waiting.values())
            self._delivering.add(name)
        for call in wake:
            call()

    def ends(self, name: str) -> None:
        """The connection delivers nothing any more."""
        with self._lock:
            self._delivering.discard(name)

    def turn(self, name: str, earliest: float, wake: Callable[[], object]) -> float:
        """When a connection to which everything was refused may try again; `wake` is called if it may be sooner."""
        with self._lock:
            self._waiting[name] = wake
            if self._delivering:
                return earliest
            self._taken = max(earliest, self._taken + PAUSE_SECONDS)
            return self._taken

    def tries(self, name: str) -> None:
        """It waits no longer."""
        with self._lock:
            self._waiting.pop(name, None)
