"""Finding 9: websocket-client waits for ever inside a half-received frame, with its own ping and pong too."""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import websocket

from apps.engine import timeouts
from tests.stack.worker import wait_until
from workers.ingest.clock import Clock
from workers.ingest.connection import Connection
from workers.ingest.inbox import FRAMES_MAX, Inbox
from workers.ingest.log import BoundedLog
from workers.ingest.tally import Tally

pytestmark = pytest.mark.stack
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HALF_A_FRAME = b"\x82\x7e\x01\x00half"
PING_SECONDS, PONG_SECONDS = 3, 2
# The library promises to notice within one interval and two timeouts.
LIBRARY_SECONDS = PING_SECONDS + 2 * PONG_SECONDS + 1


class Mute:
    """A server that completes the handshake, says `last_words` and then nothing, not even a pong."""

    def __init__(self, last_words: bytes) -> None:
        self._last_words = last_words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/ws"
        self._visitors: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                visitor, _ = self._listener.accept()
                self._visitors.append(visitor)
                threading.Thread(target=self._serve, args=(visitor,), daemon=True).start()

    def _serve(self, visitor: socket.socket) -> None:
        with suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += visitor.recv(4096)
            key = next(line for line in request.decode().split("\r\n") if line.lower().startswith("sec-websocket-key"))
            digest = hashlib.sha1(f"{key.split(': ')[1]}{GUID}".encode(), usedforsecurity=False).digest()
            head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            accept = base64.b64encode(digest).decode()
            visitor.sendall(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode() + self._last_words)
            while visitor.recv(4096):
                pass

    def close(self) -> None:
        for one in (self._listener, *self._visitors):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def mute() -> Iterator[Mute]:
    server = Mute(b"")
    yield server
    server.close()


@pytest.fixture
def half() -> Iterator[Mute]:
    server = Mute(HALF_A_FRAME)
    yield server
    server.close()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    def quietly() -> None:
        with suppress(OSError, websocket.WebSocketException):
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def test_half_a_frame_is_noticed_by_ours_and_by_nothing_of_the_library(mute: Mute, half: Mute) -> None:
    began = time.monotonic()
    clock = Clock()
    connection = Connection(
        "feed-0", ("BTCUSDT",), half.url, Inbox(FRAMES_MAX), Tally(BoundedLog(clock.monotonic)), clock, random.Random(1)
    )
    connection.start()
    bare = websocket.create_connection(half.url, timeout=None)
    pings: dict[str, Any] = {"ping_interval": PING_SECONDS, "ping_timeout": PONG_SECONDS}
    apps = {name: websocket.WebSocketApp(server.url) for name, server in (("silent", mute), ("half", half))}
    waiting = {name: in_thread(partial(app.run_forever, **pings)) for name, app in apps.items()}
    waiting["bare"] = in_thread(bare.recv)
    try:
        wait_until(lambda: connection.status.last_close is not None, timeouts.FEED_PARTIAL_FRAME_SECONDS + 3)
        assert connection.status.last_close is not None
        assert connection.status.last_close["reason"] == "half a frame, then silence"
        wait_until(
            lambda: not waiting["silent"].is_alive(), LIBRARY_SECONDS
        )  # pings do find a peer that is just silent
        wait_until(lambda: time.monotonic() - began > 2 * LIBRARY_SECONDS, 2 * LIBRARY_SECONDS)
        assert waiting["bare"].is_alive(), "a bare receive ends by itself now"
        assert waiting["half"].is_alive(), "run_forever notices half a frame now: our own loop may go"
    finally:
        connection.stop()
        half.close()
        for thread in (connection, *waiting.values()):
            thread.join(5)
        bare.shutdown()  # type: ignore[no-untyped-call]
    assert not any(thread.is_alive() for thread in (connection, *waiting.values()))
