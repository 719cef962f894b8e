"""What the ingest remembers of each symbol for as long as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apps.bus.streams import shard_of
from workers.ingest.config import Instrument
from workers.ingest.recent import RecentIds, memory_per_symbol

QuoteTexts = tuple[str, str, str, str]  # bid price, bid quantity, ask price, ask quantity, as sent


@dataclass(slots=True, eq=False)
class SymbolState:
    """Belongs to the consumer. The second block is about the present connection only."""

    symbol: str
    price_decimals: int
    quantity_decimals: int
    shard: int
    recent: RecentIds
    ordinal: int = 0  # of the last accepted trade
    published_quote: QuoteTexts | None = None
    warmed: bool = False

    holding: bool = True  # frames wait until the coverage of the symbol has begun
    since_ms: int | None = None  # event time from which on every trade arrives
    frame_quote: QuoteTexts | None = None  # of the last quote frame

    def restart(self) -> None:
        """A new connection begins."""
        self.holding = True
        self.since_ms = None
        self.frame_quote = None


def make_states(instruments: Sequence[Instrument], shard_count: int) -> dict[str, SymbolState]:
    memory = memory_per_symbol(len(instruments))
    return {
        instrument.symbol: SymbolState(
            instrument.symbol,
            instrument.price_decimals,
            instrument.quantity_decimals,
            shard_of(instrument.symbol, shard_count),
            RecentIds(memory),
        )
        for instrument in instruments
    }
