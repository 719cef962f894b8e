"""The reader's side of the fence: what an ingest writes after a newer one has written is not for anyone's eyes.

The append refuses an older token too, but its memory of tokens is lost when Redis is emptied. This one is not: it is
part of what is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from apps.engine.events import Event

UNKNOWN: Final = 0


class Fence:
    """The greatest token seen so far on one shard's stream. Feed it every event, in order."""

    def __init__(self, token: int = UNKNOWN) -> None:
        self.token = token

    def admits(self, event: Event) -> bool:
        """Whether the event counts. History from klines carries no token: it is the exchange's own."""
        token = getattr(event, "token", None)
        if token is None:
            return True
        if token < self.token:
            return False
        self.token = token
        return True

    def admitted(self, events: Iterable[Event]) -> list[Event]:
        return [event for event in events if self.admits(event)]
