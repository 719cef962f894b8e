"""What the checks are given and what they answer. Money in the quote currency, ages in ms, fractions of equity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from apps.engine.money import ONE, ZERO, exact, notional
from apps.engine.portfolio import Side
from apps.engine.risk.days import Date


class Reason(StrEnum):
    """The closed list of reasons for which an order is not placed, in the order in which they are checked."""

    SYMBOL = "SYMBOL"
    HALTED = "HALTED"
    REDUCING = "REDUCING"
    LEASE = "LEASE"
    VERSION = "VERSION"
    HEARTBEAT = "HEARTBEAT"
    RECON = "RECON"
    STALE_FEED = "STALE_FEED"
    STALE_SIGNAL = "STALE_SIGNAL"
    DATA_GAP = "DATA_GAP"
    BAD_TICK = "BAD_TICK"
    PRICE_COLLAR = "PRICE_COLLAR"
    FAT_FINGER = "FAT_FINGER"
    MIN_NOTIONAL = "MIN_NOTIONAL"
    POSITION_LIMIT = "POSITION_LIMIT"
    OPEN_ORDERS = "OPEN_ORDERS"
    SELF_TRADE = "SELF_TRADE"
    EXPOSURE = "EXPOSURE"
    CASH = "CASH"
    LOSS_LIMIT = "LOSS_LIMIT"
    DRAWDOWN = "DRAWDOWN"
    THROTTLE = "THROTTLE"
    REPEAT = "REPEAT"
    DUPLICATE = "DUPLICATE"


class TradingState(StrEnum):
    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class Sizing(StrEnum):
    """How the size of an opening order follows from the account (`apps.engine.sizing` has the formulas)."""

    FIXED_FRACTION = "fixed_fraction"
    FIXED_NOTIONAL = "fixed_notional"
    VOLATILITY = "volatility"


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
    """One version of an account's limits. Fractions are of equity unless said."""

    sizing: Sizing
    order_size: Decimal
    order_notional: Decimal  # quote currency
    risk_fraction: Decimal
    volatility_multiple: Decimal
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
    repeat_max: int
    repeat_window_ms: int
    day_loss_reducing: Decimal  # of the equity that the trading day began with
    day_loss_halted: Decimal
    drawdown_reducing: Decimal  # of the highest equity
    drawdown_halted: Decimal
    bad_tick: Decimal  # of the price that was confirmed before
    feed_age_max_ms: int
    signal_age_max_ms: int
    heartbeat_age_max_ms: int
    trading_day_zone: str  # IANA name


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPath:
    """What was known of those that an order needs on its way. None: unknown. The words say why, or whom it concerns."""

    lease_age_ms: int | None
    lease_words: str = ""
    strangers: int | None  # running workers whose code is of another version
    version_words: str = ""
    heartbeat_age_ms: int | None  # of the component that was heard longest ago
    heartbeat_words: str = ""
    differences: int | None  # that the last reconciliation left
    recon_words: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> OrderPath:
        """What was stored; sound for a decision from before these were recorded."""
        return cls(**stored) if stored else SOUND_PATH


SOUND_PATH: Final = OrderPath(lease_age_ms=0, strangers=0, heartbeat_age_ms=0, differences=0)
"""Nothing is amiss. What simulations assume where nothing else was recorded."""


@dataclass(frozen=True, slots=True)
class EquityRecord:
    """What an account's worth is compared with. None before the first decision."""

    day: Date | None = None  # the trading day of the newest decision
    day_start: Decimal | None = None
    peak: Decimal | None = None
    last: Decimal | None = None  # at the newest decision

    def moved_on(self, day: Date, equity: Decimal) -> EquityRecord:
        """At a decision on a trading day. A day begins with the higher of what the account was worth at the last
        decision before it and at its first one, so that a fall in between counts. An earlier day changes no start."""
        day_start, newest = self.day_start, self.day
        if newest is None or day > newest:
            newest, day_start = day, equity if self.last is None else max(equity, self.last)
        peak = equity if self.peak is None else max(self.peak, equity)
        return EquityRecord(newest, day_start, peak, equity)


NEW_RECORD: Final = EquityRecord()


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
    path: OrderPath
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
    confirmed: Decimal | None  # the price that the trades up to the trigger's confirm, its own if it is believed
    quantity_min: Decimal
    notional_min: Decimal
    size_words: str  # why no size could be worked out, empty if one could
    # the account
    currency: str
    equity: Decimal
    day_start_equity: Decimal | None
    peak_equity: Decimal | None
    order_cap: Decimal | None  # from the operator's secret file; None: none was set
    free_cash: Decimal
    needed_cash: Decimal  # what this order would reserve
    exposure: Decimal
    symbol_exposure: Decimal
    unvalued: tuple[str, ...]  # held symbols without a price: exposure is then unknown
    positions_symbol: int  # open round trips in the symbol, and opening orders that may become one
    open_orders: int
    open_orders_symbol: int
    open_exits: int  # of the position that this order would close
    opposite_orders: int  # open orders of ours in the symbol on the other side
    # earlier approved orders
    orders_second: int
    orders_minute: int
    orders_day: int
    exits_second: int
    repeats: int  # opening orders in the symbol on this side within the window
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
    trip: TradingState | None = None  # what the state must become at once, whatever becomes of this order
    floor: bool = False  # the limit is the least that is allowed, not the most

    @property
    @exact
    def margin(self) -> Decimal | None:
        """How far the value is inside its limit, in the value's unit; below 0: by how much it is broken."""
        if self.value is None or self.limit is None:
            return None
        return self.value - self.limit if self.floor else self.limit - self.value


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
