"""The server: one port for WebSocket and REST, and the tick that drives them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

from aiohttp import WSMsgType, web

from workers.exchange.connection import Connection
from workers.exchange.hub import Hub
from workers.exchange.journal import Journal
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.market import MarketSource
from workers.exchange.rest import Rest, error_middleware
from workers.exchange.session import GOING_AWAY, Close, Session


class CannotListenError(Exception):
    """The address cannot be used; the text says which and why."""


class ExchangeServer:
    """A local exchange over one market source. `port` is known after `start`."""

    def __init__(
        self,
        source: MarketSource,
        *,
        speed: float = 1.0,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        log: EventLog | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.log = log or EventLog()
        self.journal = journal or Journal(None, source, lambda: 0)
        self.hub = Hub(source, speed, self.limits, monotonic, self.log, self.journal)
        self.port = 0
        self._monotonic = monotonic
        self._numbers = count(1)
        self._runner: web.AppRunner | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; raises CannotListenError, for instance if the port is taken."""
        app = web.Application(middlewares=[error_middleware(self.log)])
        app.router.add_get("/ws", self._serve_websocket)
        app.router.add_routes(Rest(self.hub).routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=self.limits.close_seconds)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise CannotListenError(f"cannot listen on {host}:{port}: {reason}") from None
        self.port = self._runner.addresses[0][1]
        self._ticking = asyncio.create_task(self._tick_forever())

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; an error of the tick ends the server and is raised."""
        assert self._ticking is not None
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((stopped, self._ticking), return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            stopped.cancel()
            await self._ticking

    async def stop(self) -> None:
        """Close every connection and the port."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait((self._ticking,))
        connections = list(self.hub.connections)
        for connection in connections:
            connection.close(Close(GOING_AWAY, "the exchange stops"))
        await asyncio.gather(*(connection.wait_closed() for connection in connections))
        if self._runner is not None:
            await self._runner.cleanup()
        self.journal.close()

    async def _tick_forever(self) -> None:
        due = self._monotonic()
        while True:
            await self.hub.tick()
            now = self._monotonic()
            due = max(due + self.limits.tick_seconds, now)  # a late tick is not made up for: the next covers its time
            await asyncio.sleep(due - now)

    async def _serve_websocket(self, request: web.Request) -> web.StreamResponse:
        if len(self.hub.connections) >= self.limits.connections_max:
            raise web.HTTPServiceUnavailable
        response = web.WebSocketResponse(
            compress=False, max_msg_size=self.limits.control_message_bytes_max, timeout=self.limits.close_seconds
        )
        await response.prepare(request)
        transport = request.transport
        if transport is None:  # gone during the handshake
            return response
        session = Session(self.limits, self.hub.source.instruments, self._monotonic())
        connection = Connection(
            next(self._numbers), response, transport, session, self.limits, self._monotonic, self.log
        )
        self.hub.connections.add(connection)
        self.log.event("connection_opened", connection=connection.number, peer=request.remote)
        self.journal.event("opened", c=connection.number)
        try:
            await self._read(connection, response)
        finally:
            self.hub.connections.discard(connection)
            await connection.wait_closed()
            code = response.close_code
            self.log.event("connection_closed", connection=connection.number, code=code)
            self.journal.event("closed", c=connection.number, code=code, reason=connection.end_reason)
        return response

    async def _read(self, connection: Connection, response: web.WebSocketResponse) -> None:
        async for message in response:
            # Binary control messages do not exist; an empty text is answered as malformed.
            text = message.data if message.type is WSMsgType.TEXT else ""
            self.hub.perform(connection, connection.session.on_text(text, self._monotonic()))


@asynccontextmanager
async def running(server: ExchangeServer, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[ExchangeServer]:
    """The server, listening inside the block."""
    await server.start(host, port)
    try:
        yield server
    finally:
        await server.stop()
