"""All connections and the tick that feeds them: event time moves on, everyone gets what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from workers.exchange.channels import Channel
from workers.exchange.connection import Connection
from workers.exchange.event_clock import EventClock
from workers.exchange.frames import FrameEncoder
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.market import MarketSource, Moves
from workers.exchange.session import Action, Close, Dropped, Opened, Reply


class Hub:
    """Owns the feed and the event clock; only `tick` moves them."""

    def __init__(
        self, source: MarketSource, speed: float, limits: Limits, monotonic: Callable[[], float], log: EventLog
    ) -> None:
        self.source = source
        self.clock = EventClock(source.start_ms, source.end_ms, speed, monotonic)
        self.feed = source.feed()
        self.reached_ms = source.start_ms - 1  # everything up to here has been sent
        self.connections: set[Connection] = set()
        self._limits = limits
        self._monotonic = monotonic
        self._log = log
        self._encoders: dict[str, FrameEncoder] = {}
        self._first_subscription_at: float | None = None

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

    def _open(self, connection: Connection, channel: Channel) -> None:
        connection.open_channel(channel)
        if self._first_subscription_at is None:
            self._first_subscription_at = self._monotonic()
        if channel.kind == "bookTicker":
            # It says where the clock stands: the frames of the next tick continue from there.
            send_ms = max(self.reached_ms, self.clock.start_ms)
            quote, encoder = self.feed.quote(channel.symbol), self._encoder(channel)
            connection.send_frames(encoder.no_quote(send_ms) if quote is None else encoder.quote(quote, send_ms))
        self._start_if_due()

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
            self._log.event("event_time_started", start_ms=self.clock.start_ms, symbols=len(covered))

    async def tick(self) -> None:
        """Check every connection's deadlines, then send what has happened up to now."""
        for connection in list(self.connections):
            connection.check_time()
        self._start_if_due()
        if not self.clock.started:
            return
        until_ms = self.clock.now_ms()
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
        frames: dict[str, bytes] = {}
        for connection in list(self.connections):
            pieces = []
            for channel in connection.channels:
                piece = frames.get(channel.text)
                if piece is None:
                    piece = frames[channel.text] = self._frames(channel, moves, step_ms)
                pieces.append(piece)
            connection.send_frames(b"".join(pieces))

    def _frames(self, channel: Channel, moves: Mapping[str, Moves], step_ms: int) -> bytes:
        move, encoder = moves[channel.symbol], self._encoder(channel)
        if channel.kind == "deals":
            return encoder.deals(move.prints, step_ms)
        if move.quotes:
            return encoder.quotes(move.quotes)
        quote = self.feed.quote(channel.symbol)
        return b"" if quote is None else encoder.quote(quote, step_ms)

    def _encoder(self, channel: Channel) -> FrameEncoder:
        encoder = self._encoders.get(channel.text)
        if encoder is None:
            spec = self.source.instruments[channel.symbol]
            encoder = FrameEncoder(channel, spec, self._limits.trades_per_frame_max)
            self._encoders[channel.text] = encoder
        return encoder
