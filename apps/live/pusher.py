"""One loop per web process that reads the state and hands it to that process's sockets.

Each process reads PostgreSQL and Redis for itself, so any number of web processes show the same without telling each
other. It reads only while somebody is connected, at most every LIVE_PUSH_MS, and rests longer than it reads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, connections
from redis import RedisError

from apps.engine import timeouts
from apps.live import pages
from apps.live.changes import change_token
from apps.live.frame import wall_ms
from apps.live.listening import listen
from apps.live.sources import State, read_state
from apps.live.strip import strip_of

log = logging.getLogger(__name__)

REST_SHARE: Final = 4  # rest this many times as long as the last reading took
REST_SECONDS_MAX: Final = 1.0
SENTENCE_EVERY_SECONDS: Final = 1.0
SOCKETS_MAX: Final = 200
SOCKETS_PER_USER_MAX: Final = 20


Sections = dict[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Frame:
    """What was true at `server_ms`. `sections` holds (version, html) by page and name, for the pages that are open;
    a version grows when the html changes.
    """

    server_ms: int
    strip: dict[str, Any]
    sections: dict[str, Sections]
    data_at_ms: int | None


@dataclass(eq=False)
class Box:
    """The one-slot mailbox of a socket: it always takes the newest frame, so a slow reader costs no memory.

    `page` names the sections that its page shows; empty: it shows the strip only.
    """

    user_id: int
    session_mark: str
    page: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    signed_out: bool = False


class Pusher:
    """Lives in one event loop. `join` starts the loop, the last `leave` ends it."""

    def __init__(self) -> None:
        self.latest: Frame | None = None
        self.checked_ms: int | None = None  # when the newest frame was last known to be true
        self._boxes: set[Box] = set()
        self._task: asyncio.Task[None] | None = None

    def has_room(self, user_id: int) -> bool:
        mine = sum(box.user_id == user_id for box in self._boxes)
        return len(self._boxes) < SOCKETS_MAX and mine < SOCKETS_PER_USER_MAX

    def join(self, box: Box) -> None:
        self._boxes.add(box)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live-pusher")
        if self.latest is not None:
            box.changed.set()

    async def leave(self, box: Box) -> None:
        self._boxes.discard(box)
        if not self._boxes and self._task is not None:
            task, self._task, self.latest, self.checked_ms = self._task, None, None, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def sign_out(self, session_mark: str) -> None:
        """Close every socket that was opened with this login."""
        for box in self._boxes:
            if box.session_mark == session_mark:
                box.signed_out = True
                box.changed.set()

    async def _run(self) -> None:
        executor, reader = ThreadPoolExecutor(1, thread_name_prefix="live-pusher"), _Reader()
        listener = asyncio.create_task(listen(self.sign_out), name="live-listener")
        try:
            while True:
                took = await self._turn(executor, reader)
                await asyncio.sleep(max(timeouts.LIVE_PUSH_MS / 1000, min(REST_SHARE * took, REST_SECONDS_MAX)))
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await asyncio.get_running_loop().run_in_executor(executor, reader.close)
            executor.shutdown(wait=False)

    async def _turn(self, executor: ThreadPoolExecutor, reader: _Reader) -> float:
        """One reading. Returns how many seconds it took; a failed one is logged; the sockets say their age."""
        began = time.perf_counter()
        opened = frozenset(box.page for box in self._boxes if box.page)
        try:
            frame = await asyncio.get_running_loop().run_in_executor(executor, reader.read, opened)
        except (DatabaseError, InterfaceError, RedisError) as error:
            log.warning("the live state cannot be read: %s", error)
            return REST_SECONDS_MAX
        self.checked_ms = wall_ms()
        if frame is not self.latest:
            self.latest = frame
            for box in self._boxes:
                box.changed.set()
        return time.perf_counter() - began


class _Reader:
    """Runs in the pusher's own thread, with a database connection of its own."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._token: object = None
        self._state: State | None = None
        self._read_at = 0.0

    def read(self, opened: frozenset[str], clock: Callable[[], float] = time.perf_counter) -> Frame:
        """The newest frame: the same object as before if nothing changed, it has the sections of every page that is
        open, and the sentence's ages are fresh enough.
        """
        try:
            return self._read(opened, clock)
        except (DatabaseError, InterfaceError):
            connections.close_all()  # the next turn starts with a new connection
            raise

    def _read(self, opened: frozenset[str], clock: Callable[[], float]) -> Frame:
        now = clock()
        token = None if self._state is None else change_token(self._state)
        changed = token is None or token != self._token
        complete = self._frame is not None and opened <= self._frame.sections.keys()
        if self._frame is not None and complete and not changed and now - self._read_at < SENTENCE_EVERY_SECONDS:
            return self._frame
        now_ms = wall_ms()
        state = read_state(now_ms)
        self._frame = _frame(state, now_ms, opened, self._frame)
        self._token, self._state, self._read_at = change_token(state), state, now
        return self._frame

    def close(self) -> None:
        self._frame = self._token = self._state = None
        connections.close_all()


def _frame(state: State, now_ms: int, opened: frozenset[str], before: Frame | None) -> Frame:
    known = before.sections if before is not None else {}
    sections = {
        page: {name: _versioned(html, known.get(page, {}).get(name, (0, ""))) for name, html in rendered.items()}
        for page, rendered in pages.render(opened, state, now_ms).items()
    }
    last_trade_ms = state.report.last_trade_ms if state.report is not None else None
    return Frame(now_ms, strip_of(state.sentence), sections, last_trade_ms)


def _versioned(html: str, before: tuple[int, str]) -> tuple[int, str]:
    version, old = before
    return before if html == old else (version + 1, html)


_pushers: dict[asyncio.AbstractEventLoop, Pusher] = {}


def pusher() -> Pusher:
    """The pusher of the running event loop."""
    loop = asyncio.get_running_loop()
    for old in [known for known in _pushers if known.is_closed()]:
        del _pushers[old]
    return _pushers.setdefault(loop, Pusher())
