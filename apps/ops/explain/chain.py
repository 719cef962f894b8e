"""From a signal to everything that came of it: rows of all stages, put together top-down.

Each row is looked up by its own key, never through a join: a link that is gone is named, and the rest is still shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db.models import Model, Q

from apps.engine.desk.book import MarkSet
from apps.execution.models import Order
from apps.market.models import FeedEpoch, Instrument
from apps.ops.explain import orders
from apps.ops.explain.checks import check_parts
from apps.ops.explain.endings import Ended, UnmappedEnding, ending_of
from apps.ops.explain.parts import (
    DecisionPart,
    Explanation,
    LimitsPart,
    Moment,
    OrderPart,
    SignalPart,
    StrategyPart,
    TripPart,
    WindowPart,
)
from apps.ops.explain.stream import Sources, stream_part
from apps.ops.explain.subjects import Subject
from apps.ops.explain.window import window_part
from apps.portfolio.models import TradingSession
from apps.risk.models import BreakerTrip, OrderIntent, RiskDecision, RiskLimits
from apps.risk.selectors import limits_of
from apps.signals.models import Signal, SignalRefusal, Strategy, StrategyVersion
from apps.staff import times

Row = TypeVar("Row", bound=Model)


@dataclass(slots=True)
class Chain:
    """The rows of a chain as they are found; `missing` names what should be there and is not."""

    signal: Signal | SignalRefusal
    missing: list[str] = field(default_factory=list)

    def get(self, model: type[Row], pk: Any, what: str) -> Row | None:
        """A row that must be there."""
        found = model._default_manager.filter(pk=pk).first()
        if found is None:
            self.missing.append(f"{what} {pk}")
        return found


def explained(subject: Subject, *, sources: Sources, now_ms: int) -> Explanation:
    """Everything about a subject, as of `now_ms` (wall clock).

    Raises LookupError if its instrument, session or epoch is gone.
    """
    signal = subject.signal or subject.refusal
    assert signal is not None
    chain = Chain(signal)
    instrument = chain.get(Instrument, signal.instrument_id, "instrument")
    session = chain.get(TradingSession, signal.session_id, "session")
    epoch = None if session is None else chain.get(FeedEpoch, session.epoch_id, "epoch")
    if instrument is None or session is None or epoch is None:
        raise LookupError(f"{subject.name} has lost its {', '.join(chain.missing)}")
    version = chain.get(StrategyVersion, signal.strategy_version_id, "strategy version")
    decision = intent = order = None
    if isinstance(signal, Signal):
        decision = RiskDecision.objects.filter(signal_id=signal.pk, book=signal.book).first()
        intent = None if decision is None else OrderIntent.objects.filter(decision_id=decision.pk).first()
        order = None if intent is None else Order.objects.filter(intent_id=intent.pk).first()
        if intent is None and decision is not None and decision.verdict == RiskDecision.Verdict.APPROVED:
            chain.missing.append(f"intent of decision {decision.pk}")
    ended = _ended(chain, signal, now_ms)
    decided = None if decision is None else _decision_part(chain, decision, signal, session)
    asked = None if intent is None else orders.order_part(chain.missing, intent, order)
    fills = () if order is None else orders.fill_parts(chain.missing, order)
    return Explanation(
        subject=subject.name,
        headline=_headline(signal, decided, ended, asked),
        ending=ended.code if ended else "",
        ending_words=ended.words if ended else "in no state that the closed list knows: a link is missing",
        over=bool(ended and ended.over),
        stream=stream_part(signal, epoch, instrument, sources),
        window=_window(signal, version, epoch, instrument),
        strategy=None if version is None else _strategy_part(chain, version),
        signal=_signal_part(signal, instrument, session),
        decision=decided,
        order=asked,
        fills=fills,
        position=orders.position_part(chain.missing, intent, fills, now_ms),
        ledger=orders.ledger_part(order, fills),
        way=_way(signal, decision, intent, asked, fills),
        missing=tuple(chain.missing),
    )


def _ended(chain: Chain, signal: Signal | SignalRefusal, now_ms: int) -> Ended | None:
    try:
        return ending_of(signal, now_ms)
    except UnmappedEnding as unmapped:
        chain.missing.append(str(unmapped))
        return None


def _headline(
    signal: Signal | SignalRefusal, decision: DecisionPart | None, ended: Ended | None, order: OrderPart | None
) -> str:
    """The verdict in one sentence, and what came of it."""
    if isinstance(signal, SignalRefusal):
        minutes = f"{signal.unproven_minutes} {'minute' if signal.unproven_minutes == 1 else 'minutes'}"
        return f"Refused: {minutes} of its window may lack trades ({signal.reason})."
    outcome = "" if ended is None else ended.words
    if decision is None:
        return f"No decision: {outcome or 'nothing is known of it'}."
    if order is None or ended is None:
        return decision.sentence
    return f"{decision.sentence} Then {outcome}."


def _window(
    signal: Signal | SignalRefusal, version: StrategyVersion | None, epoch: FeedEpoch, instrument: Instrument
) -> WindowPart | None:
    """Of entries only: an exit looks at its position's plan, not at a window."""
    is_entry = isinstance(signal, SignalRefusal) or signal.kind == Signal.Kind.ENTRY
    return window_part(signal, version, epoch, instrument) if version is not None and is_entry else None


def _strategy_part(chain: Chain, version: StrategyVersion) -> StrategyPart:
    strategy = chain.get(Strategy, version.strategy_id, "strategy")
    return StrategyPart(
        id=version.pk,
        name="" if strategy is None else strategy.name,
        version=version.version,
        author=version.author,
        reason=version.reason,
        created_ms=times.to_ms(version.created_at),
        parameters=dict(version.parameters),
        changes=dict(version.changes),
        engine_hash=version.engine_hash,
    )


def _signal_part(signal: Signal | SignalRefusal, instrument: Instrument, session: TradingSession) -> SignalPart:
    raised = signal if isinstance(signal, Signal) else None
    return SignalPart(
        id=signal.pk,
        kind="refused entry" if raised is None else raised.kind,
        exit_reason=raised.exit_reason if raised else "",
        position=raised.position_id if raised else None,
        symbol=instrument.symbol,
        session=session.name,
        book=signal.book,
        ts_event=signal.ts_event,
        trade_id=signal.trade_id,
        price=signal.price,
        confirmed=raised.confirmed_price if raised else None,
        bid=raised.bid if raised else None,
        ask=raised.ask if raised else None,
        quote_ts=raised.quote_ts if raised else None,
        median=raised.median_price if raised else None,
        change=signal.change,
        rsi=signal.rsi,
        turnover=signal.turnover,
        entry_id=signal.entry_id,
        ts_init=signal.ts_init,
        created_ms=times.to_ms(signal.created_at),
        price_decimals=instrument.price_decimals,
        quantity_decimals=instrument.quantity_decimals,
        currency=instrument.quote_asset,
    )


def _decision_part(
    chain: Chain, decision: RiskDecision, signal: Signal | SignalRefusal, session: TradingSession
) -> DecisionPart:
    limits = chain.get(RiskLimits, decision.limits_id, "limits version")
    marks = MarkSet.from_json(decision.marks)
    reducing = isinstance(signal, Signal) and signal.kind == Signal.Kind.EXIT
    checks = check_parts(decision.checks, currency=session.quote_asset, reducing=reducing)
    if not checks:
        chain.missing.append(f"checks of decision {decision.pk}")
    return DecisionPart(
        id=decision.pk,
        sequence=decision.sequence,
        verdict=decision.verdict,
        sentence=decision.sentence,
        reasons=tuple(decision.reasons),
        checks=checks,
        limits=None if limits is None else _limits_part(limits),
        trading_state=decision.trading_state,
        state_words=str(decision.inputs.get("state_words", "")),
        trips=_trips(decision, signal),
        currency=session.quote_asset,
        equity=decision.equity,
        exposure_before=decision.exposure_before,
        exposure_after=decision.exposure_after,
        marks_minute=marks.minute,
        marks=dict(marks.prices),
        feed_age_ms=decision.feed_age_ms,
        signal_age_ms=decision.signal_age_ms,
        decided_ms=times.to_ms(decision.decided_at),
    )


def _trips(decision: RiskDecision, signal: Signal | SignalRefusal) -> tuple[TripPart, ...]:
    """Breakers of the account, the symbol or the strategy that had tripped and were not cleared yet."""
    symbol = Instrument.objects.filter(pk=signal.instrument_id).values("symbol")
    strategy = StrategyVersion.objects.filter(pk=signal.strategy_version_id).values("strategy__name")
    concerned = Q(subject="") | Q(subject__in=symbol) | Q(subject__in=strategy)
    tripped = BreakerTrip.objects.filter(concerned, account_id=decision.account_id, sequence__lt=decision.sequence)
    still = tripped.filter(Q(cleared_at=None) | Q(cleared_at__gt=decision.decided_at))
    return tuple(
        TripPart(row.cause, row.subject, row.to_state, row.reason, dict(row.evidence), times.to_ms(row.created_at))
        for row in still.order_by("sequence")
    )


def _limits_part(row: RiskLimits) -> LimitsPart:
    limits = limits_of(row)
    values = {name: str(getattr(limits, name)) for name in limits.__dataclass_fields__}
    return LimitsPart(row.version, row.set_by, row.reason, times.to_ms(row.created_at), values)


def _way(
    signal: Signal | SignalRefusal, decision: RiskDecision | None, intent: OrderIntent | None,
    order: OrderPart | None, fills: tuple[Any, ...],
) -> tuple[Moment, ...]:  # fmt: skip
    """How long each step took, by our wall clock. The exchange's clock comes first and is compared with nothing."""
    points = [("reached the ingest", signal.ts_init), ("stored", times.to_ms(signal.created_at))]
    if decision is not None:
        points.append(("decided", times.to_ms(decision.decided_at)))
    if intent is not None and order is not None:
        points += [(event.status.lower().replace("_", " "), event.at_ms) for event in order.events]
    points += [("booked", fill.booked_ms) for fill in fills]
    points.sort(key=lambda point: point[1])
    way = [Moment("happened at the exchange", signal.ts_event, None)]
    for number, (name, at_ms) in enumerate(points):
        way.append(Moment(name, at_ms, None if number == 0 else at_ms - points[number - 1][1]))
    return tuple(way)
