"""The chain as values: what pages, the command and `--json` are made of. Times in ms, money and prices as stored.

`None` is what is not known or not there yet, never zero. Every part can be had without the ones behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from typing import Any

from apps.engine.risk.words import plain


@dataclass(frozen=True, slots=True)
class StreamTrade:
    """A trade of the market, as the exchange sent it. `side` is the aggressor's."""

    ts_event: int
    trade_id: str
    side: str
    price: Decimal
    quantity: Decimal
    is_trigger: bool


@dataclass(frozen=True, slots=True)
class StreamPart:
    """The stream entry that was being read when the rule fired. `found_in` is empty if nobody has it any more."""

    entry_id: str
    epoch: int
    shard: int
    found_in: str
    words: str
    trades: tuple[StreamTrade, ...]

    @property
    def trigger(self) -> StreamTrade | None:
        return next((trade for trade in self.trades if trade.is_trigger), None)


@dataclass(frozen=True, slots=True)
class WindowBar:
    """A closed minute of the window, and what is known of it: PROVEN, BACKFILLED or UNPROVEN with its reason."""

    minute: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    turnover: Decimal
    count: int
    source: str
    revision: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the rule, with the value that it was asked of. Indicators are floats."""

    name: str
    value: float | None
    comparison: str
    limit: float
    holds: bool | None


@dataclass(frozen=True, slots=True)
class WindowPart:
    first_minute: int
    last_minute: int
    bars: tuple[WindowBar, ...]
    conditions: tuple[Condition, ...]
    unproven_minutes: int
    unproven_reason: str


@dataclass(frozen=True, slots=True)
class StrategyPart:
    """`changes` against the version before: parameter -> [before, now]."""

    id: int
    name: str
    version: int
    author: str
    reason: str
    created_ms: int
    parameters: dict[str, Any]
    changes: dict[str, Any]
    engine_hash: str


@dataclass(frozen=True, slots=True)
class SignalPart:
    """`created_ms` is our wall clock when it was stored, `ts_init` when its trigger reached the ingest."""

    id: int
    kind: str
    exit_reason: str
    position: int | None
    symbol: str
    session: str
    book: str
    ts_event: int
    trade_id: str
    price: Decimal
    confirmed: Decimal | None  # that the trades up to the trigger's confirm; an exit acts on it
    bid: Decimal | None
    ask: Decimal | None
    quote_ts: int | None
    median: Decimal | None
    change: float | None
    rsi: float | None
    turnover: float | None
    entry_id: str
    ts_init: int
    created_ms: int
    price_decimals: int
    quantity_decimals: int
    currency: str


@dataclass(frozen=True, slots=True)
class CheckPart:
    """A check as it was stored. `left`: part of the limit that was left, below 0 if broken; None: not measured.

    `margin` says in words how far it was from the other verdict.
    """

    code: str
    words: str
    value: str | None
    limit: str | None
    passed: bool
    note: str
    left: Decimal | None
    margin: str


@dataclass(frozen=True, slots=True)
class LimitsPart:
    version: int
    set_by: str
    reason: str
    created_ms: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class TripPart:
    """A breaker that was open when it was decided. `subject` is empty for the whole account."""

    cause: str
    subject: str
    to_state: str
    reason: str
    evidence: dict[str, Any]
    created_ms: int


@dataclass(frozen=True, slots=True)
class DecisionPart:
    id: int
    sequence: int
    verdict: str
    sentence: str
    reasons: tuple[str, ...]
    checks: tuple[CheckPart, ...]
    limits: LimitsPart | None
    trading_state: str
    state_words: str
    trips: tuple[TripPart, ...]
    currency: str
    equity: Decimal
    exposure_before: Decimal
    exposure_after: Decimal
    marks_minute: int | None
    marks: dict[str, Decimal]
    feed_age_ms: int | None
    signal_age_ms: int
    decided_ms: int


@dataclass(frozen=True, slots=True)
class EventPart:
    """A step of the order. `after_ms` is the time since the step before it, by our wall clock."""

    number: int
    event: str
    status: str
    detail: str
    sequence: int | None
    at_ms: int
    after_ms: int | None


@dataclass(frozen=True, slots=True)
class OrderPart:
    """What was asked for, and what is still promised for it. `id` is None for an intent that is not sent yet."""

    id: int | None
    client_order_id: str
    venue: str
    venue_order_id: str
    side: str
    quantity: Decimal
    limit_price: Decimal
    reducing: bool
    status: str
    reason: str
    filled: Decimal
    leaves: Decimal
    average_price: Decimal | None
    promised: Decimal | None
    promised_currency: str
    approved_ms: int
    events: tuple[EventPart, ...]
    anomalies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FillPart:
    """A fill. `slippage_bps`: against the side of the quote in force that it met, in basis points; above 0 is worse.

    `more` holds what else the row says of it, by name.
    """

    id: int
    venue: str
    trade_id: str
    sequence: int
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    ts_event: int
    booked_ms: int
    quote: dict[str, Any] | None
    slippage_bps: Decimal | None
    more: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LegPart:
    reference: str
    leg: int
    kind: str
    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class LedgerPart:
    """`sums`: per reference and currency, which must be zero. `cash`: what the account's cash moved by in all."""

    legs: tuple[LegPart, ...]
    sums: tuple[tuple[str, str, Decimal], ...]
    cash: Decimal


@dataclass(frozen=True, slots=True)
class ExitPart:
    """An exit of the position, by its signal."""

    signal: int
    reason: str
    ts_event: int
    price: Decimal
    code: str
    words: str


@dataclass(frozen=True, slots=True)
class PositionPart:
    id: int
    status: str
    opened_by: str
    quantity: Decimal
    entry_quantity: Decimal
    entry_price: Decimal
    stop_price: Decimal
    target_price: Decimal
    opened_ts: int
    due_ts: int
    closed_ts: int | None
    realized: Decimal
    fees: Decimal
    exits: tuple[ExitPart, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of the way. `after_ms` since the point before, None where the two are of different clocks."""

    name: str
    at_ms: int
    after_ms: int | None


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A number of the chain, worked out again. `stored` and `again` in the same form; equal if nothing is wrong."""

    name: str
    stored: str
    again: str

    @property
    def equal(self) -> bool:
        return self.stored == self.again


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole chain, top-down. `missing` names links that should be there; `proof` is None if nothing was redone.

    `unproven` says what could not be worked out again, and why.
    """

    subject: str
    headline: str
    ending: str
    ending_words: str
    over: bool
    stream: StreamPart
    window: WindowPart | None
    strategy: StrategyPart | None
    signal: SignalPart
    decision: DecisionPart | None
    order: OrderPart | None
    fills: tuple[FillPart, ...]
    position: PositionPart | None
    ledger: LedgerPart | None
    way: tuple[Moment, ...]
    missing: tuple[str, ...]
    proof: tuple[Recomputed, ...] | None = None
    unproven: tuple[str, ...] = ()


def as_json(value: Any) -> Any:
    """Values for `json.dumps`: decimals as exact text."""
    if isinstance(value, Decimal):
        return plain(value)
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
        return named | ({"equal": value.equal} if isinstance(value, Recomputed) else {})
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value
