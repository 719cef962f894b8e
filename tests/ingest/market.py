"""Frames as the exchange sends them, and a consumer's side without sockets or Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apps.engine.events import Event
from proto.gen.push_pb2 import PushDataV3ApiWrapper
from workers.ingest.builder import Builder
from workers.ingest.channels import deals_channel, quotes_channel
from workers.ingest.clock import Clock
from workers.ingest.config import Instrument
from workers.ingest.feed import Feed
from workers.ingest.log import BoundedLog
from workers.ingest.ring import TRADES_MAX, Ring
from workers.ingest.symbols import make_states
from workers.ingest.tally import Tally
from workers.ingest.warmup import Warmup

TOKEN = 5
START_MS = 1_700_000_040_000  # a whole minute
INSTRUMENTS = [Instrument("BTCUSDT", 2, 6), Instrument("XRPUSDT", 4, 2)]

Deal = tuple[str, str, int, int, str]  # price, quantity, side, time, id


def deals_frame(symbol: str, deals: Sequence[Deal], send_ms: int = 0) -> bytes:
    frame = PushDataV3ApiWrapper(channel=deals_channel(symbol), symbol=symbol)
    if send_ms:
        frame.sendTime = send_ms
    frame.publicAggreDeals.eventType = "spot@public.aggre.deals.v3.api.pb@100ms"
    for price, quantity, side, time_ms, trade_id in deals:
        frame.publicAggreDeals.deals.add(price=price, quantity=quantity, tradeType=side, time=time_ms, tradeId=trade_id)
    return frame.SerializeToString()


def quote_frame(symbol: str, bid: str, ask: str, send_ms: int = 0, sizes: tuple[str, str] = ("1", "1")) -> bytes:
    frame = PushDataV3ApiWrapper(channel=quotes_channel(symbol), symbol=symbol)
    if send_ms:
        frame.sendTime = send_ms
    quote = frame.publicAggreBookTicker
    quote.bidPrice, quote.bidQuantity, quote.askPrice, quote.askQuantity = bid, sizes[0], ask, sizes[1]
    return frame.SerializeToString()


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
        warmup = Warmup(rest_url, warmup_bars, self.tally, self.clock)
        pauses = dict.fromkeys(range(shard_count), 0.0)
        self.feed = Feed("feed-0", self.states.values(), self.builder, warmup, self.tally, self.clock, pauses)

    def accept(self, *symbols: str, initial: bool = True, reason: str = "ingest start") -> None:
        self.feed.accepted(symbols or tuple(self.states), reason, initial=initial)

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
