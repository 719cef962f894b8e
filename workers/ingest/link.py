"""One open WebSocket: receiving, pinging, and the deadlines that say it is dead."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import websocket

from apps.engine import timeouts
from workers.ingest import control
from workers.ingest.clock import Clock
from workers.ingest.inbox import Frames, Inbox
from workers.ingest.status import ConnectionStatus
from workers.ingest.subscriptions import Subscriptions
from workers.ingest.tally import Tally
from workers.ingest.transport import BufferedSocket, has_partial_frame

_PING: Final = json.dumps({"method": "PING"}, separators=(",", ":"))
_PING_JITTER: Final = 0.1
_BATCH_FRAMES_MAX: Final = 256
_FULL_WAIT_SECONDS: Final = 0.01


@dataclass(slots=True)
class Ended:
    """Why a connection ended. `code` is the close code of the exchange, if it sent one."""

    reason: str
    code: int | None = None
    blocked: bool = False
    stable_seconds: float = 0.0


class Link:
    """Used by its connection's thread only, except for `stream.shutdown`."""

    def __init__(
        self,
        client: websocket.WebSocket,
        stream: BufferedSocket,
        subscriptions: Subscriptions,
        status: ConnectionStatus,
        inbox: Inbox,
        tally: Tally,
        clock: Clock,
    ) -> None:
        self.client = client
        self.stream = stream
        self.subscriptions = subscriptions
        self.streaming_since: float | None = None
        self._status = status
        self._inbox = inbox
        self._tally = tally
        self._clock = clock
        self._payloads: list[bytes] = []
        self._accepted: list[str] = []
        now = clock.monotonic()
        self._frame_at = now  # when the last whole frame was complete
        self._pong_at = now
        self._partial_since: float | None = None
        self._ping_at = now + self._ping_pause()

    def subscribe(self) -> None:
        self._send(self.subscriptions.first_request(self._clock.monotonic()))

    def receive(self) -> Ended | None:
        """Take what is there, waiting a tick at most; returns after handing it over."""
        self.stream.expire_in(timeouts.FEED_RECEIVE_TICK_SECONDS)
        try:
            ended = self._receive_batch()
        except websocket.WebSocketTimeoutException:
            if self._partial_since is None and has_partial_frame(self.client):
                self._partial_since = self._clock.monotonic()
            ended = None
        self.hand_over()
        return ended

    def _receive_batch(self) -> Ended | None:
        """Whole frames until no more are there, a bound, or a text: what follows an answer must not overtake it."""
        while True:
            opcode, frame = self.client.recv_data_frame(True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return _closed(frame.data)
            if opcode == websocket.ABNF.OPCODE_BINARY:
                self._payloads.append(frame.data)
            if self.stream.drained or opcode == websocket.ABNF.OPCODE_TEXT or len(self._payloads) >= _BATCH_FRAMES_MAX:
                break
        self._partial_since = None
        self._note_frames()
        if opcode == websocket.ABNF.OPCODE_TEXT:
            self.hand_over()
            self._on_text(frame.data)
        return None

    def _note_frames(self) -> None:
        now, status = self._clock.monotonic(), self._status
        self._frame_at = status.last_frame_at = now
        status.last_frame_ms = self._clock.wall_ms()
        if self._payloads:
            status.last_market_at = now

    def hand_over(self) -> None:
        """Give the collected frames to the consumer."""
        if self._payloads:
            self._inbox.put(Frames(self._status.name, self._clock.wall_ms(), self._payloads))
            self._payloads = []

    def take_accepted(self) -> list[str]:
        """The channels accepted since the last call."""
        accepted, self._accepted = self._accepted, []
        return accepted

    def check(self, wait: Callable[[float], object]) -> Ended | None:
        """Send what is due; say whether a deadline has passed. Waits while the consumer is behind."""
        while self._inbox.full:
            if wait(_FULL_WAIT_SECONDS):
                return Ended("stopping")
        now = self._clock.monotonic()
        request = self.subscriptions.due_request(now)
        if request is not None:
            self._send(request)
        if now >= self._ping_at:
            self._ping_at = now + self._ping_pause()
            self._send(_PING)
        return self._deadline_passed(now)

    def lateness(self) -> str:
        """Why the connection counts as stale, empty if it does not."""
        now = self._clock.monotonic()
        if now - self._pong_at >= timeouts.FEED_PONG_WARN_SECONDS:
            return f"no PONG for {timeouts.FEED_PONG_WARN_SECONDS} s"
        if now - self._frame_at >= timeouts.FEED_SILENCE_WARN_SECONDS:
            return f"no frame for {timeouts.FEED_SILENCE_WARN_SECONDS} s"
        return ""

    def close(self) -> None:
        """Say goodbye if that is possible at once, and free the socket."""
        self.stream.expire_in(timeouts.FEED_RECEIVE_TICK_SECONDS)
        self.client.close(timeout=0)
        self.stream.close()

    def _deadline_passed(self, now: float) -> Ended | None:
        if self.subscriptions.overdue(now):
            return Ended(f"no answer to {len(self.subscriptions.missing)} subscriptions")
        if self._partial_since is not None and now - self._partial_since >= timeouts.FEED_PARTIAL_FRAME_SECONDS:
            return Ended("half a frame, then silence")
        if now - self._pong_at >= timeouts.FEED_PONG_RECONNECT_SECONDS:
            return Ended(f"no PONG for {timeouts.FEED_PONG_RECONNECT_SECONDS} s")
        if now - self._frame_at >= timeouts.FEED_SILENCE_RECONNECT_SECONDS:
            return Ended(f"no frame for {timeouts.FEED_SILENCE_RECONNECT_SECONDS} s")
        return None

    def _on_text(self, payload: bytes) -> None:
        now = self._clock.monotonic()
        self._status.text_frames += 1
        message = control.parse(payload)
        if message is not None and message.is_pong:
            self._pong_at = self._status.last_pong_at = now
            self._status.last_pong_ms = self._clock.wall_ms()
            return
        accepted = self.subscriptions.answer(message, now) if message is not None else None
        if accepted is None:
            self._tally.drop("unknown_text", text=payload[:200].decode(errors="replace"))
        else:
            self._accepted += accepted

    def _send(self, text: str) -> None:
        self.stream.expire_in(timeouts.FEED_RECEIVE_TICK_SECONDS)
        self.client.send(text)

    @staticmethod
    def _ping_pause() -> float:
        return timeouts.FEED_PING_SECONDS * random.uniform(1 - _PING_JITTER, 1 + _PING_JITTER)


def _closed(payload: bytes) -> Ended:
    """What the exchange's close frame says: two bytes of code, then words."""
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
    words = payload[2:].decode(errors="replace") or "no reason given"
    return Ended(f"closed by the exchange: {words}"[:200], code)
