"""One connection to the exchange: a thread that receives, answers for its own health, and hands frames over.

It never decodes market data. Every wait ends after a second of the clock at the latest, also inside a half frame.
"""

from __future__ import annotations

import random
import socket
import threading
from typing import Final

import websocket

from workers.ingest import log
from workers.ingest.backoff import Backoff
from workers.ingest.channels import DEALS_PREFIX, channels_of
from workers.ingest.clock import Clock
from workers.ingest.inbox import Accepted, Closed, Inbox, Opened
from workers.ingest.link import Ended, Link
from workers.ingest.status import ConnectionStatus, State
from workers.ingest.subscriptions import Subscriptions, refused_retry_seconds
from workers.ingest.tally import Tally
from workers.ingest.transport import connect

_REASON_LENGTH_MAX: Final = 200


class Connection(threading.Thread):
    """Keeps one set of symbols subscribed until `stop`."""

    def __init__(
        self,
        name: str,
        symbols: tuple[str, ...],
        url: str,
        inbox: Inbox,
        tally: Tally,
        clock: Clock,
        dice: random.Random,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.status = ConnectionStatus(name, symbols, since_ms=clock.wall_ms())
        self._url = url
        self._inbox = inbox
        self._tally = tally
        self._clock = clock
        self._dice = dice
        self._backoff = Backoff(dice)
        self._stopping = threading.Event()
        self._link: Link | None = None
        self._blocked_times = 0
        self._why = "ingest start"

    def stop(self) -> None:
        """Ask the thread to end; it does within a second of the clock."""
        self._stopping.set()
        link = self._link
        if link is not None:
            link.stream.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        while not self._stopping.is_set():
            self._enter(State.CONNECTING, self._why)
            ended = self._session()
            if self._stopping.is_set():
                self._enter(State.CLOSED, "stopping")
                return
            self._pause(ended)

    def _session(self) -> Ended:
        """One attempt, from connecting to whatever ended it."""
        opened_at = self._clock.monotonic()
        try:
            client, stream = connect(self._url, self._clock)
        except (OSError, websocket.WebSocketException, ValueError) as error:
            return Ended(_words("connect", error))
        self.status.opens += 1
        subscriptions = Subscriptions(channels_of(self.status.symbols), self._dice)
        link = Link(client, stream, subscriptions, self.status, self._inbox, self._tally, self._clock)
        self._link = link
        self._inbox.put(Opened(self.name))
        try:
            self._enter(State.SUBSCRIBING, "")
            ended = self._stream(link)
        except (OSError, websocket.WebSocketException) as error:
            ended = Ended("stopping" if self._stopping.is_set() else _words("connection lost", error))
        finally:
            self._link = None
            link.hand_over()
            self._inbox.put(Closed(self.name))
            link.close()
        self._note_close(link, ended, opened_at)
        return ended

    def _stream(self, link: Link) -> Ended:
        """Receive until something ends it. May raise what the socket raises."""
        link.subscribe()
        while not self._stopping.is_set():
            ended = link.receive() or link.check(self._stopping.wait) or self._follow(link)
            if ended is not None:
                return ended
        return Ended("stopping")

    def _follow(self, link: Link) -> Ended | None:
        """Bring the state up to what the channels and the clock say; announce newly accepted symbols."""
        subscriptions, accepted = link.subscriptions, link.take_accepted()
        self.status.accepted = len(subscriptions.accepted)
        self.status.refused = dict(subscriptions.refused)
        if subscriptions.blocked:
            return Ended(f"blocked: {next(iter(subscriptions.refused.values()), '')}", blocked=True)
        if not subscriptions.complete:
            return None
        if self.status.state is State.SUBSCRIBING:
            symbols = tuple(name.removeprefix(DEALS_PREFIX) for name in subscriptions.accepted if _is_deals(name))
            self._inbox.put(Accepted(self.name, symbols, True, self._why))
            self._blocked_times = 0
            link.streaming_since = self._clock.monotonic()
            self._enter(
                State.STREAMING, f"{len(subscriptions.refused)} channels refused" if subscriptions.refused else ""
            )
        elif any(map(_is_deals, accepted)):
            symbols = tuple(name.removeprefix(DEALS_PREFIX) for name in accepted if _is_deals(name))
            self._inbox.put(Accepted(self.name, symbols, False, "accepted late"))
        late = link.lateness()
        if late and self.status.state is State.STREAMING:
            self._enter(State.STALE, late)
        elif not late and self.status.state is State.STALE:
            self._enter(State.STREAMING, "frames again")
        return None

    def _pause(self, ended: Ended) -> None:
        if ended.blocked:
            seconds = refused_retry_seconds(self._blocked_times, self._dice)
            self._blocked_times += 1
            self._enter(State.BLOCKED, ended.reason)
        else:
            seconds = self._backoff.next_seconds(ended.stable_seconds)
            self._enter(State.CLOSED, ended.reason)
        self._stopping.wait(self._clock.machine_seconds(seconds))

    def _enter(self, state: State, reason: str) -> None:
        status = self.status
        before, now_ms = status.state, self._clock.wall_ms()
        log.event(
            "connection",
            connection=status.name,
            before=before,
            state=state,
            reason=reason,
            after_ms=now_ms - status.since_ms,
            accepted=status.accepted,
            refused=len(status.refused),
        )
        status.reason, status.since_ms = reason, now_ms
        status.state = state
        status.transitions[state] += 1

    def _note_close(self, link: Link, ended: Ended, opened_at: float) -> None:
        now = self._clock.monotonic()
        if link.streaming_since is not None:
            ended.stable_seconds = now - link.streaming_since
            self._why = f"reconnect: {ended.reason}"  # until it streams again, this is why it had to begin anew
        facts: dict[str, object] = {
            "reason": ended.reason,
            "code": ended.code,
            "age_s": round(now - opened_at, 1),
            "last_frame_age_s": _age(now, self.status.last_frame_at),
            "last_pong_age_s": _age(now, self.status.last_pong_at),
            "bytes_in": link.stream.bytes_in,
            "subscriptions": len(link.subscriptions.accepted),
        }
        self.status.last_close = facts
        self.status.bytes_in += link.stream.bytes_in
        self.status.accepted = 0
        log.event("connection_closed", connection=self.name, facts=facts)


def _is_deals(channel: str) -> bool:
    return channel.startswith(DEALS_PREFIX)


def _age(now: float, at: float | None) -> float | None:
    return None if at is None else round(now - at, 1)


def _words(what: str, error: Exception) -> str:
    """One short line; a refused handshake would otherwise quote whole headers."""
    status = getattr(error, "status_code", None)
    detail = f"HTTP status {status}" if status is not None else str(error) or type(error).__name__
    return f"{what}: {detail}"[:_REASON_LENGTH_MAX]
