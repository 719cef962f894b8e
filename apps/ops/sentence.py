"""The one sentence that answers "must I act?": the same text in the strip, on the live page and on the command line.

`sentence` is a pure function of a `Snapshot`. Whatever is unknown is said to be unknown; it never reads as well or 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from apps.engine import timeouts
from apps.ops.snapshot import Snapshot
from apps.staff import numbers, times

QUIET_MS: Final = 3_600_000
TAKEOVER_SHOWN_MS: Final = 60_000
REFUSAL_MAX: Final = 40
GATED_NAMED: Final = 2
REPLAY_STANDS_MS: Final = timeouts.DATA_STALE_SECONDS * 1000
UNKNOWN_ORDER_CRITICAL_MS: Final = 60_000
NAMES_MAX: Final = 3


class Severity(StrEnum):
    """Normal is grey; warning and critical ask a person to look, and then say what does not work."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"


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
    if snapshot.mode is None and not snapshot.alerts:
        text = "No session: nothing is traded. `make demo` or `manage.py stack up` starts one."
        return Sentence(text, Severity.NORMAL, "no-session")
    rules = _ALARMS if snapshot.mode is not None else (_alerted,)
    alarms = [case for rule in rules for case in [rule(snapshot)] if case is not None]
    if alarms:
        alarms.sort(key=lambda case: case[1] is not Severity.CRITICAL)
        situation, severity, text = alarms[0]
        shown = parts(snapshot) if snapshot.mode is not None else ()
        return Sentence(text, severity, situation, len(alarms) - 1, shown)
    situation, text = _calm(snapshot)
    return Sentence(text, Severity.NORMAL, situation, 0, parts(snapshot))


_MARKETS: Final = {"synthetic": " on a synthetic market", "replay": " on a replay"}


def parts(snapshot: Snapshot) -> tuple[Part, ...]:
    """Always the same four words in the same order, so that position carries meaning."""
    seen = [feed.age_ms for feed in snapshot.feeds if feed.age_ms is not None]
    oldest = max(seen) if seen and len(seen) == len(snapshot.feeds) else None
    data = "data age unknown" if oldest is None else f"data {times.duration(oldest)}"
    state = {"ACTIVE": "trading on", "REDUCING": "reducing", "HALTED": "halted"}[snapshot.trading_state]
    return (
        Part("state", state, snapshot.trading_state != "ACTIVE"),
        Part("mode", f"{(snapshot.mode or '').lower()}{_MARKETS.get(snapshot.market, '')}"),
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
    end = f", stops cannot act: {_positions(s)}{_value(s)}." if s.positions else "."
    severity = Severity.CRITICAL if s.positions else Severity.WARNING
    return "no-data", severity, f"{_silence(s)}. Entries are off{end}"


def _silence(s: Snapshot) -> str:
    """Why nothing arrives, without the full stop."""
    if not s.feeds:
        return "No symbol is followed, so nothing can arrive"
    if not s.redis_answers:
        return "Redis does not answer, so the age of the data is unknown"
    if s.reported_ms is None:
        return "The ingest has never reported, so the age of the data is unknown"
    away_ms = s.now_ms - s.reported_ms
    if away_ms > timeouts.FEED_AGE_MAX_MS:
        if s.lease_taken and (s.lease_age_ms is None or s.lease_age_ms > timeouts.LEASE_TTL_SECONDS * 1000):
            return f"No ingest holds the feed's lease, nothing is known for {times.duration(away_ms)}"
        return f"The ingest has not reported for {times.duration(away_ms)}"
    if s.connections and len(s.blocked) == s.connections:
        return f"BLOCKED: every subscription is refused{_quoted(s)}"
    known = [feed.age_ms for feed in s.feeds if feed.age_ms is not None]
    trouble = f" ({s.trouble})" if s.trouble else ""
    if not known:
        return f"No connection to the exchange streams yet{trouble}"
    return f"No data for {times.duration(min(known))}{trouble}"


def _quoted(s: Snapshot) -> str:
    """The exchange's words for the first refusal, without what is in every one of them."""
    if not s.refused:
        return ""
    words = s.refused[0][1].rpartition("Reason")[2].strip(":\uff1a ")  # the exchange writes either colon
    return f' ("{words if len(words) <= REFUSAL_MAX else words[: REFUSAL_MAX - 1] + "…"}")'


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


def _not_compared(s: Snapshot) -> Case | None:
    """Nobody compares our books with the venue's. Once that has reduced trading, the state's own reason says it."""
    late = s.compared.late(s.now_ms) if s.compared is not None and s.trading_state == "ACTIVE" else None
    if late is None:
        return None
    what = f"{late.what[0].upper()}{late.what[1:]}"
    text = f"{what} were not compared with the venue's for {times.duration(late.age_ms)}."
    return "not-compared", Severity.WARNING, f"{text} If it lasts, entries go off."


def _alerted(s: Snapshot) -> Case | None:
    if not s.alerts:
        return None
    first = s.alerts[0]
    often = f" {first.count} times." if first.count > 1 else ""
    more = len(s.alerts) - 1
    others = f" {more} more alert{' is' if more == 1 else 's are'} open." if more else ""
    severity = Severity.CRITICAL if first.critical else Severity.WARNING
    return "alert", severity, f"{first.words}{often} Acknowledge the alert when you have looked.{others}"


def _refused(s: Snapshot) -> Case | None:
    """Refused channels beside others that work; if none works, there is no data and that is said first."""
    if s.connections and len(s.blocked) == s.connections:
        return None
    if not s.refused and not s.blocked:
        return None
    names = [symbol for symbol, _ in s.refused]
    if s.blocked:
        one = len(s.blocked) == 1
        text = f"{len(s.blocked)} of {s.connections} connections {'is' if one else 'are'} BLOCKED{_quoted(s)}"
        return "blocked", Severity.WARNING, f"{text}: {_names(names)} not traded." if names else f"{text}."
    minutes = timeouts.FEED_REFUSED_RETRY_MAX_SECONDS // 60
    others = " Others unaffected." if len(s.feeds) > len(set(names)) else ""
    text = f"The exchange refuses {_names(names)}{_quoted(s)}; asked again every {minutes} min.{others}"
    return "blocked", Severity.WARNING, text


def _unproven(s: Snapshot) -> Case | None:
    if s.gated is None:
        return None
    until = times.clock(s.gated.free_ms, s.now_ms)
    end = "They cannot be repaired." if s.gated.final else "Repair goes on."
    symbols = s.gated.symbols
    where = " and ".join(symbols) if len(symbols) <= GATED_NAMED else f"{len(symbols)} symbols"
    text = f"No entries in {where} until {until}: UNPROVEN minutes ({s.gated.reason}). {end}"
    return "unproven", Severity.WARNING, text


def _stale_symbols(s: Snapshot) -> Case | None:
    refused = {symbol for symbol, _ in s.refused}
    stale = [feed for feed in s.feeds if not feed.fresh and feed.symbol not in refused]
    if not stale or not any(feed.fresh for feed in s.feeds):
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
    _halted, _no_data, _unknown_order, _reducing, _not_compared, _alerted, _refused, _stale_symbols, _unproven,
)  # fmt: skip


# --- what does not ----------------------------------------------------------------------------------------------------
def _calm(s: Snapshot) -> tuple[str, str]:
    if not s.feeds or not any(feed.fresh for feed in s.feeds):
        return "starting", "Just started: waiting for the first data from the exchange."
    if not s.warm:
        return "warming-up", _warming_up(s)
    if s.taken_over_ms is not None and s.taken_over_ms < TAKEOVER_SHOWN_MS:
        ago = times.duration(s.taken_over_ms)
        return "taken-over", f"The standby took over {ago} ago; what was missed is repaired. {_fresh(s)}. {_book(s)}"
    trade_age_ms = None if s.last_trade_ms is None else s.now_ms - s.last_trade_ms
    if s.replay and trade_age_ms is not None and trade_age_ms > REPLAY_STANDS_MS:
        at = f" at {times.clock(s.event_time_ms, s.now_ms)}" if s.event_time_ms is not None else ""
        return (
            "replay-stands",
            f"The recording stands{at}: no trade for {times.duration(trade_age_ms)}. {_fresh(s)}. {_book(s)}",
        )
    quiet = _quiet(s)
    if quiet:
        return "quiet", quiet
    newest = "no trade yet" if trade_age_ms is None else f"newest trade {times.duration(trade_age_ms)} old"
    return "well", f"Nothing needs you. {newest.capitalize()}, {_fresh(s)}. {_book(s)}"


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
    return f"{held}, {numbers.percent(s.exposure / s.exposure_limit, 0)} of the limit."


def _names(symbols: list[str]) -> str:
    shown = sorted(set(symbols))
    more = len(shown) - NAMES_MAX
    return ", ".join(shown[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
