"""The server: one port for WebSocket and REST, and the tick that drives them."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from workers.exchange.channels import parse_channel, parse_private_channel
from workers.exchange.connection import Connection
from workers.exchange.faults.commands import BadCommandError
from workers.exchange.faults.desk import FaultDesk
from workers.exchange.faults.rest import budget_middleware, control, fault_middleware, upgrade_fault
from workers.exchange.faults.rules import FaultyAnswers, ServerRules
from workers.exchange.faults.script import Cue, Script
from workers.exchange.hub import Hub
from workers.exchange.journal import Journal
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.market import MarketSource
from workers.exchange.private.accounts import Account
from workers.exchange.private.office import Office
from workers.exchange.rest import Rest, error_middleware
from workers.exchange.rest_budget import RestBudget
from workers.exchange.session import GOING_AWAY, Close, Session

INVALID_LISTEN_KEY = "Invalid listen key"  # bare text, no JSON


class CannotListenError(Exception):
    """The address cannot be used; the text says which and why."""


class ExchangeServer:
    """A local exchange over one market source. `port` is known after `start`. `rate` is that of the limits' clock."""

    def __init__(
        self,
        source: MarketSource,
        *,
        speed: float = 1.0,
        rate: float = 1.0,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        log: EventLog | None = None,
        journal: Journal | None = None,
        script: Sequence[Cue] = (),
        fault_seed: int = 0,
        tls: ssl.SSLContext | None = None,
        accounts: Sequence[Account] = (),
        first_id: int = 0,
    ) -> None:
        self.limits = limits or Limits().at_rate(rate)
        self.log = log or EventLog()
        self.journal = journal or Journal(None, source, lambda: 0)
        self.rules = ServerRules(monotonic, self._note)
        self.hub = Hub(source, speed, self.limits, monotonic, self.log, self.journal, self.rules)
        self.office = Office(accounts, self.hub, self.limits, monotonic, rate, first_id)
        self.desk = FaultDesk(self.hub, self.rules, random.Random(fault_seed), monotonic, self.office)
        self.port = 0
        self._script = Script(list(script)) if script else None
        self._budget = RestBudget(self.limits, rate, monotonic)
        self._tls = tls
        self._monotonic = monotonic
        self._started_at = monotonic()
        self._opened = 0
        self._runner: web.AppRunner | None = None
        self._ticking: asyncio.Task[None] | None = None

    def _note(self, do: str, **values: object) -> None:
        """A fault has struck."""
        self.journal.event("fault", do=do, t=self.hub.reached_ms, **values)
        self.log.event("fault", do=do, **values)

    async def start(self, host: str, port: int) -> None:
        """Listen; raises CannotListenError, for instance if the port is taken."""
        middlewares = [error_middleware(self.log), fault_middleware(self.rules), budget_middleware(self._budget)]
        app = web.Application(middlewares=middlewares)
        app.router.add_get("/ws", self._serve_websocket)
        app.router.add_routes(Rest(self.hub, self._budget, self.office.amend).routes())
        app.router.add_routes(self.office.routes())
        app.router.add_post("/exchange/control", control(self.desk, self.journal.flush))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=self.limits.close_seconds)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise CannotListenError(f"cannot listen on {host}:{port}: {reason}") from None
        self.port = self._runner.addresses[0][1]
        self._started_at = self._monotonic()
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
            self._play_script()
            await self.hub.tick()
            now = self._monotonic()
            due = max(due + self.limits.tick_seconds, now)  # a late tick is not made up for: the next covers its time
            await asyncio.sleep(due - now)

    def _play_script(self) -> None:
        if self._script is None:
            return
        event_s = (self.hub.reached_ms - self.hub.clock.start_ms) / 1_000
        for command in self._script.due(self._monotonic() - self._started_at, event_s, self._opened):
            try:
                self.desk.apply(command)
            except BadCommandError as error:
                self.log.event("command_failed", do=command.do, error=str(error))

    async def _serve_websocket(self, request: web.Request) -> web.StreamResponse:
        if len(self.hub.connections) >= self.limits.connections_max:
            raise web.HTTPServiceUnavailable
        instead = await upgrade_fault(self.rules) if self.rules.upgrades else None
        if instead is not None:
            return instead
        response = web.WebSocketResponse(
            compress=False, max_msg_size=self.limits.control_message_bytes_max, timeout=self.limits.close_seconds
        )
        await response.prepare(request)
        transport = request.transport
        if transport is None:  # gone during the handshake
            return response
        listen_key = request.query.get("listenKey")
        if listen_key is not None and not self.office.admit(listen_key):
            await response.send_str(INVALID_LISTEN_KEY)
            await response.close()
            return response
        self._opened = number = self._opened + 1
        now, answers = self._monotonic(), FaultyAnswers(self.rules, number)
        parse = parse_channel if listen_key is None else parse_private_channel
        session = Session(self.limits, self.hub.listed, now, answers, parse)
        connection = Connection(number, response, transport, session, self.limits, self._monotonic, self.log)
        self.hub.connections.add(connection)
        if listen_key is not None:
            self.office.opened(connection, listen_key)
        self.log.event("connection_opened", connection=number, peer=request.remote)
        self.journal.event("opened", c=number)
        try:
            await self._read(connection, response)
        finally:
            self.hub.connections.discard(connection)
            self.office.closed(connection)
            await connection.wait_closed()
            code = response.close_code
            self.log.event("connection_closed", connection=number, code=code)
            self.journal.event("closed", c=number, code=code, reason=connection.end_reason)
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
