"""What the state sentence is written from, as values. None is not known; it never stands for well or for 0."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from apps.engine import timeouts
from apps.engine.reconciling import Compared


@dataclass(frozen=True, slots=True)
class SymbolFeed:
    """Age of the feed of one symbol: since the last frame or pong of its connection. None: not known."""

    symbol: str
    age_ms: int | None

    @property
    def fresh(self) -> bool:
        return self.age_ms is not None and self.age_ms <= timeouts.FEED_AGE_MAX_MS


@dataclass(frozen=True, slots=True)
class UnknownOrder:
    side: str
    symbol: str
    quantity: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Mover:
    """The symbol nearest to an entry: its change over the lookback window, as a fraction."""

    symbol: str
    change: Decimal


@dataclass(frozen=True, slots=True)
class Gated:
    """Symbols that can raise no entry signal because of UNPROVEN minutes in their window, for one of the reasons.

    `free_ms` is the event time at which the last of them can again if nothing is repaired; `final`: nothing will be.
    """

    symbols: tuple[str, ...]
    reason: str
    free_ms: int
    final: bool


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """Something that stays to be looked at until a person acknowledges it. `words` are a sentence."""

    words: str
    count: int
    critical: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at `now_ms` (wall clock). Everything of a session is meaningless while `mode` is None."""

    now_ms: int
    mode: str | None = None
    alerts: tuple[OpenAlert, ...] = ()  # of any session, most urgent first
    market: str = "live"
    tier: str = ""
    replay: bool = False
    quote_asset: str = ""
    started_ms: int | None = None
    # trading state
    trading_state: str = "ACTIVE"
    state_since_ms: int | None = None
    state_set_by: str = ""
    state_reason: str = ""
    # feed
    redis_answers: bool = True
    reported_ms: int | None = None
    feeds: tuple[SymbolFeed, ...] = ()
    last_trade_ms: int | None = None
    event_time_ms: int | None = None
    refused: tuple[tuple[str, str], ...] = ()
    connections: int = 0
    blocked: tuple[str, ...] = ()
    trouble: str = ""
    gated: Gated | None = None
    # lease: how old its last renewal is (None: given back), and how long ago a standby took it over (None: it did not)
    lease_taken: bool = False
    lease_age_ms: int | None = None
    taken_over_ms: int | None = None
    # warm-up
    warm: bool = False
    minutes_known: int = 0
    minutes_needed: int = 0
    first_decision_ms: int | None = None
    # money
    positions: int = 0
    position_value: Decimal | None = None
    equity: Decimal | None = None
    exposure: Decimal | None = None
    exposure_limit: Decimal | None = None
    unknown_orders: tuple[UnknownOrder, ...] = ()
    compared: Compared | None = None  # with the venue; None: not known
    # quiet
    last_fill_ms: int | None = None
    threshold: Decimal | None = None
    lookback_minutes: int | None = None
    closest: Mover | None = None
