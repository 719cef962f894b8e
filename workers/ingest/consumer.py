"""The one thread that decodes and checks; what it lets through goes in order into the ring."""

from __future__ import annotations

import threading
import time
from typing import Final

from workers.ingest.builder import Builder
from workers.ingest.clock import Clock
from workers.ingest.feeds import Feeds
from workers.ingest.inbox import Inbox

_POLL_SECONDS: Final = 0.05
_GATHER_SECONDS: Final = 0.002  # a short rest lets many small hand-overs become one round


class Consumer(threading.Thread):
    """Runs until `stop`, then takes what still waits and passes it on."""

    def __init__(self, feeds: Feeds, inbox: Inbox, builder: Builder, clock: Clock) -> None:
        super().__init__(name="consumer", daemon=True)
        self._feeds = feeds
        self._inbox = inbox
        self._builder = builder
        self._clock = clock
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        poll_at = 0.0
        while not self._stopping.is_set():
            if self._builder.pending:
                time.sleep(_GATHER_SECONDS)
            else:
                self._inbox.wait(_POLL_SECONDS)
            touched = self._take()
            now = self._clock.monotonic()
            if now >= poll_at:
                touched = self._feeds.names
                poll_at = now + _POLL_SECONDS
            self._feeds.poll(touched & self._feeds.names, now)
            self._builder.flush()
        self._take()
        self._builder.flush(everything=True)

    def _take(self) -> set[str]:
        """Work through everything that waits; returns the feeds it concerned."""
        touched = set()
        for item in self._inbox.take_all():
            name = self._feeds.take(item)
            if name is not None:
                touched.add(name)
            self._builder.flush()
        return touched
