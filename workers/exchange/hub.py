"""All connections and the tick that feeds them: event time moves on, everyone gets what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from workers.exchange.channels import Channel
from workers.exchange.connection import Connection
from workers.exchange.event_clock import EventClock
from workers.exchange.frames import FrameEncoder
from workers.exchange.journal import Journal
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.market import MarketSource, Moves, TimedQuote
from workers.exchange.rounds import Round
from workers.exchange.session import Action, Close, Dropped, Opened, Reply


class Hub:
    """Owns the feed and the event clock; only `tick` moves them."""

    def __init__(
        self,
        source: MarketSource,
        speed: float,
        limits: Limits,
        monotonic: Callable[[], float],
        log: EventLog,
        journal: Journal,
    ) -> None:
        self.source = source
        self.clock = EventClock(source.start_ms, source.end_ms, speed, monotonic)
        self.feed = source.feed()
        self.reached_ms = source.start_ms - 1  # everything up to here has been sent
        self.connections: set[Connection] = set()
        self.journal = journal
        self._limits = limits
        self._monotonic = monotonic
        self._log = log
        self._encoders: dict[str, FrameEncoder] = {}
        self._first_subscription_at: float | None = None
        self._made: dict[str, int] = {}  # how many trades a symbol has made
        self._places = {symbol: place for place, symbol in enumerate(source.instruments)}
        self._ticks = 0

    @property
    def finished(self) -> bool:
        """Whether everything the source holds has been sent."""
        end_ms = self.source.end_ms
        return end_ms is not None and self.reached_ms >= end_ms

    def perform(self, connection: Connection, actions: list[Action]) -> None:
        """Carry out what a connection's session asked for, in order."""
        for action in actions:
            match action:
                case Reply(text):
                    connection.send_text(text)
                case Opened(channel):
                    self._open(connection, channel)
                case Dropped(channel):
                    connection.drop_channel(channel)
                case Close():
                    connection.close(action)
        self._start_if_due()

    def _open(self, connection: Connection, channel: Channel) -> None:
        connection.open_channel(channel)
        if self._first_subscription_at is None:
            self._first_subscription_at = self._monotonic()
        if channel.kind == "bookTicker":
            # It says where the clock stands: the frames of the next tick continue from there.
            send_ms = max(self.reached_ms, self.clock.start_ms)
            quote, encoder = self.feed.quote(channel.symbol), self._encoder(channel)
            connection.send_frames(encoder.no_quote(send_ms) if quote is None else encoder.quote(quote, send_ms))

    def _start_if_due(self) -> None:
        """Event time starts when every symbol's trades are subscribed, or when the grace for that is over."""
        if self.clock.started or self._first_subscription_at is None:
            return
        channels = [channel for connection in self.connections for channel in connection.channels]
        covered = {channel.symbol for channel in channels if channel.kind == "deals"}
        waited = self._monotonic() - self._first_subscription_at
        complete = len(covered) == len(self.source.instruments)
        if complete or (channels and waited >= self._limits.start_grace_seconds):
            self.clock.start()
            self.journal.event("event_time", start_ms=self.clock.start_ms, symbols=len(covered))
            self._log.event("event_time_started", start_ms=self.clock.start_ms, symbols=len(covered))

    async def tick(self) -> None:
        """Check every connection's deadlines, then send what has happened up to now."""
        for connection in list(self.connections):
            connection.check_time()
        self._start_if_due()
        if self.clock.started:
            await self._advance(self.clock.now_ms())
        self.journal.flush()

    async def _advance(self, until_ms: int) -> None:
        self._ticks += 1
        while True:
            step_ms = self.feed.step_end(until_ms, self._limits.trades_per_step_max)
            self._step(step_ms)
            if step_ms >= until_ms:
                return
            await self._let_readers_catch_up()

    async def _let_readers_catch_up(self) -> None:
        """At a very high speed one tick holds more than a buffer: wait a little, so that speed alone closes nobody."""
        await asyncio.sleep(0)
        enough = self._limits.send_buffer_bytes_max // 2
        deadline = self._monotonic() + self._limits.drain_seconds

        def behind() -> bool:
            return any(connection.open and connection.unsent_bytes > enough for connection in self.connections)

        # A transport tells its protocol alone about its buffer, so there is no event to wait for.
        while self._monotonic() < deadline and behind():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def _step(self, step_ms: int) -> None:
        moves = self.feed.advance(step_ms)
        self.reached_ms = step_ms
        numbers = self._number(moves)
        self.journal.event("time", t=step_ms)
        out = Round(step_ms, moves, numbers, self._encoder, self._repeated_quote)
        for connection in list(self.connections):
            self._deliver(connection, out)

    def _number(self, moves: Mapping[str, Moves]) -> dict[str, Sequence[int]]:
        """Number and note down the step's trades, symbol by symbol."""
        numbers: dict[str, Sequence[int]] = {}
        for symbol, move in moves.items():
            if move.prints:
                first = self._made.get(symbol, 0) + 1
                self._made[symbol] = first + len(move.prints) - 1
                self.journal.made(symbol, first, move.prints)
                numbers[symbol] = range(first, first + len(move.prints))
        return numbers

    def _deliver(self, connection: Connection, out: Round) -> None:
        if not connection.open:
            return
        connection.send_frames(b"".join([out.frames(channel) for channel in connection.channels]))
        if not self.journal.on:
            return
        for channel in connection.channels:
            if channel.kind == "deals" and channel.symbol in out.spans:
                self.journal.sent(connection.number, channel.symbol, out.spans[channel.symbol])

    def _repeated_quote(self, channel: Channel) -> TimedQuote | None:
        """The unchanged quote of a symbol whose turn it is to repeat it."""
        every = self._limits.quote_repeat_ticks
        if every > 1 and (self._ticks + self._places.get(channel.symbol, 0)) % every:
            return None
        return self.feed.quote(channel.symbol)

    def _encoder(self, channel: Channel) -> FrameEncoder:
        encoder = self._encoders.get(channel.text)
        if encoder is None:
            spec, size = self.source.instruments[channel.symbol], self._limits.trades_per_frame_max
            encoder = FrameEncoder(channel, spec, size, trade_ids=self.source.trade_ids)
            self._encoders[channel.text] = encoder
        return encoder
