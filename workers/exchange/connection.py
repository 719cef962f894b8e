"""One client's WebSocket: its session, its transport, and the rule for slow readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from workers.exchange.channels import Channel
from workers.exchange.frames import TEXT_FRAME, websocket_frame
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.session import POLICY_VIOLATION, Close, Session


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
        self._response = response
        self._limits = limits
        self._monotonic = monotonic
        self._log = log
        self._closing: asyncio.Task[None] | None = None
        self.end_reason = "the client went"  # until this side closes

    @property
    def open(self) -> bool:
        return self._closing is None and not self._response.closed and not self.transport.is_closing()

    @property
    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def open_channel(self, channel: Channel) -> None:
        self.channels.append(channel)
        self.channels.sort()

    def drop_channel(self, channel: Channel) -> None:
        self.channels.remove(channel)

    def send_text(self, text: str) -> None:
        """Send one control answer."""
        self.send_frames(websocket_frame(TEXT_FRAME, text.encode()))

    def send_frames(self, frames: bytes) -> None:
        """Send whole frames; a client whose unsent bytes exceed the bound is closed."""
        if not frames or not self.open:
            return
        self.transport.write(frames)
        self.session.on_sent(self._monotonic())
        if self.unsent_bytes > self._limits.send_buffer_bytes_max:
            self.close(Close(POLICY_VIOLATION, f"slow reader, {self.unsent_bytes} bytes unsent"))

    def check_time(self) -> None:
        """Close if one of the session's deadlines has passed."""
        due = self.session.on_time(self._monotonic())
        if due is not None:
            self.close(due)

    def close(self, close: Close) -> None:
        """Begin to close; a second call changes nothing."""
        if self._closing is None:
            self._log.event("connection_closing", connection=self.number, code=close.code, reason=close.reason)
            self.end_reason = close.reason
            self._closing = asyncio.get_running_loop().create_task(self._close(close))

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
            self.transport.abort()
