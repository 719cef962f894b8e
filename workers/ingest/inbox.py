"""The hand-over from the receiving threads to the consumer: what happened on which connection, in order."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from apps.bus.orders import Doubt
from apps.engine.events import Backfill
from workers.ingest.config import Instrument

FRAMES_MAX: Final = 50_000
WHOLE_CONNECTION: Final = 0  # instead of the number of a link


class Handover:
    """Whether a successor takes over: decided once, by the consumer who moves the symbols or by whoever gives it up."""

    def __init__(self) -> None:
        self.done = False
        self.failed = ""
        self._lock = threading.Lock()

    def finish(self) -> bool:
        """The symbols belong to the successor from here on. False if it was given up before."""
        with self._lock:
            self.done = self.done or not self.failed
            return self.done

    def give_up(self, reason: str) -> bool:
        """The symbols stay where they are. False if they have moved already."""
        with self._lock:
            if not self.done:
                self.failed = self.failed or reason
            return not self.done


@dataclass(frozen=True, slots=True)
class Opened:
    """A link is open. Without `handover` nothing of its predecessor counts any more; with it, the link wants to succeed
    the one that delivers."""

    feed: str
    link: int = 1
    handover: Handover | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The exchange delivers the trades of `symbols` from here on. `initial`: every channel has been answered now."""

    feed: str
    symbols: tuple[str, ...]
    initial: bool
    reason: str
    link: int = 1


@dataclass(frozen=True, slots=True)
class Frames:
    """Binary frames in order of arrival; `ts_init` is the wall clock in ms when they were handed over."""

    feed: str
    ts_init: int
    payloads: list[bytes]
    link: int = 1


@dataclass(frozen=True, slots=True)
class Closed:
    """The link delivers nothing any more."""

    feed: str
    link: int = 1


@dataclass(frozen=True, slots=True)
class Joined:
    """The connection is to deliver these symbols too; their acceptance follows."""

    feed: str
    instruments: tuple[Instrument, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """These symbols are not wanted on the connection any more; what still comes of them is of no interest."""

    feed: str
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The exchange does not deliver the trades of these symbols, in its own words."""

    feed: str
    symbols: tuple[str, ...]
    reason: str
    link: int = 1


@dataclass(frozen=True, slots=True)
class Doubted:
    """Closed minutes whose sums differ from the exchange's."""

    doubts: tuple[Doubt, ...]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What somebody beside the stream has to put on it, in order: each event goes to the shard of its symbol."""

    events: tuple[Backfill, ...]


OfFeed = Opened | Accepted | Frames | Closed | Joined | Left | Refused
Item = OfFeed | Doubted | Repaired


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
