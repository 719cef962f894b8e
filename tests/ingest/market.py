"""Frames as the exchange sends them, and a consumer's side without sockets or Redis."""

from __future__ import annotations

from typing import Any

from apps.engine.events import Event
from tests.ingest.frames import Deal as Deal
from tests.ingest.frames import deals_frame as deals_frame
from tests.ingest.frames import quote_frame as quote_frame
from workers.ingest.builder import Builder
from workers.ingest.clock import Clock
from workers.ingest.config import Instrument
from workers.ingest.feed import Feed
from workers.ingest.log import BoundedLog
from workers.ingest.rest import Rest, Unlimited
from workers.ingest.ring import TRADES_MAX, Ring
from workers.ingest.symbols import make_states
from workers.ingest.tally import Tally
from workers.ingest.warmup import Warmup

TOKEN = 5
START_MS = 1_700_000_040_000  # a whole minute
INSTRUMENTS = [Instrument("BTCUSDT", 2, 6), Instrument("XRPUSDT", 4, 2)]


class Bench:
    """One feed over a ring that nobody empties but the test. One shard unless told otherwise."""

    def __init__(
        self,
        *,
        shard_count: int = 1,
        warmup_bars: int = 0,
        rest_url: str = "http://127.0.0.1:9",
        trades_max: int = TRADES_MAX,
    ) -> None:
        self.clock = Clock()
        self.tally = Tally(BoundedLog(self.clock.monotonic))
        self.states = make_states(INSTRUMENTS, shard_count)
        self.ring = Ring(TOKEN, self.clock.monotonic, trades_max=trades_max)
        self.builder = Builder(TOKEN, self.states, self.ring, self.tally, self.clock)
        warmup = Warmup(Rest(rest_url, Unlimited(), self.clock), warmup_bars, self.tally, self.clock)
        pauses = dict.fromkeys(range(shard_count), 0.0)
        self.feed = Feed("feed-0", self.states.values(), self.builder, warmup, self.tally, self.clock, pauses)
        self.feed.opened()

    def accept(self, *symbols: str, initial: bool = True, reason: str = "ingest start", link: int = 1) -> None:
        self.feed.accepted(symbols or tuple(self.states), reason, initial=initial, link=link)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.feed.frame(frame, 1)
            self.feed.poll(self.clock.monotonic())

    def cover(self, send_ms: int = START_MS) -> None:
        """Accept everything and let a first quote begin the coverage; forget the events of that."""
        self.accept()
        self.send(quote_frame("BTCUSDT", "1.00", "2.00", send_ms))
        self.events()

    def events(self, kind: type[Any] | None = None) -> list[Any]:
        """What has come out since the last call."""
        self.builder.flush(everything=True)
        events: list[Event] = []
        while (batch := self.ring.take(0)) is not None:
            events += batch.events
            self.ring.done()
        return [event for event in events if kind is None or isinstance(event, kind)]
