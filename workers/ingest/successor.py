"""The link that is to take over from another: opened and subscribed beside it, in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Final

import websocket

from workers.ingest.clock import Clock
from workers.ingest.inbox import Closed, Handover, Inbox, Opened
from workers.ingest.link import STOPPED, Ended, Link, lost, not_opened

WHY: Final = "rotation"


class Successor(threading.Thread):
    """Runs until it is taken, stopped or ended by the exchange. `number` is that of its link.

    `open_link` connects; it raises OSError, WebSocketException or ValueError.
    """

    def __init__(self, name: str, number: int, open_link: Callable[[], Link], inbox: Inbox, clock: Clock) -> None:
        super().__init__(name=f"{name}-{number}", daemon=True)
        self.number = number
        self.handover = Handover()
        self.began_at = clock.monotonic()
        self.ended: Ended | None = None
        self.link: Link | None = None
        self._connection = name
        self._open_link = open_link
        self._inbox = inbox
        self._leaving = threading.Event()

    def run(self) -> None:
        try:
            link = self._open_link()
        except (OSError, websocket.WebSocketException, ValueError) as error:
            self.ended = not_opened(error)
            self.handover.give_up(self.ended.reason)
            return
        self.link = link
        self._inbox.put(Opened(self._connection, self.number, self.handover))
        ended = self._stream(link)
        if ended is not None and not self._leaving.is_set():
            self.ended = link.end(ended)
            self.handover.give_up(self.ended.reason)
            self._inbox.put(Closed(self._connection, self.number))

    def take(self) -> Link | None:
        """The open link, from now on the caller's alone; None if there is none. Waits for the thread to let go."""
        self._leaving.set()
        self.join()
        return self.link if self.ended is None else None

    def stop(self) -> None:
        """End it, from its owner's thread, whatever it is doing."""
        link = self.take()
        if link is not None:
            self.ended = link.end(STOPPED)
            self._inbox.put(Closed(self._connection, self.number))

    def interrupt(self) -> None:
        """Wake it, from any thread, when the whole connection is to end."""
        self._leaving.set()
        link = self.link
        if link is not None:
            link.stream.shutdown(socket.SHUT_RDWR)

    def _stream(self, link: Link) -> Ended | None:
        try:
            link.subscribe()
            while not self._leaving.is_set():
                ended = link.receive() or link.check(self._leaving.wait)
                if ended is not None:
                    return ended
                link.announce(WHY)
        except (OSError, websocket.WebSocketException) as error:
            return lost(error)
        return None
