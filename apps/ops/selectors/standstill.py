"""Why has nothing traded? Every stage of the road with what passed it last, and the stage at which the flow stopped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Max, QuerySet

from apps.engine import timeouts
from apps.execution.models import Order, Trade
from apps.market.models import Bar, IngestRun, ShardCursor
from apps.market.selectors import closed_minute
from apps.ops.explain.endings import Ending, code_words, codes_of
from apps.ops.selectors.funnel import counts
from apps.ops.selectors.nearest import LOOKED_AT_MINUTES, Nearness, nearness
from apps.ops.selectors.state import State, parameters
from apps.portfolio.models import TradingSession
from apps.risk.models import RiskDecision
from apps.signals.models import Signal, SignalRefusal
from apps.staff import numbers, times

WINDOW_HOURS: Final = 24
REASONS_SHOWN: Final = 4
TOLD_FOR_MS: Final = 15_000
ROAD: Final = (
    "received", "decoded", "published", "processed", "bars", "evaluated", "signals", "approved", "orders", "trades",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Passed:
    """A stage: how much passed it in this session, and when the last did (wall clock in ms; None: nothing has)."""

    stage: str
    count: int
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class Why:
    """`stage` is where the flow stopped within the last day, empty if something traded; `sentence` says why."""

    stage: str
    sentence: str
    stages: tuple[Passed, ...]
    endings: dict[str, int]
    as_of_ms: int

    @property
    def line(self) -> str:
        return f"Stands still at {self.stage}: {self.sentence}" if self.stage else self.sentence

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "why": self.sentence,
            "endings": self.endings,
            "stages": [
                {
                    "stage": row.stage,
                    "count": row.count,
                    "last": None if row.last_ms is None else times.iso(row.last_ms),
                }
                for row in self.stages
            ],
            "as_of": times.iso(self.as_of_ms),
        }


def why_nothing(state: State, now_ms: int) -> Why | None:
    """As of `now_ms` (wall clock); None if no session is open."""
    session = state.session
    if session is None:
        return None
    since = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(hours=WINDOW_HOURS)
    counted = counts(session, state.report)
    signals = Signal.objects.filter(session=session, created_at__gte=since)
    endings = Counter(code for _, _, code in codes_of(signals, now_ms))
    refused = SignalRefusal.objects.filter(session=session, created_at__gte=since)
    stage, sentence = _stopped(state, session, counted, endings, refused, now_ms)
    named = dict(sorted(endings.items())) | {Ending.REFUSED.value: refused.count()}
    return Why(stage, sentence, _stages(state, session, counted), {k: n for k, n in named.items() if n}, now_ms)


_told: dict[int, tuple[int, str]] = {}
"""What pages were told last, by session: when (wall ms) and what. One per process is enough: it is only a sentence."""


def why_line(state: State, now_ms: int) -> str:
    """`why_nothing` for a page that is read again all the time: looked for anew after `TOLD_FOR_MS`, and not at all
    where something was filled within the window. Empty then."""
    session = state.session
    if session is None:
        return ""
    at_ms, line = _told.get(session.pk, (None, ""))
    if at_ms is not None and 0 <= now_ms - at_ms < TOLD_FOR_MS:
        return line
    since = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(hours=WINDOW_HOURS)
    traded = Trade.objects.filter(account__session=session, created_at__gte=since).exists()
    why = None if traded else why_nothing(state, now_ms)
    line = "" if why is None else why.line
    _told.clear()
    _told[session.pk] = now_ms, line
    return line


def _stages(state: State, session: TradingSession, counted: dict[str, int]) -> tuple[Passed, ...]:
    epoch = session.epoch_id
    ingest = state.snapshot.last_trade_ms or _newest(IngestRun.objects.filter(epoch_id=epoch), "last_seen_at")
    read = _newest(ShardCursor.objects.filter(epoch_id=epoch), "updated_at")
    minute = Bar.objects.filter(epoch_id=epoch).aggregate(newest=Max("minute"))["newest"]
    approved = RiskDecision.objects.filter(signal__session=session, verdict=RiskDecision.Verdict.APPROVED)
    last = {
        "received": ingest,
        "decoded": ingest,
        "published": ingest,
        "processed": read,
        "bars": None if minute is None else (minute + 1) * times.MINUTE_MS,
        "evaluated": read,
        "signals": _newest(Signal.objects.filter(session=session), "created_at"),
        "approved": _newest(approved, "decided_at"),
        "orders": _newest(Order.objects.filter(account__session=session), "created_at"),
        "trades": _newest(Trade.objects.filter(account__session=session), "created_at"),
    }
    return tuple(Passed(stage, counted[stage], last[stage] if counted[stage] else None) for stage in ROAD)


def _newest(rows: QuerySet[Any, Any], name: str) -> int | None:
    found = rows.aggregate(newest=Max(name))["newest"]
    return None if found is None else times.to_ms(found)


def _stopped(
    state: State, session: TradingSession, counted: dict[str, int], endings: Counter[str],
    refused: QuerySet[SignalRefusal], now_ms: int,
) -> tuple[str, str]:  # fmt: skip
    """The first stage behind which nothing came, in the order of the road."""
    silent = _silence(state, now_ms)
    if silent is not None:
        return silent
    if not endings:
        return _market(state, counted) or _no_signal(state, session, refused)
    traded = sum(number for code, number in endings.items() if code in _TRADED)
    if traded:
        return "", f"Nothing stands still: {_of(traded, 'signal')} of the last {WINDOW_HOURS} h traded."
    return _no_trade(endings)


def _silence(state: State, now_ms: int) -> tuple[str, str] | None:
    """No trade arrives any more."""
    last_ms = state.snapshot.last_trade_ms
    if last_ms is None or now_ms - last_ms <= timeouts.DATA_STALE_SECONDS * 1000:
        return None
    return "received", f"No trade has arrived for {times.duration(now_ms - last_ms)}. {state.sentence.line}"


def _market(state: State, counted: dict[str, int]) -> tuple[str, str] | None:
    """From the exchange to the judged trade."""
    snapshot = state.snapshot
    told = f" {state.sentence.line}"
    if not counted["received"]:
        return "received", f"No trade has arrived in this session.{told}"
    if not counted["decoded"]:
        return "decoded", f"{numbers.count(counted['received'])} trades arrived and none could be read.{told}"
    if not counted["published"]:
        return "published", f"{numbers.count(counted['decoded'])} trades were read and none published.{told}"
    if not counted["processed"]:
        words = f"{numbers.count(counted['published'])} trades wait on the stream and no drain has read one."
        return "processed", words
    if not counted["bars"]:
        return "bars", "No minute has closed yet: a rule judges closed minutes."
    if not counted["evaluated"]:
        known, needed = snapshot.minutes_known, snapshot.minutes_needed
        return "evaluated", f"Warming up: {known} of {needed} minutes of history are there; nothing is judged before."
    return None


def _no_signal(state: State, session: TradingSession, refused: QuerySet[SignalRefusal]) -> tuple[str, str]:
    holes = list(refused.values_list("reason").annotate(n=Count("id")).order_by("-n")[:REASONS_SHOWN])
    if holes:
        listed = ", ".join(f"{number} {reason}" for reason, number in holes)
        return (
            "signals",
            f"{_of(refused.count(), 'signal')} refused, for trades of the window may be missing: {listed}.",
        )
    if state.snapshot.gated is not None:
        held = state.snapshot.gated
        return "signals", f"{', '.join(held.symbols[:3])} may raise nothing before the hole ({held.reason}) has passed."
    minute = closed_minute(epoch_id=session.epoch_id)
    near = None if minute is None else nearness(session.epoch_id, parameters(session), minute)
    return "signals", _near_words(near)


def _near_words(near: Nearness | None) -> str:
    if near is None:
        return "No rule has fired, and its conditions are not of the kind that can be told here."
    if not near.judged or near.nearest is None:
        return f"No rule has fired; no minute of the last {LOOKED_AT_MINUTES} has its whole window stored."
    order = [(near.first_missing[name], name) for name in ("change", "RSI", "turnover") if name in near.first_missing]
    listed = ", ".join(f"{numbers.count(number)} for {name}" for number, name in order)
    judged = f"{numbers.count(near.judged)} minutes of symbols in the last hour"
    failed = f"{judged}, none passed: {listed}" if order else judged
    return f"No rule has fired. {failed}. Nearest {near.nearest.words}."


_TRADED: Final = frozenset({Ending.TRADED.value, Ending.TRADED_IN_PART.value, Ending.FILLING.value})
_NOT_ORDERED: Final = frozenset({Ending.APPROVED.value, Ending.NOT_SENT.value, Ending.EXPIRED_UNSENT.value})
_UNDECIDED: Final = frozenset({Ending.PENDING.value, Ending.HELD.value, Ending.UNDECIDED.value})


def _no_trade(endings: Counter[str]) -> tuple[str, str]:
    """Signals there were: how far the furthest of them came."""
    signals = sum(endings.values())
    decided = {code: n for code, n in endings.items() if code not in _UNDECIDED}
    approved = {code: n for code, n in decided.items() if not code.startswith(Ending.DENIED)}
    at_venue = {code: n for code, n in approved.items() if code not in _NOT_ORDERED}
    if at_venue:
        return (
            "trades",
            f"{_of(sum(at_venue.values()), 'order')} reached the venue and none filled: {_listed(at_venue)}.",
        )
    if approved:
        return "orders", f"{_of(sum(approved.values()), 'signal')} approved and none at the venue: {_listed(approved)}."
    return "approved", f"{_of(signals, 'signal')}, none approved: {_listed(endings)}."


def _listed(endings: dict[str, int]) -> str:
    ordered = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{number} {code_words(code) if code else 'in no known state'}" for code, number in ordered]
    more = len(shown) - REASONS_SHOWN
    return ", ".join(shown[:REASONS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _of(number: int, what: str) -> str:
    return f"{numbers.count(number)} {what}" + ("" if number == 1 else "s")
