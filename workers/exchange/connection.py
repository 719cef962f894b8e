"""One client's WebSocket: its session, its transport, and the rule for slow readers."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from workers.exchange.channels import Channel
from workers.exchange.frames import TEXT_FRAME, websocket_frame
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.rounds import Parcel
from workers.exchange.session import POLICY_VIOLATION, Close, Session

if TYPE_CHECKING:
    from workers.exchange.faults.connection import ConnectionFaults

_REMEMBERED_FRAMES: Final = 64  # deals frames that may be sent once more on command


class Connection:
    """Whole frames go straight to the transport, in one call per tick.

    aiohttp's own writer is used for pongs and the close frame only. It writes frames whole and in the same thread, so
    the two never mix inside a frame. Nothing is written once a close has begun.
    """

    def __init__(
        self,
        number: int,
        response: web.WebSocketResponse,
        transport: asyncio.Transport,
        session: Session,
        limits: Limits,
        monotonic: Callable[[], float],
        log: EventLog,
    ) -> None:
        self.number = number
        self.transport = transport
        self.session = session
        self.channels: list[Channel] = []  # in order of sending
        self.private_channels: set[str] = set()
        self._response = response
        self._limits = limits
        self._monotonic = monotonic
        self._log = log
        self._closing: asyncio.Task[None] | None = None
        self.end_reason = "the client went"  # until this side closes
        self.faults: ConnectionFaults | None = None
        self.recent: deque[Parcel] = deque(maxlen=_REMEMBERED_FRAMES)

    @property
    def open(self) -> bool:
        return self._closing is None and not self._response.closed and not self.transport.is_closing()

    @property
    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def open_channel(self, channel: Channel) -> None:
        if channel.kind == "private":
            self.private_channels.add(channel.text)
            return
        self.channels.append(channel)
        self.channels.sort()

    def drop_channel(self, channel: Channel) -> None:
        if channel.kind == "private":
            self.private_channels.discard(channel.text)
        else:
            self.channels.remove(channel)

    def send_text(self, text: str) -> None:
        """Send one control answer."""
        frame = websocket_frame(TEXT_FRAME, text.encode())
        if self.faults is not None:
            self.faults.control(frame)
        else:
            self.write(frame)

    def write(self, frames: bytes) -> None:
        """Send whole frames; a client whose unsent bytes exceed the bound is closed."""
        if not frames or not self.open:
            return
        self.transport.write(frames)
        self.session.on_sent(self._monotonic())
        if self.unsent_bytes > self._limits.send_buffer_bytes_max:
            self.close_slow_reader()

    def close_slow_reader(self) -> None:
        """What happens to a client that does not read what it is sent."""
        self.close(Close(POLICY_VIOLATION, f"slow reader, {self.unsent_bytes} bytes unsent"))

    def check_time(self) -> None:
        """Close if one of the session's deadlines has passed."""
        if self.faults is not None:
            self.faults.check_time()
            if self.faults.over:
                self.faults = None
            elif self.faults.dead:
                return
        due = self.session.on_time(self._monotonic())
        if due is not None:
            self.close(due)

    def close(self, close: Close) -> None:
        """Begin to close; a second call changes nothing."""
        if self._closing is None:
            self._log.event("connection_closing", connection=self.number, code=close.code, reason=close.reason)
            self.end_reason = close.reason
            self._closing = asyncio.get_running_loop().create_task(self._close(close))

    def cut(self, reason: str, *, reset: bool = True) -> None:
        """End without a close frame: with a TCP reset, or with an orderly end of the TCP connection."""
        self.end_reason = reason
        self._log.event("connection_cut", connection=self.number, reason=reason, reset=reset)
        if not reset:
            self.transport.close()
            return
        raw = self.transport.get_extra_info("socket")
        if raw is not None:  # lingering for zero seconds makes the end a reset
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        abort(self.transport)

    async def wait_closed(self) -> None:
        """Wait until a close that has begun is done."""
        if self._closing is not None:
            await self._closing

    async def _close(self, close: Close) -> None:
        """Offer a close frame; a client that does not answer in time is cut off."""
        try:
            async with asyncio.timeout(self._limits.close_seconds):
                await self._response.close(code=close.code, message=close.reason.encode())
        except (TimeoutError, ConnectionError):
            self._log.event("close_unanswered", connection=self.number)
        finally:
            # A transport that is only closing would first wait for its unsent bytes, which nobody may ever read.
            abort(self.transport)


def abort(transport: asyncio.Transport) -> None:
    """End a connection at once. One that is gone already is no error, though TLS in Python 3.11.2 makes it one."""
    with suppress(AttributeError):
        transport.abort()
