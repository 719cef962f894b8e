"""How a signal ended: exactly one reason of a closed list. There is no "other".

`ending_of` reads the rows one by one, `with_endings` asks PostgreSQL for many signals at once; a test holds them
against each other. What neither knows is a defect: `UnmappedEnding` here, an empty text there, a fault in `verify`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from django.db.models import Case, CharField, Exists, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.fields.json import KT
from django.db.models.functions import Concat

from apps.engine.orders import Event
from apps.engine.risk.values import Reason
from apps.engine.risk.words import CHECK_NAMES
from apps.execution.models import Order, OrderEvent, OrderStatus
from apps.risk.models import OrderIntent, RiskDecision
from apps.signals.models import Signal, SignalRefusal
from apps.staff import times

WAITING_MAX_MS: Final = 5_000


class Ending(StrEnum):
    """The closed list. `denied` always carries the code of the first check that failed, as `denied:EXPOSURE`."""

    REFUSED = "refused"
    DENIED = "denied"
    NOT_SENT = "not_sent"
    EXPIRED_UNSENT = "expired_unsent"
    NEVER_RECEIVED = "never_received"
    REJECTED = "rejected"
    CANCELED = "canceled"
    EXPIRED_AT_VENUE = "expired_at_venue"
    TRADED = "traded"
    TRADED_IN_PART = "traded_in_part"
    # not over yet
    PENDING = "pending"
    HELD = "held"
    UNDECIDED = "undecided"
    APPROVED = "approved"
    AT_VENUE = "at_venue"
    FILLING = "filling"
    UNKNOWN = "unknown"


WORDS: Final[dict[Ending, str]] = {
    Ending.REFUSED: "refused: its window has holes, so no signal was raised",
    Ending.DENIED: "denied by risk",
    Ending.NOT_SENT: "approved, and refused when it was about to be sent",
    Ending.EXPIRED_UNSENT: "approved, and expired before it was sent",
    Ending.NEVER_RECEIVED: "sent, and never received by the venue",
    Ending.REJECTED: "rejected by the venue",
    Ending.CANCELED: "canceled",
    Ending.EXPIRED_AT_VENUE: "expired at the venue without a fill",
    Ending.TRADED: "traded",
    Ending.TRADED_IN_PART: "traded in part; the rest ended without a fill",
    Ending.PENDING: "waits for its decision",
    Ending.HELD: "held until the feed is fresh; risk is asked again every second",
    Ending.UNDECIDED: "undecided: no decision was ever stored",
    Ending.APPROVED: "approved, waits to be sent",
    Ending.AT_VENUE: "at the venue, not filled yet",
    Ending.FILLING: "at the venue, filled in part",
    Ending.UNKNOWN: "unknown: the venue has not said whether it has the order",
}
OPEN: Final = frozenset(
    {Ending.PENDING, Ending.HELD, Ending.UNDECIDED, Ending.APPROVED, Ending.AT_VENUE, Ending.FILLING, Ending.UNKNOWN}
)
"""Endings that a later event may still change."""


class UnmappedEnding(LookupError):
    """Rows in a combination that the closed list does not know: a link is missing, or a status is new."""


@dataclass(frozen=True, slots=True)
class Ended:
    """`reason` is the code of the check that denied, else empty; `detail` what was noted with it."""

    ending: Ending
    reason: str = ""
    detail: str = ""

    @property
    def code(self) -> str:
        """As it is counted: `traded`, `denied:EXPOSURE`."""
        return f"{self.ending}:{self.reason}" if self.ending is Ending.DENIED else self.ending.value

    @property
    def over(self) -> bool:
        return self.ending not in OPEN

    @property
    def words(self) -> str:
        """One line for people."""
        return code_words(self.code) + (f" ({self.detail})" if self.detail else "")


def code_words(code: str) -> str:
    """An ending's code in words. Raises `UnmappedEnding` for a code that is not in the list."""
    name, _, reason = code.partition(":")
    if name not in set(Ending) or (name == Ending.DENIED) != (reason in set(Reason)):
        raise UnmappedEnding(f"there is no ending {code!r}")
    return f"{WORDS[Ending(name)]}: {CHECK_NAMES[Reason(reason)]}" if reason else WORDS[Ending(name)]


def ending_of(signal: Signal | SignalRefusal, now_ms: int) -> Ended:
    """How the signal ended, as of `now_ms` (wall clock). Raises `UnmappedEnding`."""
    if isinstance(signal, SignalRefusal):
        return Ended(Ending.REFUSED, detail=signal.reason)
    decision = RiskDecision.objects.filter(signal=signal, book=signal.book).order_by("id").first()
    if decision is None:
        return _undecided(signal, now_ms)
    if decision.verdict == RiskDecision.Verdict.DENIED:
        reason = str(decision.reasons[0]) if decision.reasons else ""
        if reason not in set(Reason):
            raise UnmappedEnding(f"decision {decision.pk} is denied without a known reason: {decision.reasons}")
        return Ended(Ending.DENIED, reason)
    order = Order.objects.filter(intent__decision=decision).order_by("id").first()
    if order is not None:
        return _of_order(order)
    if OrderIntent.objects.filter(decision=decision).exists():
        return Ended(Ending.APPROVED)
    raise UnmappedEnding(f"decision {decision.pk} is {decision.verdict} and has no intent")


def _undecided(signal: Signal, now_ms: int) -> Ended:
    young = now_ms - times.to_ms(signal.created_at) < WAITING_MAX_MS
    if signal.session.ended_at is not None:
        return Ended(Ending.UNDECIDED)
    if young:
        return Ended(Ending.PENDING)
    return Ended(Ending.HELD if signal.kind == Signal.Kind.EXIT else Ending.UNDECIDED)


def _of_order(order: Order) -> Ended:
    status, filled = OrderStatus(order.status), order.filled_qty > 0
    sent = OrderEvent.objects.filter(order=order, event=Event.SUBMIT.value).exists()
    ended = _ENDINGS.get(status)
    if ended is None:
        raise UnmappedEnding(f"order {order.pk} is {status}")
    if filled and status in _UNFILLED:
        ended = Ending.TRADED_IN_PART
    elif status == OrderStatus.EXPIRED:
        ended = _expired(sent=sent, known=bool(order.venue_order_id))
    return Ended(ended, detail=order.reason)


def _expired(*, sent: bool, known: bool) -> Ending:
    if not sent:
        return Ending.EXPIRED_UNSENT
    return Ending.EXPIRED_AT_VENUE if known else Ending.NEVER_RECEIVED


_ENDINGS: Final[dict[OrderStatus, Ending]] = {
    OrderStatus.INITIALIZED: Ending.APPROVED,
    OrderStatus.DENIED: Ending.NOT_SENT,
    OrderStatus.SUBMITTING: Ending.AT_VENUE,
    OrderStatus.SUBMITTED: Ending.AT_VENUE,
    OrderStatus.ACCEPTED: Ending.AT_VENUE,
    OrderStatus.PARTIALLY_FILLED: Ending.FILLING,
    OrderStatus.FILLED: Ending.TRADED,
    OrderStatus.CANCELED: Ending.CANCELED,
    OrderStatus.REJECTED: Ending.REJECTED,
    OrderStatus.EXPIRED: Ending.EXPIRED_AT_VENUE,
    OrderStatus.UNKNOWN: Ending.UNKNOWN,
}
_UNFILLED: Final = frozenset({OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED, OrderStatus.DENIED})


# --- many at once -----------------------------------------------------------------------------------------------------


def with_endings(signals: QuerySet[Signal], now_ms: int) -> QuerySet[Signal]:
    """The same signals, each with `ending`: a code as `Ended.code` gives it, empty for what the list does not know."""
    decision = RiskDecision.objects.filter(**_through("")).order_by("id")
    order = Order.objects.filter(**_through("intent__decision__")).order_by("id")
    intent = OrderIntent.objects.filter(**_through("decision__"))
    sent = OrderEvent.objects.filter(**_through("order__intent__decision__"), event=Event.SUBMIT.value)
    asked = signals.annotate(
        of_verdict=Subquery(decision.values("verdict")[:1]),
        of_reason=Subquery(decision.annotate(first=KT("reasons__0")).values("first")[:1]),
        of_intent=Exists(intent),
        of_status=Subquery(order.values("status")[:1]),
        of_filled=Subquery(order.values("filled_qty")[:1]),
        of_venue_id=Subquery(order.values("venue_order_id")[:1]),
        of_sent=Exists(sent),
    )
    return asked.annotate(ending=Case(*_cases(now_ms), default=Value(""), output_field=CharField()))


def codes_of(signals: QuerySet[Signal], now_ms: int) -> list[tuple[int, str, str]]:
    """(number, kind, code of its ending) of each signal. One query."""
    rows: Any = with_endings(signals, now_ms)
    return list(rows.values_list("pk", "kind", "ending"))


def _through(way: str) -> dict[str, Any]:
    return {f"{way}signal": OuterRef("pk"), f"{way}book": OuterRef("book")}


def _cases(now_ms: int) -> list[When]:
    before = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(milliseconds=WAITING_MAX_MS)
    undecided = Q(of_verdict=None)
    denied = Q(of_verdict=RiskDecision.Verdict.DENIED)
    ours = Q(of_verdict=RiskDecision.Verdict.APPROVED)
    expired = ours & Q(of_status=OrderStatus.EXPIRED)
    unfilled = ours & Q(of_status__in=[status.value for status in _UNFILLED])
    statuses = [
        When(ours & Q(of_status=status.value), then=_is(ending))
        for status, ending in _ENDINGS.items()
        if status != OrderStatus.EXPIRED
    ]
    return [
        When(undecided & Q(session__ended_at__isnull=False), then=_is(Ending.UNDECIDED)),
        When(undecided & Q(created_at__gt=before), then=_is(Ending.PENDING)),
        When(undecided & Q(kind=Signal.Kind.EXIT), then=_is(Ending.HELD)),
        When(undecided, then=_is(Ending.UNDECIDED)),
        When(
            denied & Q(of_reason__in=[reason.value for reason in Reason]),
            then=Concat(Value(f"{Ending.DENIED}:"), F("of_reason"), output_field=CharField()),
        ),
        When(unfilled & Q(of_filled__gt=0), then=_is(Ending.TRADED_IN_PART)),
        When(expired & Q(of_sent=False), then=_is(Ending.EXPIRED_UNSENT)),
        When(expired & Q(of_venue_id=""), then=_is(Ending.NEVER_RECEIVED)),
        When(expired, then=_is(Ending.EXPIRED_AT_VENUE)),
        *statuses,
        When(ours & Q(of_status=None, of_intent=True), then=_is(Ending.APPROVED)),
    ]


def _is(ending: Ending) -> Value:
    return Value(ending.value)
