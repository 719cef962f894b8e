"""Keeping one private socket open and ringing for every order that it names.

Nothing depends on it: while it is silent, orders are asked for all the same, only later. So whatever is doubtful ends
the socket and begins anew with a new key, and after each beginning every open order is rung for.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import websocket

from apps.engine import timeouts
from workers.ingest import control
from workers.ingest.backoff import Backoff
from workers.ingest.clock import Clock
from workers.ingest.transport import BufferedSocket, connect
from workers.private_stream.decoder import CHANNELS, NoPrivateFrame, order_of

log = logging.getLogger(__name__)

_PING: Final = json.dumps({"method": "PING"}, separators=(",", ":"))
_SUBSCRIBE: Final = json.dumps({"method": "SUBSCRIPTION", "params": CHANNELS, "id": 1}, separators=(",", ":"))
_WORDS_MAX: Final = 100


class ListenKeys(Protocol):
    """Who holds the account's secret makes the keys. `extend`: False if the key is over."""

    def make(self) -> str: ...

    def alive(self, key: str) -> bool: ...

    def extend(self, key: str) -> bool: ...

    def close(self, key: str) -> None: ...


@dataclass
class Counts:
    """What has happened since the start, for tests and for whoever watches."""

    opened: int = 0
    rung: int = 0
    unreadable: int = 0
    ended: str = ""


class _Ended(Exception):
    """Why a socket is left."""


class Listener:
    """`ring` is called with an order's id, `ring_all` after each beginning; neither may block for long.
    `trouble` is what `keys` raise when they cannot be asked.

    All seconds are of `clock`. `stop` may be called from any thread; everything else belongs to the one that runs.
    """

    def __init__(
        self,
        url: str,
        keys: ListenKeys,
        *,
        ring: Callable[[str], object],
        ring_all: Callable[[], object],
        trouble: type[Exception],
        clock: Clock,
        dice: random.Random,
    ) -> None:
        self.counts = Counts()
        self._url = url
        self._keys = keys
        self._ring = ring
        self._ring_all = ring_all
        self._trouble = trouble
        self._clock = clock
        self._backoff = Backoff(dice)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """It ends within a tick of the clock, or when the question for a key that it waits for is over."""
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            opened = self.counts.opened
            try:
                self._session()
            except (_Ended, self._trouble, OSError, websocket.WebSocketException, ValueError) as error:
                self.counts.ended = (str(error) or type(error).__name__)[:_WORDS_MAX]
                log.warning("private stream: %s", self.counts.ended)
            stable = self._clock.monotonic() - began if self.counts.opened > opened else 0.0
            self._stopping.wait(self._clock.machine_seconds(self._backoff.next_seconds(stable)))

    def _session(self) -> None:
        """One key and one socket, until either is doubtful or everything ends."""
        key = self._keys.make()
        try:
            client, stream = connect(f"{self._url}?listenKey={key}", self._clock)
            try:
                _Socket(self, client, stream, key).listen()
            finally:
                stream.expire_in(timeouts.FEED_RECEIVE_TICK_SECONDS)
                client.close(timeout=0)
                stream.close()
        finally:
            self._give_back(key)

    def _give_back(self, key: str) -> None:
        """An account may have 60 keys; one that cannot be given back now is over after an hour."""
        try:
            self._keys.close(key)
        except self._trouble as error:
            log.warning("private stream: a listen key is left behind: %s", error)

    # --- what a socket uses -------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def keys(self) -> ListenKeys:
        return self._keys

    def begun(self) -> None:
        """What happened while nobody listened was not heard."""
        self.counts.opened += 1
        self._ring_all()

    def heard(self, payload: bytes) -> None:
        try:
            client_order_id = order_of(payload)
        except NoPrivateFrame as error:
            self.counts.unreadable += 1
            log.warning("private stream: %s", error)
            return
        if client_order_id is not None:
            self.counts.rung += 1
            self._ring(client_order_id)


class _Socket:
    """An open socket and what is due on it. Raises `_Ended`, and whatever socket and keys raise."""

    def __init__(self, owner: Listener, client: websocket.WebSocket, stream: BufferedSocket, key: str) -> None:
        self._owner, self._client, self._stream, self._key = owner, client, stream, key
        now = owner.clock.monotonic()
        self._opened_at = self._pong_at = now
        self._ping_at = now + timeouts.FEED_PING_SECONDS
        self._look_at = now + timeouts.LISTEN_KEY_LOOK_SECONDS
        self._extend_at = now + timeouts.LISTEN_KEY_EXTEND_SECONDS
        self._accepted = False

    def listen(self) -> None:
        self._send(_SUBSCRIBE)
        while not self._owner.stopping:
            self._receive()
            self._do_what_is_due()

    def _receive(self) -> None:
        self._stream.expire_in(timeouts.FEED_RECEIVE_TICK_SECONDS)
        try:
            opcode, frame = self._client.recv_data_frame(True)
        except websocket.WebSocketTimeoutException:
            return
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise _Ended("closed by the exchange")
        if opcode == websocket.ABNF.OPCODE_BINARY:
            self._owner.heard(frame.data)
        elif opcode == websocket.ABNF.OPCODE_TEXT:
            self._answered(frame.data)

    def _answered(self, payload: bytes) -> None:
        message = control.parse(payload)
        if message is None:  # such as the bare words "Invalid listen key"
            raise _Ended(payload[:_WORDS_MAX].decode(errors="replace"))
        if message.is_pong:
            self._pong_at = self._owner.clock.monotonic()
            return
        answer = control.judge(message, CHANNELS)
        if answer.refused:
            raise _Ended(f"refused: {next(iter(answer.refused.values()))}")
        if answer.accepted == frozenset(CHANNELS) and not self._accepted:
            self._accepted = True
            self._owner.begun()

    def _do_what_is_due(self) -> None:
        now = self._owner.clock.monotonic()
        if not self._accepted and now - self._opened_at >= timeouts.FEED_ACK_RECONNECT_SECONDS:
            raise _Ended("no answer to the subscription")
        if now - self._pong_at >= timeouts.FEED_PONG_RECONNECT_SECONDS:
            raise _Ended(f"no PONG for {timeouts.FEED_PONG_RECONNECT_SECONDS} s")
        if now - self._opened_at >= timeouts.FEED_ROTATION_SECONDS:
            raise _Ended("its day is nearly over")
        if now >= self._ping_at:
            self._ping_at = now + timeouts.FEED_PING_SECONDS
            self._send(_PING)
        if now >= self._extend_at:
            self._extend_at = now + timeouts.LISTEN_KEY_EXTEND_SECONDS
            self._must_live(self._owner.keys.extend(self._key))
        elif now >= self._look_at:
            self._look_at = now + timeouts.LISTEN_KEY_LOOK_SECONDS
            self._must_live(self._owner.keys.alive(self._key))

    def _must_live(self, alive: bool) -> None:
        """A key that is over leaves its socket open and silent, and PONGs come all the same."""
        if not alive:
            raise _Ended("the listen key is over")

    def _send(self, text: str) -> None:
        self._stream.expire_in(timeouts.FEED_RECEIVE_TICK_SECONDS)
        self._client.send(text)
