"""What the ingest remembers of each symbol for as long as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from apps.bus.streams import shard_of
from workers.ingest.config import Instrument
from workers.ingest.recent import IdMemory, RecentIds
from workers.ingest.rotation import Sieve
from workers.ingest.silence import Habit

PLAIN_FRAMES: Final = 64  # frames with rows without id that are known again; one tick holds a few at most

QuoteTexts = tuple[str, str, str, str]  # bid price, bid quantity, ask price, ask quantity, as sent


@dataclass(slots=True, eq=False)
class SymbolState:
    """Belongs to the consumer. The second block is about the present link only."""

    symbol: str
    price_decimals: int
    quantity_decimals: int
    shard: int
    recent: RecentIds
    ordinal: int = 0  # of the last accepted trade
    published_quote: QuoteTexts | None = None
    quote_ms: int = 0  # event time of the last published quote
    plain_ms: int = 0  # greatest event time of a published trade without id
    passed_ms: int = 0  # how far the former link had come when the symbol moved to this one
    plain_frames: RecentIds = field(default_factory=lambda: IdMemory(PLAIN_FRAMES).member())
    warmed: bool = False
    ended: bool = False  # the stream says that it is not covered and will not be soon
    habit: Habit = field(default_factory=Habit)

    holding: bool = True  # frames wait until the coverage of the symbol has begun
    since_ms: int | None = None  # event time from which on every trade arrives
    frame_quote: QuoteTexts | None = None  # of the last quote frame
    sieve: Sieve | None = None  # rows that a former link has published
    seen_at: float = 0.0  # when its last frame came, seconds of the ingest's clock
    seen_ms: int = 0  # when that was sent, event time
    silent_ms: int | None = None  # event time up to which its silence has been looked at; None: it is not silent
    asked_at: float = 0.0  # when its channels were subscribed again for its silence

    def restart(self, now: float) -> None:
        """A new link begins."""
        self.holding = True
        self.since_ms = None
        self.frame_quote = None
        self.sieve = None
        self.seen_at, self.seen_ms = now, 0
        self.silent_ms = None


def make_states(
    instruments: Sequence[Instrument], shard_count: int, memory: IdMemory | None = None
) -> dict[str, SymbolState]:
    memory = memory or IdMemory()
    return {instrument.symbol: make_state(instrument, shard_count, memory) for instrument in instruments}


def make_state(instrument: Instrument, shard_count: int, memory: IdMemory) -> SymbolState:
    """`memory` is shared with the other symbols."""
    return SymbolState(
        instrument.symbol,
        instrument.price_decimals,
        instrument.quantity_decimals,
        shard_of(instrument.symbol, shard_count),
        memory.member(),
    )
