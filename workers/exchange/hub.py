"""All connections and the tick that feeds them: event time moves on, everyone gets what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from workers.exchange.channels import Channel
from workers.exchange.connection import Connection
from workers.exchange.event_clock import EventClock
from workers.exchange.faults.rules import ServerRules
from workers.exchange.frames import FrameEncoder
from workers.exchange.journal import Journal, spans_of
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.market import MarketSource, Moves, TimedQuote
from workers.exchange.rounds import Parcel, Round
from workers.exchange.session import Action, Close, Dropped, Later, Opened, Reply


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
        rules: ServerRules,
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
        self.listed = dict(source.instruments)
        self.rules = rules
        self._places = {symbol: place for place, symbol in enumerate(source.instruments)}
        self._ticks = 0
        self.on_moves: Callable[[Mapping[str, Moves]], None] | None = None  # told of every step
        self.on_tick: Callable[[], None] | None = None  # asked to send at the end of every tick

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
                case Later(text, seconds):
                    asyncio.get_running_loop().call_later(seconds, connection.send_text, text)
                case Opened(channel):
                    self._open(connection, channel)
                case Dropped(channel):
                    connection.drop_channel(channel)
                case Close():
                    connection.close(action)
        self._start_if_due()

    def _open(self, connection: Connection, channel: Channel) -> None:
        connection.open_channel(channel)
        if channel.kind == "private":
            return
        if self._first_subscription_at is None:
            self._first_subscription_at = self._monotonic()
        if channel.kind == "bookTicker":
            # It says where the clock stands: the frames of the next tick continue from there.
            send_ms = max(self.reached_ms, self.clock.start_ms)
            quote, encoder = self.feed.quote(channel.symbol), self.encoder(channel)
            frame = encoder.no_quote(send_ms) if quote is None else encoder.quote(quote, send_ms)
            if connection.faults is not None:
                connection.faults.deliver([Parcel(channel, frame, send_ms, (), ())], send_ms)
            else:
                connection.write(frame)

    def _start_if_due(self) -> None:
        """Event time starts when every symbol's trades are subscribed, or when the grace for that is over."""
        if self.clock.started or self._first_subscription_at is None:
            return
        channels = [channel for connection in self.connections for channel in connection.channels]
        covered = {channel.symbol for channel in channels if channel.kind == "deals"}
        waited = self._monotonic() - self._first_subscription_at
        complete = len(covered) == len(self.listed)
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
        if self.on_tick is not None:
            self.on_tick()
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
        if len(self.listed) != len(self.source.instruments):
            moves = {symbol: move for symbol, move in moves.items() if symbol in self.listed}
        self.reached_ms = step_ms
        numbers = self._number(moves)
        self.journal.event("time", t=step_ms)
        if self.on_moves is not None:
            self.on_moves(moves)
        if self.rules.swallows:
            moves = self._swallowed(moves, numbers)
        out = Round(step_ms, moves, numbers, self.encoder, self._repeated_quote)
        for connection in list(self.connections):
            if connection.faults is None:
                self._deliver(connection, out)
            else:
                size = self._limits.trades_per_frame_max
                parcels = [parcel for channel in connection.channels for parcel in out.parcels(channel, size)]
                connection.faults.deliver(parcels, step_ms)

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

    def _swallowed(self, moves: Mapping[str, Moves], numbers: dict[str, Sequence[int]]) -> Mapping[str, Moves]:
        """The step without the trades that nobody is to be sent."""
        left = dict(moves)
        for symbol in set(self.rules.swallows) & set(numbers):
            rule, move = self.rules.swallows[symbol], left[symbol]
            count = min(rule.trades, len(move.prints))
            gone, lost = move.prints[:count], numbers[symbol][:count]
            self.rules.note("swallow", s=symbol, lost=spans_of(lost), rest=rule.told_by_rest)
            if not rule.told_by_rest:
                self.rules.untold.setdefault(symbol, set()).update(row.trade_id for row in gone)
            left[symbol] = Moves(move.prints[count:], move.quotes)
            numbers[symbol] = numbers[symbol][count:]
            rule.trades -= count
            if not rule.trades:
                del self.rules.swallows[symbol]
        return left

    def _deliver(self, connection: Connection, out: Round) -> None:
        if not connection.open:
            return
        connection.write(b"".join([out.frames(channel) for channel in connection.channels]))
        for channel in connection.channels:
            if channel.kind == "deals" and channel.symbol in out.spans:
                connection.recent.append(out.whole(channel))
                self.journal.sent(connection.number, channel.symbol, out.spans[channel.symbol])

    def _repeated_quote(self, channel: Channel) -> TimedQuote | None:
        """The unchanged quote of a symbol whose turn it is to repeat it."""
        every = self._limits.quote_repeat_ticks
        if every > 1 and (self._ticks + self._places.get(channel.symbol, 0)) % every:
            return None
        return self.feed.quote(channel.symbol)

    def encoder(self, channel: Channel) -> FrameEncoder:
        """The channel's frames, written with the clock as it is wrong at the moment."""
        encoder = self._encoders.get(channel.text)
        if encoder is None:
            spec, size = self.source.instruments[channel.symbol], self._limits.trades_per_frame_max
            skew_ms = self.rules.clock_skew_ms
            encoder = FrameEncoder(channel, spec, size, trade_ids=self.source.trade_ids, clock_skew_ms=skew_ms)
            self._encoders[channel.text] = encoder
        return encoder

    def forget_encoders(self) -> None:
        """The clock is wrong in another way from now on."""
        self._encoders.clear()

    def list_symbol(self, symbol: str) -> None:
        """Serve a symbol (again); raises UnknownSymbolError if the source cannot."""
        if symbol not in self.source.instruments:
            self.source.add(symbol)
            self.feed.add(symbol)
            self._places[symbol] = len(self._places)
        self.listed[symbol] = self.source.instruments[symbol]

    def delist_symbol(self, symbol: str) -> None:
        """Know a symbol no more: its channels fall silent, its trades are not made, REST calls it invalid."""
        if self.listed.pop(symbol, None) is None:
            return
        now = self._monotonic()
        for connection in self.connections:
            self.perform(connection, connection.session.forget(symbol, now))
