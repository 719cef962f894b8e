"""One open WebSocket: receiving, pinging, and the deadlines that say it is dead."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import websocket

from apps.bus.failpoints import failpoint
from apps.engine import timeouts
from workers.ingest import control
from workers.ingest.channels import channels_of, deals_symbols
from workers.ingest.clock import Clock
from workers.ingest.inbox import Accepted, Frames, Inbox, Refused
from workers.ingest.status import Category, Vitals
from workers.ingest.subscriptions import News, Subscriptions
from workers.ingest.tally import Tally
from workers.ingest.transitions import Closing
from workers.ingest.transport import BufferedSocket, has_partial_frame

_PING: Final = json.dumps({"method": "PING"}, separators=(",", ":"))
_PING_JITTER: Final = 0.1
_BATCH_FRAMES_MAX: Final = 256
_FULL_WAIT_SECONDS: Final = 0.01
_ENOUGH_SECONDS: Final = 0.05  # no wait is shorter
_LIFETIME_NEARLY_SECONDS: Final = timeouts.EXCHANGE_LIFETIME_SECONDS * 0.98
_REASON_LENGTH_MAX: Final = 200
_PROTOCOL_ERRORS: Final = (
    websocket.WebSocketProtocolException,
    websocket.WebSocketPayloadException,
    UnicodeDecodeError,
)


@dataclass(slots=True)
class Ended:
    """Why a link ended, and who ended it: us, the exchange or the network. `code` is the exchange's close code."""

    category: Category
    reason: str
    closed_by: str = "us"
    code: int | None = None
    stable_seconds: float = 0.0
    retry_seconds: float = 0.0  # the exchange asked to be left alone for so long
    closing: Closing | None = None


STOPPED: Final = Ended(Category.STOPPED, "stopping")


class Link:
    """Used by one thread at a time, except for `stream.shutdown`. `number` tells it from the connection's others."""

    def __init__(
        self,
        name: str,
        number: int,
        client: websocket.WebSocket,
        stream: BufferedSocket,
        subscriptions: Subscriptions,
        inbox: Inbox,
        tally: Tally,
        clock: Clock,
    ) -> None:
        self.name = name
        self.number = number
        self.stream = stream
        self.subscriptions = subscriptions
        self.vitals = Vitals(opened_ms=clock.wall_ms())
        self.opened_at = now = clock.monotonic()
        self.streaming_since: float | None = None
        self._client = client
        self._inbox = inbox
        self._tally = tally
        self._clock = clock
        self._payloads: list[bytes] = []
        self._news: list[News] = []
        self._announced = False
        self._frame_at = now  # when the last whole frame was complete
        self._pong_at = now
        self._partial_since: float | None = None
        self._ping_at = now + self._ping_pause()

    @property
    def age_seconds(self) -> float:
        return self._clock.monotonic() - self.opened_at

    def subscribe(self) -> None:
        self._send(self.subscriptions.first_request(self._clock.monotonic()))

    def change(self, *, leave: Sequence[str], join: Sequence[str]) -> None:
        """Give up the channels of some symbols and ask for those of others, on the open socket."""
        now = self._clock.monotonic()
        for text in self.subscriptions.change(leave=channels_of(leave), join=channels_of(join), now=now):
            self._send(text)

    def subscribe_again(self, symbols: Sequence[str]) -> None:
        """Ask for channels once more that were accepted and are silent."""
        text = self.subscriptions.again(channels_of(symbols))
        if text is not None:
            self._send(text)

    def receive(self) -> Ended | None:
        """Take what is there, waiting a tick at most; returns after handing it over."""
        began_at = self._clock.monotonic()
        self.stream.expire_in(self._tick_seconds(began_at))
        try:
            ended = self._receive_batch()
        except websocket.WebSocketTimeoutException:
            if self._partial_since is None and has_partial_frame(self._client):
                self._partial_since = began_at  # the earliest it can have been
            ended = None
        self.hand_over()
        return ended

    def _tick_seconds(self, now: float) -> float:
        """How long to wait for data: a tick, or until half a frame has waited long enough."""
        tick = timeouts.FEED_RECEIVE_TICK_SECONDS
        if self._partial_since is None:
            return tick
        left = self._partial_since + timeouts.FEED_PARTIAL_FRAME_SECONDS - now
        return min(tick, max(left, 0.0) + _ENOUGH_SECONDS)

    def _receive_batch(self) -> Ended | None:
        """Whole frames until no more are there, a bound, or a text: what follows an answer must not overtake it."""
        while True:
            if not has_partial_frame(self._client):
                self._payloads += self.stream.take_binary(_BATCH_FRAMES_MAX - len(self._payloads))
                if self._payloads and (self.stream.drained or len(self._payloads) >= _BATCH_FRAMES_MAX):
                    opcode = websocket.ABNF.OPCODE_BINARY
                    break
            opcode, frame = self._client.recv_data_frame(True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return self._closed(frame.data)
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
        now, vitals = self._clock.monotonic(), self.vitals
        self._frame_at = vitals.last_frame_at = now
        vitals.last_frame_ms = self._clock.wall_ms()
        if self._payloads:
            vitals.last_market_at = now

    def hand_over(self) -> None:
        """Give the collected frames to the consumer."""
        if self._payloads:
            failpoint("ingest.recv")
            self._inbox.put(Frames(self.name, self._clock.wall_ms(), self._payloads, self.number))
            self._payloads = []

    def announce(self, why: str) -> None:
        """Tell the consumer whose trades come from now on and whose do not, once every channel was answered."""
        if not self.subscriptions.settled:
            return
        news, self._news = self._news, []
        initial, self._announced = not self._announced, True
        accepted = [channel for each in news for channel in each.accepted]
        symbols = deals_symbols([name for name in accepted if name in self.subscriptions.accepted])
        if symbols or initial:
            self._inbox.put(Accepted(self.name, symbols, initial, why if initial else "accepted late", self.number))
        refused = {name: words for each in news for name, words in each.refused.items()}
        gone = deals_symbols([name for name in refused if name in self.subscriptions.refused])
        if gone:
            self._inbox.put(Refused(self.name, gone, f"refused: {next(iter(refused.values()))}", self.number))

    def check(self, wait: Callable[[float], object]) -> Ended | None:
        """Send what is due; say whether a deadline has passed. Waits while the consumer is behind."""
        while self._inbox.full:
            if wait(_FULL_WAIT_SECONDS):
                return STOPPED
        now = self._clock.monotonic()
        request = self.subscriptions.due_request(now)
        if request is not None:
            self._send(request)
        hopeless = self.subscriptions.give_up(now)
        if hopeless is not None:
            self._news.append(hopeless)
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

    def end(self, ended: Ended) -> Ended:
        """Free the socket, with a goodbye if that is possible at once; adds to `ended` how it stood."""
        self.hand_over()
        now, vitals = self._clock.monotonic(), self.vitals
        closing = Closing(
            ended.closed_by,
            ended.code,
            round((now - self.opened_at) * 1000),
            _age_ms(now, vitals.last_frame_at),
            _age_ms(now, vitals.last_pong_at),
            self.stream.bytes_in,
            len(self.subscriptions.accepted),
        )
        self.stream.expire_in(timeouts.FEED_RECEIVE_TICK_SECONDS)
        self._client.close(timeout=0)
        self.stream.close()
        stable = 0.0 if self.streaming_since is None else now - self.streaming_since
        return replace(ended, stable_seconds=stable, closing=closing)

    def _deadline_passed(self, now: float) -> Ended | None:
        if self.subscriptions.overdue(now):
            return Ended(Category.NO_ACK, f"no answer to {len(self.subscriptions.missing)} subscriptions")
        if self._partial_since is not None and now - self._partial_since >= timeouts.FEED_PARTIAL_FRAME_SECONDS:
            return Ended(Category.PARTIAL_FRAME, "half a frame, then silence")
        if now - self._pong_at >= timeouts.FEED_PONG_RECONNECT_SECONDS:
            return Ended(Category.NO_PONG, f"no PONG for {timeouts.FEED_PONG_RECONNECT_SECONDS} s")
        if now - self._frame_at >= timeouts.FEED_SILENCE_RECONNECT_SECONDS:
            return Ended(Category.NO_FRAME, f"no frame for {timeouts.FEED_SILENCE_RECONNECT_SECONDS} s")
        return None

    def _on_text(self, payload: bytes) -> None:
        now = self._clock.monotonic()
        self._tally.text()
        message = control.parse(payload)
        if message is not None and message.is_pong:
            self._pong_at = self.vitals.last_pong_at = now
            self.vitals.last_pong_ms = self._clock.wall_ms()
            return
        news = self.subscriptions.answer(message, now) if message is not None else None
        if news is None:
            self._tally.drop("unknown_text", text=payload[:200].decode(errors="replace"))
        else:
            self._news.append(news)

    def _closed(self, payload: bytes) -> Ended:
        """What the exchange's close frame says: two bytes of code, then words."""
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
        words = payload[2:].decode(errors="replace") or "no reason given"
        old = self.age_seconds >= _LIFETIME_NEARLY_SECONDS
        category = Category.LIFETIME if old else Category.CLOSED_BY_EXCHANGE
        return Ended(category, f"closed by the exchange: {words}"[:_REASON_LENGTH_MAX], "exchange", code)

    def _send(self, text: str) -> None:
        self.stream.expire_in(timeouts.FEED_RECEIVE_TICK_SECONDS)
        self._client.send(text)

    @staticmethod
    def _ping_pause() -> float:
        return timeouts.FEED_PING_SECONDS * random.uniform(1 - _PING_JITTER, 1 + _PING_JITTER)


def lost(error: Exception) -> Ended:
    """The link broke while it was in use."""
    if isinstance(error, _PROTOCOL_ERRORS):
        return Ended(Category.PROTOCOL_ERROR, words("connection lost", error))
    return Ended(Category.NETWORK_ERROR, words("connection lost", error), "network")


def not_opened(error: Exception) -> Ended:
    """No link came about."""
    by = "exchange" if isinstance(error, websocket.WebSocketBadStatusException) else "network"
    return Ended(Category.HANDSHAKE_FAILED, words("connect", error), by, retry_seconds=_retry_after(error))


def _retry_after(error: Exception) -> float:
    """Seconds that the answer to a handshake asks for; 0 if it does not, never more than a refusal is left alone."""
    headers = getattr(error, "resp_headers", None) or {}
    text = str(headers.get("retry-after", ""))
    return min(float(text), timeouts.FEED_REFUSED_RETRY_MAX_SECONDS) if text.isdecimal() else 0.0


def words(what: str, error: Exception) -> str:
    """One short line; a refused handshake would otherwise quote whole headers."""
    status = getattr(error, "status_code", None)
    detail = f"HTTP status {status}" if status is not None else str(error) or type(error).__name__
    return f"{what}: {detail}"[:_REASON_LENGTH_MAX]


def _age_ms(now: float, at: float | None) -> int | None:
    return None if at is None else round((now - at) * 1000)
