"""All feeds of the ingest: which there are, what each item from the inbox means for them, what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from apps.bus.orders import Doubt
from apps.bus.streams import shard_of
from apps.engine.events import Loss
from workers.ingest.builder import Builder
from workers.ingest.clock import Clock
from workers.ingest.config import Instrument
from workers.ingest.feed import WATERMARKS_PER_SECOND_MAX, Feed
from workers.ingest.inbox import (
    Accepted,
    Closed,
    Doubted,
    Frames,
    Item,
    Joined,
    Left,
    Opened,
    Refused,
    Repaired,
)
from workers.ingest.recent import IdMemory
from workers.ingest.symbols import SymbolState, make_state
from workers.ingest.tally import Tally
from workers.ingest.warmup import Warmup

MINUTE_MS = 60_000


class Feeds:
    """Belongs to the consumer. `states` holds every symbol that was ever followed: ordinals go on if it comes back.

    `ask_again` is called with a connection and a symbol whose channels are to be subscribed once more.
    """

    def __init__(
        self,
        states: dict[str, SymbolState],
        shard_count: int,
        builder: Builder,
        warmup: Warmup,
        tally: Tally,
        clock: Clock,
        ask_again: Callable[[str, str], None],
        memory: IdMemory | None = None,
    ) -> None:
        self._memory = memory or IdMemory()
        self._states = states
        self._shard_count = shard_count
        self._builder = builder
        self._warmup = warmup
        self._tally = tally
        self._clock = clock
        self._ask_again = ask_again
        self._feeds: dict[str, Feed] = {}
        self._pauses: dict[int, float] = {}

    def take(self, item: Item) -> str | None:
        """Work through one item. Returns the feed it concerned, if it was one of them."""
        match item:
            case Frames(feed=name, ts_init=ts_init, payloads=payloads, link=link):
                if name in self._feeds:
                    self._feeds[name].frames(payloads, ts_init, link)
            case Joined(feed=name, instruments=instruments):
                self._join(name, instruments)
            case Left(feed=name, symbols=symbols):
                self._leave(name, symbols)
            case Doubted(doubts=doubts):
                self._doubt(doubts)
                return None
            case Repaired(events=events):
                for event in events:
                    self._builder.add_event(shard_of(event.symbol, self._shard_count), event)
                return None
            case _:
                self._of_link(item)
        return item.feed if item.feed in self._feeds else None

    def poll(self, names: Iterable[str], now: float) -> None:
        for name in names:
            self._feeds[name].poll(now)

    @property
    def names(self) -> set[str]:
        return set(self._feeds)

    def silent(self, name: str) -> tuple[str, ...]:
        """The silent symbols of a connection; safe to ask from any thread."""
        feed = self._feeds.get(name)
        return feed.watch.silent if feed is not None else ()

    def _of_link(self, item: Opened | Accepted | Refused | Closed) -> None:
        feed = self._feeds.get(item.feed)
        if feed is None:
            return
        match item:
            case Opened(link=link, handover=handover):
                feed.opened(link, handover)
            case Accepted(symbols=symbols, reason=reason, initial=initial, link=link):
                feed.accepted(symbols, reason, initial=initial, link=link)
            case Refused(symbols=symbols, reason=reason, link=link):
                feed.refused(symbols, reason, link)
            case Closed(link=link):
                feed.closed(link)

    def _join(self, name: str, instruments: Sequence[Instrument]) -> None:
        feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = Feed(
                name,
                (),
                self._builder,
                self._warmup,
                self._tally,
                self._clock,
                self._pauses,
                lambda symbol: self._ask_again(name, symbol),
            )
        for instrument in instruments:
            if instrument.symbol not in self._states:
                self._states[instrument.symbol] = make_state(instrument, self._shard_count, self._memory)
        feed.join([self._states[instrument.symbol] for instrument in instruments])
        self._share()

    def _leave(self, name: str, symbols: Sequence[str]) -> None:
        feed = self._feeds.get(name)
        if feed is not None:
            feed.leave(symbols)
            if not feed.states:
                del self._feeds[name]
        self._share()

    def _share(self) -> None:
        """Connections that share a shard share its watermark rate."""
        sharing = Counter(
            shard for feed in self._feeds.values() for shard in {state.shard for state in feed.states.values()}
        )
        self._pauses.clear()
        self._pauses.update({shard: count / WATERMARKS_PER_SECOND_MAX for shard, count in sharing.items()})

    def _doubt(self, doubts: Sequence[Doubt]) -> None:
        """The whole minute counts as lost, whatever of it was received."""
        ts_init = self._clock.wall_ms()
        for doubt in doubts:
            from_ms = doubt.minute * MINUTE_MS
            loss = Loss(self._builder.token, from_ms, from_ms + MINUTE_MS - 1, ts_init, [doubt.symbol], doubt.reason)
            self._builder.add_event(shard_of(doubt.symbol, self._shard_count), loss)
