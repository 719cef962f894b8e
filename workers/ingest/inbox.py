"""The hand-over from the receiving threads to the consumer: what happened on which connection, in order."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

FRAMES_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection begins anew; nothing of its predecessor counts any more."""

    feed: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The exchange delivers the trades of `symbols` from here on. `initial`: every channel has been answered now."""

    feed: str
    symbols: tuple[str, ...]
    initial: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Frames:
    """Binary frames in order of arrival; `ts_init` is the wall clock in ms when they were handed over."""

    feed: str
    ts_init: int
    payloads: list[bytes]


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection delivers nothing any more."""

    feed: str


Item = Opened | Accepted | Frames | Closed


class Inbox:
    """Many writers, one reader. Writers wait while it is full: TCP slows the sender, nothing is forgotten."""

    def __init__(self, frames_max: int = FRAMES_MAX) -> None:
        self._frames_max = frames_max
        self._items: deque[Item] = deque()
        self._filled = threading.Event()
        self._put_frames = 0
        self._taken_frames = 0
        self._lock = threading.Lock()

    @property
    def frames(self) -> int:
        """Frames that wait."""
        return self._put_frames - self._taken_frames

    @property
    def full(self) -> bool:
        return self.frames >= self._frames_max

    def put(self, item: Item) -> None:
        if isinstance(item, Frames):
            with self._lock:
                self._put_frames += len(item.payloads)
        self._items.append(item)
        if not self._filled.is_set():
            self._filled.set()

    def wait(self, seconds: float) -> None:
        """Return when something waits, or after `seconds` of the machine."""
        self._filled.wait(seconds)

    def take_all(self) -> list[Item]:
        """Everything that waits, oldest first."""
        self._filled.clear()  # first: what arrives from here on sets it again
        items: list[Item] = []
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Frames):
                self._taken_frames += len(item.payloads)
            items.append(item)
        return items
