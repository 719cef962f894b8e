"""Channel names, and which connection carries which symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from apps.engine import timeouts
from workers.ingest.config import Instrument

DEALS_PREFIX: Final = "spot@public.aggre.deals.v3.api.pb@100ms@"
QUOTES_PREFIX: Final = "spot@public.aggre.bookTicker.v3.api.pb@100ms@"
CHANNELS_PER_SYMBOL: Final = 2
SYMBOLS_PER_CONNECTION_MAX: Final = timeouts.EXCHANGE_SUBSCRIPTIONS_MAX // CHANNELS_PER_SYMBOL


def deals_channel(symbol: str) -> str:
    return DEALS_PREFIX + symbol


def quotes_channel(symbol: str) -> str:
    return QUOTES_PREFIX + symbol


def channels_of(symbols: Sequence[str]) -> list[str]:
    """Quotes first: a connection that is just accepted learns from them at once where its coverage begins."""
    return [*map(quotes_channel, symbols), *map(deals_channel, symbols)]


def spread(instruments: Sequence[Instrument]) -> list[list[Instrument]]:
    """The symbols of each connection: as few connections as the cap allows, sizes that differ by one at most."""
    connections = -(-len(instruments) // SYMBOLS_PER_CONNECTION_MAX)  # 0 for none
    return [list(instruments[first::connections]) for first in range(connections)]


def deals_symbols(channels: Iterable[str]) -> tuple[str, ...]:
    """The symbols whose trades these channels carry."""
    return tuple(name.removeprefix(DEALS_PREFIX) for name in channels if name.startswith(DEALS_PREFIX))
