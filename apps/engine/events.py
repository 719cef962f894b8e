"""What travels on the stream: everything that can change an evaluation, as frozen values.

Prices are whole ticks, quantities whole steps of their instrument; event times are ms of the exchange's clock,
`ts_init` is our wall clock in ms. A trade's side is that of the aggressor: BUY or SELL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BUY: Final = 1
SELL: Final = 2


@dataclass(frozen=True, slots=True)
class TradeBlock:
    """The trades of one symbol that arrived in one frame, in the frame's order. Columns have equal length, never 0.

    `ordinal` counts the symbol's trades under this token from 1; it names the first trade of the block. A drain that
    misses a number knows that trades were lost on the way.
    """

    symbol: str
    token: int
    ordinal: int
    ts_init: int
    ts_event: list[int]
    price: list[int]
    quantity: list[int]
    side: list[int]
    trade_id: list[str]  # "" where the exchange sends none


@dataclass(frozen=True, slots=True)
class QuoteBlock:
    """Changed best bids and asks of one symbol, oldest first. Columns have equal length, never 0."""

    symbol: str
    token: int
    ts_init: int
    ts_event: list[int]
    bid: list[int]
    bid_quantity: list[int]
    ask: list[int]
    ask_quantity: list[int]


@dataclass(frozen=True, slots=True)
class Watermark:
    """All trades up to and including `ts_event` of the named symbols have been published.

    `ordinals` holds, per covered symbol, the ordinal of the last trade published so far (0: none yet).
    """

    token: int
    ts_event: int
    ts_init: int
    ordinals: dict[str, int]


@dataclass(frozen=True, slots=True)
class CoverageStart:
    """From `since_ms` on every trade of these symbols will be published under this token.

    What lies between the time a symbol was last covered and `since_ms` is a gap, and its minutes are UNPROVEN.
    """

    token: int
    since_ms: int
    ts_init: int
    symbols: list[str]
    reason: str


@dataclass(frozen=True, slots=True)
class CoverageEnd:
    """These symbols are not delivered any more and will not be soon: refused, or no longer wanted.

    Whoever waits for all symbols of a shard stops waiting for these until their coverage starts again. An
    interruption that is being mended is no end.
    """

    token: int
    ts_init: int
    symbols: list[str]
    reason: str


@dataclass(frozen=True, slots=True)
class Loss:
    """Trades of these symbols may be missing between the two event times (inclusive): a dropped frame, an overflow."""

    token: int
    from_ms: int
    to_ms: int
    ts_init: int
    symbols: list[str]
    reason: str


@dataclass(frozen=True, slots=True)
class WarmupBar:
    """A closed minute from the exchange's klines. Feeds indicators, raises nothing. Prices in ticks.

    `volume` is in steps, `turnover` in tick x step.
    """

    symbol: str
    minute: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    ts_init: int


@dataclass(frozen=True, slots=True)
class Backfill:
    """One closed minute of a symbol as the exchange's REST tells it afterwards; it takes the place of the minute's bar.

    Rows are oldest first and may be none: a minute without trades. They carry no ids; the times of rows of `aggTrades`
    are whole seconds, and rows of one taker at one price are merged. Volume, open, high, low and close agree with the
    exchange's kline. Raises nothing.
    """

    token: int
    symbol: str
    minute: int
    ts_init: int
    source: str  # "trades", "aggTrades", or "klines" for a minute without trades
    ts_event: list[int]
    price: list[int]
    quantity: list[int]
    side: list[int]


Event = TradeBlock | QuoteBlock | Watermark | CoverageStart | CoverageEnd | Loss | WarmupBar | Backfill
