"""Values that the engine takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How a symbol counts: one tick is 10^-price_decimals quote units, one step 10^-quantity_decimals base units."""

    price_decimals: int
    quantity_decimals: int

    def price(self, ticks: int) -> Decimal:
        return Decimal(ticks).scaleb(-self.price_decimals)

    def quantity(self, steps: int) -> Decimal:
        return Decimal(steps).scaleb(-self.quantity_decimals)

    def turnover(self, tick_steps: int) -> Decimal:
        """Exact: `tick_steps` is a sum of ticks x steps."""
        return Decimal(tick_steps).scaleb(-self.price_decimals - self.quantity_decimals)


@dataclass(frozen=True, slots=True)
class ClosedBar:
    """One closed minute. Prices in ticks, volume in steps, turnover in tick x step.

    `hash_sum` is the sum of the trades' 64-bit hashes modulo 2^64: equal multisets of trades have equal sums.
    """

    symbol: str
    minute: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    count: int
    first_trade_id: str
    last_trade_id: str
    hash_sum: int
    from_klines: bool = False


@dataclass(frozen=True, slots=True)
class LateTrade:
    """A trade whose minute was closed before it arrived: its bar gets a revision, indicators do not change."""

    symbol: str
    minute: int
    price: int
    quantity: int
    trade_id: str
    trade_hash: int


@dataclass(frozen=True, slots=True)
class ReplacedBar:
    """A repair took the place of a closed bar. Same units as `ClosedBar`; `count` is the number of REST's rows."""

    symbol: str
    minute: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    count: int


@dataclass(frozen=True, slots=True)
class CarriedClose:
    """A closed minute without trades closes elsewhere, because a minute before it was repaired."""

    symbol: str
    minute: int
    close: int


@dataclass(frozen=True, slots=True)
class UnprovenMinute:
    symbol: str
    minute: int
    reason: str


@dataclass(frozen=True, slots=True)
class BackfilledMinute:
    """A minute's sums and prices are the exchange's own; `rows` is how many rows of `source` they were made from."""

    symbol: str
    minute: int
    source: str
    rows: int


@dataclass(frozen=True, slots=True)
class RefusedBackfill:
    """A repair that must not be applied; its minute stays UNPROVEN. Volumes in steps, where they are why."""

    symbol: str
    minute: int
    reason: str
    told: int | None = None
    received: int | None = None


BarChange = LateTrade | ReplacedBar | CarriedClose
CoverageChange = UnprovenMinute | BackfilledMinute | RefusedBackfill


@dataclass(frozen=True, slots=True)
class Quote:
    """Best bid and ask in ticks, their sizes in steps, and the event time from which they hold."""

    ts_event: int
    bid: int
    bid_quantity: int
    ask: int
    ask_quantity: int


@dataclass(frozen=True, slots=True)
class RaisedSignal:
    """A strategy fired on one trade, with all that a decision will want to know about that moment."""

    version_id: int
    symbol: str
    ts_event: int
    trade_id: str
    price: int
    change: float
    rsi: float
    turnover: float
    quote: Quote | None
    median_price: Decimal | None  # in ticks; the median of an even number of prices may lie between two
    unproven_minutes: int
    unproven_reason: str
    entry_id: str
    ts_init: int
    confirmed: int | None = None  # ticks; the price that the trades up to this one confirm (`apps.engine.ticks`)
    base_version_id: int = 0  # what the session began with; `version_id` is in force in the trigger's minute
    kind: str = "entry"  # or "exit": the reason for the last entry of this version and symbol is gone


@dataclass(frozen=True, slots=True)
class FailedStrategy:
    """A strategy raised on this symbol ("": before its first trade) and is disabled in its shard. `words` say what."""

    version_id: int  # what the session began with
    symbol: str
    words: str
    ts_event: int = 0  # of the trade or of the minute's end that it raised on, ms
    judge_id: int = 0  # the version in force then


@dataclass(frozen=True, slots=True)
class RaisedExit:
    """A position's stop, target or time was reached. Prices in ticks.

    `confirmed` is what is acted on. It differs from `price` where the last print before a time exit was not believed.
    `jumped_from` is what was confirmed until the very trade of the exit confirmed a jump; None if there was none.
    """

    position_id: int
    symbol: str
    reason: str
    ts_event: int
    trade_id: str
    price: int
    quote: Quote | None
    entry_id: str
    ts_init: int
    confirmed: int
    jumped_from: int | None = None
