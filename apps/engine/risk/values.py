"""What the checks are given and what they answer. Money in the quote currency, ages in ms, fractions of equity."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from apps.engine.money import ONE, ZERO, exact, notional
from apps.engine.portfolio import Side


class Reason(StrEnum):
    """The closed list of reasons for which an order is not placed, in the order in which they are checked."""

    SYMBOL = "SYMBOL"
    HALTED = "HALTED"
    REDUCING = "REDUCING"
    STALE_FEED = "STALE_FEED"
    STALE_SIGNAL = "STALE_SIGNAL"
    DATA_GAP = "DATA_GAP"
    PRICE_COLLAR = "PRICE_COLLAR"
    FAT_FINGER = "FAT_FINGER"
    MIN_NOTIONAL = "MIN_NOTIONAL"
    POSITION_LIMIT = "POSITION_LIMIT"
    OPEN_ORDERS = "OPEN_ORDERS"
    EXPOSURE = "EXPOSURE"
    CASH = "CASH"
    THROTTLE = "THROTTLE"
    DUPLICATE = "DUPLICATE"


class TradingState(StrEnum):
    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class Outcome(StrEnum):
    """HELD: neither passed nor failed. The question is put again when the feed is fresh."""

    PASSED = "passed"
    FAILED = "failed"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The order that a signal asks for. `quantity` is 0 if sizing came to less than one step."""

    symbol: str
    side: Side
    reducing: bool
    price: Decimal  # of the triggering trade
    limit_price: Decimal
    quantity: Decimal

    @property
    def worst_notional(self) -> Decimal:
        """What the order adds to exposure if it fills at its limit; nothing if it reduces."""
        return ZERO if self.reducing else notional(self.quantity, self.limit_price)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """One version of an account's limits."""

    order_size: Decimal
    order_notional_max: Decimal
    position_max: Decimal
    exposure_max: Decimal
    collar: Decimal
    exit_band: Decimal
    positions_per_symbol_max: int
    open_orders_symbol_max: int
    open_orders_max: int
    orders_per_second_max: int
    orders_per_minute_max: int
    orders_per_day_max: int
    exits_per_second_max: int
    duplicate_ms: int
    feed_age_max_ms: int
    signal_age_max_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything the checks may look at, as it was at one moment under the account's lock.

    None means unknown, which is never read as a number. Counts of earlier orders are in event time.
    """

    # who may trade
    trading_state: TradingState
    state_words: str  # "since 13:58 by mara: feed looks odd", empty while ACTIVE
    in_session: bool
    tradable: bool
    # how old and how complete the inputs are
    feed_age_ms: int | None
    feed_words: str  # why the age is unknown
    signal_age_ms: int
    unproven_minutes: int
    unproven_reason: str
    # the market
    bid: Decimal | None
    ask: Decimal | None
    median: Decimal | None
    quantity_min: Decimal
    notional_min: Decimal
    # the account
    currency: str
    equity: Decimal
    free_cash: Decimal
    needed_cash: Decimal  # what this order would reserve
    exposure: Decimal
    symbol_exposure: Decimal
    unvalued: tuple[str, ...]  # held symbols without a price: exposure is then unknown
    positions_symbol: int  # open round trips in the symbol, and opening orders that may become one
    open_orders: int
    open_orders_symbol: int
    open_exits: int  # of the position that this order would close
    # earlier approved orders
    orders_second: int
    orders_minute: int
    orders_day: int
    exits_second: int
    twin_ms: int | None  # event time between this opening order and the nearest equal one


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check's answer. `note` is the sentence of a failed check, or what a reader should know of a passed one."""

    reason: Reason
    outcome: Outcome
    value: Decimal | None = None
    limit: Decimal | None = None
    note: str = ""
    left: Decimal | None = None  # fraction of the limit that is left
    alert: bool = False  # passed, but somebody should look


@exact
def share_left(value: Decimal, limit: Decimal) -> Decimal:
    """The part of a limit that is left; below 0 if it is broken, also if the limit is 0."""
    if limit > 0:
        return (limit - value) / limit
    return ZERO if value <= limit else -ONE


@exact
def fraction_of(fraction: Decimal, equity: Decimal) -> Decimal:
    """A limit in money. Without equity there is no room at all."""
    return max(fraction * equity, ZERO)
