"""The one sentence that answers "must I act?": the same text in the strip, on the live page and on the command line.

`sentence` is a pure function of a `Snapshot`. Whatever is unknown is said to be unknown; it never reads as well or 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

from apps.engine import timeouts
from apps.staff import numbers, times

QUIET_MS: Final = 3_600_000
REPLAY_STANDS_MS: Final = timeouts.DATA_STALE_SECONDS * 1000
UNKNOWN_ORDER_CRITICAL_MS: Final = 60_000
NAMES_MAX: Final = 3


class Severity(StrEnum):
    """Normal is grey; warning and critical ask a person to look, and then say what does not work."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"


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
class Snapshot:
    """What is known at `now_ms` (wall clock). Everything of a session is meaningless while `mode` is None."""

    now_ms: int
    mode: str | None = None
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
    trouble: str = ""
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
    # quiet
    last_fill_ms: int | None = None
    threshold: Decimal | None = None
    lookback_minutes: int | None = None
    closest: Mover | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One word of the fixed row beside the sentence: trading state, mode, data age, tier."""

    name: str
    text: str
    abnormal: bool = False
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    severity: Severity
    situation: str
    more: int = 0
    parts: tuple[Part, ...] = field(default=())

    @property
    def line(self) -> str:
        return f"{self.text} +{self.more} more." if self.more else self.text


Case = tuple[str, Severity, str]


def sentence(snapshot: Snapshot) -> Sentence:
    """The most important thing first; what else is not normal is counted behind it."""
    if snapshot.mode is None:
        text = "No session: nothing is traded. `make demo` or `manage.py stack up` starts one."
        return Sentence(text, Severity.NORMAL, "no-session")
    alarms = [case for rule in _ALARMS for case in [rule(snapshot)] if case is not None]
    if alarms:
        alarms.sort(key=lambda case: case[1] is not Severity.CRITICAL)
        situation, severity, text = alarms[0]
        return Sentence(text, severity, situation, len(alarms) - 1, parts(snapshot))
    situation, text = _calm(snapshot)
    return Sentence(text, Severity.NORMAL, situation, 0, parts(snapshot))


def parts(snapshot: Snapshot) -> tuple[Part, ...]:
    """Always the same four words in the same order, so that position carries meaning."""
    seen = [feed.age_ms for feed in snapshot.feeds if feed.age_ms is not None]
    oldest = max(seen) if seen and len(seen) == len(snapshot.feeds) else None
    data = "data age unknown" if oldest is None else f"data {times.duration(oldest)}"
    state = {"ACTIVE": "trading on", "REDUCING": "reducing", "HALTED": "halted"}[snapshot.trading_state]
    return (
        Part("state", state, snapshot.trading_state != "ACTIVE"),
        Part("mode", (snapshot.mode or "").lower()),
        Part("data", data, not all(feed.fresh for feed in snapshot.feeds) or not seen,
             None if oldest is None else snapshot.now_ms - oldest),
        Part("tier", f"tier {snapshot.tier}"),
    )  # fmt: skip


# --- what needs a person, most urgent first ---------------------------------------------------------------------------
def _halted(s: Snapshot) -> Case | None:
    if s.trading_state != "HALTED":
        return None
    held = _positions(s)
    end = (
        f"{held} {'runs' if s.positions == 1 else 'run'} without protection." if s.positions else "No position is open."
    )
    text = f"HALTED{_since(s)}. Nothing is sent, not even exits. {end}"
    return "halted", Severity.CRITICAL if s.positions else Severity.WARNING, text


def _no_data(s: Snapshot) -> Case | None:
    if any(feed.fresh for feed in s.feeds) or (s.reported_ms is None and _starting(s)):
        return None
    protection = f" Your open stops cannot act until data is back: {_positions(s)}{_value(s)}." if s.positions else ""
    severity = Severity.CRITICAL if s.positions else Severity.WARNING
    trouble = f" {s.trouble}" if s.trouble else ""
    return "no-data", severity, f"{_silence(s)} New entries are off.{trouble}{protection}"


def _silence(s: Snapshot) -> str:
    if not s.redis_answers:
        return "Redis does not answer, so the age of the data is unknown."
    if s.reported_ms is None:
        return "The ingest has never reported, so the age of the data is unknown."
    away_ms = s.now_ms - s.reported_ms
    if away_ms > timeouts.FEED_AGE_MAX_MS:
        return f"The ingest has not reported for {times.duration(away_ms)}, so the age of the data is unknown."
    known = [feed.age_ms for feed in s.feeds if feed.age_ms is not None]
    if not known:
        return "No connection to the exchange streams yet."
    return f"No data for {times.duration(min(known))} from the exchange."


def _unknown_order(s: Snapshot) -> Case | None:
    if not s.unknown_orders:
        return None
    first = min(s.unknown_orders, key=lambda order: order.since_ms)
    age_ms, n = s.now_ms - first.since_ms, len(s.unknown_orders)
    what = f"({first.side} {first.symbol} {first.quantity})"
    count = "1 order is" if n == 1 else f"{n} orders are"
    text = f"{count} UNKNOWN for {times.duration(age_ms)} {what}. {'Its' if n == 1 else 'Their'} money stays reserved."
    late = age_ms > UNKNOWN_ORDER_CRITICAL_MS
    asking = " Asking the venue has not settled it." if late else " Asking the venue; no action yet."
    return "unknown-order", Severity.CRITICAL if late else Severity.WARNING, text + asking


def _reducing(s: Snapshot) -> Case | None:
    if s.trading_state != "REDUCING":
        return None
    return "reducing", Severity.WARNING, f"Reducing{_since(s)}. Exits run, entries are denied."


def _refused(s: Snapshot) -> Case | None:
    if not s.refused:
        return None
    symbols = _names([symbol for symbol, _ in s.refused])
    minutes = timeouts.FEED_REFUSED_RETRY_MAX_SECONDS // 60
    text = f'The exchange refuses the channel for {symbols} ("{s.refused[0][1]}"). Trying at least every {minutes} min.'
    others = len(s.feeds) > len({symbol for symbol, _ in s.refused})
    return "blocked", Severity.WARNING, text + (" Other symbols unaffected." if others else "")


def _stale_symbols(s: Snapshot) -> Case | None:
    stale = [feed for feed in s.feeds if not feed.fresh]
    if not stale or len(stale) == len(s.feeds):
        return None
    ages = [feed.age_ms for feed in stale if feed.age_ms is not None]
    since = f" for {times.duration(max(ages))}" if ages else ""
    one = len(stale) == 1
    subject = f"{_names([feed.symbol for feed in stale])} {'has' if one else 'have'} no data{since}"
    return (
        "stale",
        Severity.WARNING,
        f"{subject}; {'it is' if one else 'they are'} not traded until it is back. {_fresh(s)}.",
    )


_ALARMS: Final[tuple[Callable[[Snapshot], Case | None], ...]] = (
    _halted, _no_data, _unknown_order, _reducing, _refused, _stale_symbols,
)  # fmt: skip


# --- what does not ----------------------------------------------------------------------------------------------------
def _calm(s: Snapshot) -> tuple[str, str]:
    if not s.feeds or not any(feed.fresh for feed in s.feeds):
        return "starting", "Just started: waiting for the first data from the exchange."
    if not s.warm:
        return "warming-up", _warming_up(s)
    trading = f"Trading is on ({(s.mode or '').lower()})"
    trade_age_ms = None if s.last_trade_ms is None else s.now_ms - s.last_trade_ms
    if s.replay and trade_age_ms is not None and trade_age_ms > REPLAY_STANDS_MS:
        at = f" at {times.clock(s.event_time_ms, s.now_ms)}" if s.event_time_ms is not None else ""
        return (
            "replay-stands",
            f"The recording stands{at}: no trade for {times.duration(trade_age_ms)}. {_fresh(s)}. {_book(s)}",
        )
    quiet = _quiet(s)
    if quiet:
        return "quiet", f"{trading}. {quiet}"
    newest = "no trade yet" if trade_age_ms is None else f"newest trade {times.duration(trade_age_ms)} old"
    return "well", f"Nothing needs you. {trading}. {newest.capitalize()}, {_fresh(s)}. {_book(s)}"


def _warming_up(s: Snapshot) -> str:
    text = f"Warming up: {s.minutes_known} of {s.minutes_needed} minutes of history."
    if s.first_decision_ms is None:
        return text
    return f"{text} First decision possible at {times.clock(s.first_decision_ms, s.now_ms)}."


def _quiet(s: Snapshot) -> str:
    since_ms = max((ms for ms in (s.last_fill_ms, s.started_ms) if ms is not None), default=None)
    if s.replay or since_ms is None or s.now_ms - since_ms < QUIET_MS or s.threshold is None or s.closest is None:
        return ""
    if s.closest.change >= s.threshold:
        return ""
    moved = f"no symbol has moved {numbers.percent(s.threshold)} in {s.lookback_minutes} min"
    nearest = f"(closest {s.closest.symbol} {numbers.percent(s.closest.change)})"
    return f"Nothing traded for {times.duration(s.now_ms - since_ms)}: {moved} {nearest}."


# --- pieces -----------------------------------------------------------------------------------------------------------
def _starting(s: Snapshot) -> bool:
    """Before the ingest's first report, silence is expected as long as a connection may take."""
    grace_ms = (timeouts.FEED_CONNECT_SECONDS + timeouts.FEED_ACK_RECONNECT_SECONDS) * 1000
    return s.redis_answers and s.started_ms is not None and s.now_ms - s.started_ms < grace_ms


def _since(s: Snapshot) -> str:
    since = f" since {times.clock(s.state_since_ms, s.now_ms)}" if s.state_since_ms is not None else ""
    by = f" by {s.state_set_by}" if s.state_set_by else ""
    return since + by + (f' ("{s.state_reason}")' if s.state_reason else "")


def _fresh(s: Snapshot) -> str:
    return f"{sum(feed.fresh for feed in s.feeds)} of {len(s.feeds)} symbols fresh"


def _positions(s: Snapshot) -> str:
    return "1 position" if s.positions == 1 else f"{s.positions} positions"


def _value(s: Snapshot) -> str:
    return "" if s.position_value is None else f", {numbers.amount(s.position_value, s.quote_asset)}"


def _book(s: Snapshot) -> str:
    held = _positions(s) if s.positions else "No position"
    if s.exposure is None or not s.exposure_limit:
        return f"{held}."
    return f"{held}, {numbers.percent(s.exposure / s.exposure_limit, 0)} of the exposure limit."


def _names(symbols: list[str]) -> str:
    shown = sorted(set(symbols))
    more = len(shown) - NAMES_MAX
    return ", ".join(shown[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
