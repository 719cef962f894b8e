"""Did live do what replay says? A session's days are done again from the stream and its recorded order of decisions.

The replay begins with the session, for the state of a day is what the days before it left; what is told is whether the
day came out equal, and the first difference with both sides.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from apps.alerts.models import Alert
from apps.alerts.services import raise_alert
from apps.backtest.models import ParityAudit
from apps.backtest.services.stream_again import StreamAgain, read_again
from apps.backtest.values import BacktestRefused
from apps.engine.desk.account import Desk, DeskPosition, ExitPlan, PaperSettings
from apps.engine.desk.book import DAY_MS, MarkSet
from apps.engine.desk.deciding import Circumstances, Trigger
from apps.engine.desk.deciding import entry_key as trigger_key
from apps.engine.desk.replaying import (
    DecisionStep,
    Difference,
    EndStep,
    FillStep,
    MoneyStep,
    Replay,
    StateStep,
    Step,
    money_text,
)
from apps.engine.exits import EXIT_SIGNAL
from apps.engine.model import RaisedSignal, Scale
from apps.engine.orders import Event
from apps.engine.portfolio import Leg, LegKind
from apps.engine.risk.values import TradingState
from apps.engine.risk.words import plain
from apps.execution.models import OrderEvent, Trade, VenueOrder
from apps.market.models import EpochInstrument, ShardCursor
from apps.portfolio.models import Account, Correction, LedgerEntry, SessionReport, TradingSession
from apps.risk.models import OrderIntent, RiskDecision, RiskStateChange, Scope
from apps.risk.selectors import current_limits, limits_of, terms_of, trigger_of
from apps.signals.models import SessionStrategy, Signal, SignalRefusal, StrategyVersion
from apps.signals.services.state import specs_of

log = logging.getLogger(__name__)

UNFILLED: Final = (Event.DENY, Event.EXPIRE, Event.CANCEL, Event.REJECT)


def audit_day(*, session: TradingSession, day: date, now: datetime, segments: Path | None = None) -> ParityAudit:
    """Replay the session through the end of a UTC day and store what came of it, asked for at `now`.

    Raises `BacktestRefused` if the session decided nothing through that day: an audit that compares nothing proves
    nothing.
    """
    account = Account.objects.filter(session=session).order_by("id").first()
    end_ms = min(_day_end_ms(day), _ended_ms(session) or _day_end_ms(day))
    if account is None or not RiskDecision.objects.filter(account=account, ts_event__lt=end_ms).exists():
        raise BacktestRefused(f"{session} decided nothing through {day}: there is nothing to compare")
    again = _read(session, segments or settings.SEGMENTS_DIR)
    replay = Replay(_desk(account), again.quote_at, again.gap_at)
    difference = replay.run(_steps(account, again, end_ms)) or _missing_signal(session, account, again, end_ms)
    compared = dict(replay.compared)
    if difference is None:
        difference = _result_difference(account, replay, end_ms)
        compared["results"] = 1
    return _store(session, day, compared | {"entries": again.entries}, difference, now)


def session_of(number: int | None) -> TradingSession:
    """The session of this number, or the newest. Raises `BacktestRefused` if there is none."""
    rows = TradingSession.objects.select_related("epoch").order_by("-id")
    found = rows.first() if number is None else rows.filter(pk=number).first()
    if found is None:
        raise BacktestRefused("there is no session yet" if number is None else f"there is no session {number}")
    return found


def audit_yesterday(*, now: datetime) -> list[ParityAudit]:
    """Audit the day before `now` for every session that decided something in it and was not audited since."""
    day = (now.astimezone(UTC) - timedelta(days=1)).date()
    begin_ms, end_ms = _day_end_ms(day) - DAY_MS, _day_end_ms(day)
    decided = RiskDecision.objects.filter(ts_event__gte=begin_ms, ts_event__lt=end_ms)
    sessions = TradingSession.objects.filter(accounts__decisions__in=decided).distinct().select_related("epoch")
    waiting = sessions.exclude(parity_audits__day=day)
    return [audit_day(session=session, day=day, now=now) for session in waiting.order_by("id")]


def _ended_ms(session: TradingSession) -> int | None:
    """Event time that every shard had reached when the session ended: later triggers raised nothing. None: it runs."""
    report = SessionReport.objects.filter(session=session).first()
    reached: int | None = None if report is None else report.figures.get("reached_ms")
    return reached


def _day_end_ms(day: date) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return int(midnight.timestamp() * 1000)


def _read(session: TradingSession, segments: Path) -> StreamAgain:
    bindings = list(
        SessionStrategy.objects.filter(session__epoch=session.epoch_id)
        .select_related("version__strategy", "session")
        .order_by("id")
    )
    cursors = ShardCursor.objects.filter(epoch=session.epoch_id).values_list("shard", "seen_through")
    return read_again(epoch_id=session.epoch_id, segments=segments, specs=specs_of(bindings), ends=dict(cursors))


def _desk(account: Account) -> Desk:
    """The account as it began, with the terms and plans that hold in its session."""
    session = account.session
    members = EpochInstrument.objects.filter(epoch=session.epoch_id).select_related("instrument")
    versions = StrategyVersion.objects.filter(pk__in=Signal.objects.filter(session=session).values("strategy_version"))
    paper = session.config["paper"]
    return Desk(
        capital=account.initial,
        currency=account.currency,
        limits=limits_of(current_limits(account.pk)),
        terms={row.instrument.symbol: terms_of(row.instrument) for row in members},
        plans={version.pk: ExitPlan.of(version.parameters) for version in versions},
        paper=PaperSettings(
            int(paper["latency_ms"]), Decimal(str(paper["base_bps"])), Decimal(str(paper["impact_bps"]))
        ),
        session=session.pk,
        book=account.book,
    )


# --- the recorded steps -----------------------------------------------------------------------------------------------


def _steps(account: Account, again: StreamAgain, end_ms: int) -> Iterator[Step]:
    """Everything that took a number of the account's sequence and moved or decided something, in that order."""
    steps: list[Step] = [*_decisions(account, again, end_ms), *_fills(account), *_ends(account), *_states(account)]
    steps += _corrections(account)
    steps.sort(key=lambda step: step.sequence)
    last = max((step.sequence for step in steps if isinstance(step, DecisionStep)), default=0)
    later = RiskDecision.objects.filter(account=account, ts_event__gte=end_ms).order_by("sequence").first()
    stop = last if later is None else later.sequence - 1
    return (step for step in steps if later is None or step.sequence <= stop)


def _decisions(account: Account, again: StreamAgain, end_ms: int) -> Iterator[DecisionStep]:
    derived = {_key_of(raised): raised for raised in again.signals}
    rows = (
        RiskDecision.objects.filter(account=account, ts_event__lt=end_ms)
        .select_related("signal__instrument", "signal__position", "limits")
        .order_by("sequence")
    )
    intents = {row.decision_id: row for row in OrderIntent.objects.filter(account=account)}
    for row in rows:
        signal = row.signal
        yield DecisionStep(
            sequence=row.sequence,
            trigger_key=signal.trigger_key,
            version_id=signal.strategy_version_id,
            trigger=trigger_of(signal),
            derived=_derivation(signal, derived, again),
            opened_by=signal.position.opened_by if signal.position else None,
            around=Circumstances(
                in_session=True,
                feed_age_ms=row.feed_age_ms,
                feed_words="",
                signal_age_ms=row.signal_age_ms,
                marks=MarkSet.from_json(row.marks),
                **Circumstances.told(row.inputs),
            ),
            limits=limits_of(row.limits),
            state=TradingState(row.trading_state),
            state_words=row.inputs.get("state_words"),
            recorded=_recorded(row, intents.get(row.pk)),
        )


def _key_of(raised: RaisedSignal) -> str:
    return trigger_key(raised.version_id, raised.symbol, raised.ts_event, raised.trade_id)


def _derivation(signal: Signal, derived: dict[str, RaisedSignal], again: StreamAgain) -> Any:
    """How the signal is found again: an entry in the engine's signals, a first exit by its position's rules."""
    instrument = signal.instrument
    scale = Scale(instrument.price_decimals, instrument.quantity_decimals)
    recorded = trigger_of(signal)
    if signal.kind == Signal.Kind.ENTRY:
        found = derived.get(signal.trigger_key)
        return lambda _: None if found is None else _entry_trigger(found, scale)
    first = signal.trigger_key.endswith(":0")
    if not first or signal.exit_reason in (EXIT_SIGNAL, Signal.ExitReason.FLATTEN):
        return None

    def search(position: DeskPosition | None) -> Trigger | None:
        exit_found = None if position is None else again.exit_of(position.symbol, position.bounds, position.watch)
        if exit_found is None:
            return None
        quote = again.quote_at(signal.instrument.symbol, exit_found.ts_event)
        return Trigger(
            instrument.symbol, exit_found.ts_event, scale.price(exit_found.confirmed),
            None if quote is None else quote.bid, None if quote is None else quote.ask, None, 0, "", True,
            recorded.position_id, scale.price(exit_found.confirmed), scale.price(exit_found.price),
        )  # fmt: skip

    return search


def _entry_trigger(raised: RaisedSignal, scale: Scale) -> Trigger:
    quote, median = raised.quote, raised.median_price
    return Trigger(
        symbol=raised.symbol,
        ts_event=raised.ts_event,
        price=scale.price(raised.price),
        bid=None if quote is None else scale.price(quote.bid),
        ask=None if quote is None else scale.price(quote.ask),
        median=None if median is None else median.scaleb(-scale.price_decimals),
        unproven_minutes=raised.unproven_minutes,
        unproven_reason=raised.unproven_reason,
        is_exit=False,
        position_id=None,
        confirmed=None if raised.confirmed is None else scale.price(raised.confirmed),
        printed=scale.price(raised.price),
    )


def _recorded(row: RiskDecision, intent: OrderIntent | None) -> dict[str, Any]:
    return {
        "verdict": row.verdict,
        "reasons": row.reasons,
        "sentence": row.sentence,
        "checks": row.checks,
        "equity": money_text(row.equity),
        "exposure_before": money_text(row.exposure_before),
        "exposure_after": money_text(row.exposure_after),
        "marks": row.marks,
        "order": None
        if intent is None
        else {
            "client_order_id": intent.client_order_id,
            "side": intent.side,
            "quantity": plain(intent.quantity),
            "limit_price": plain(intent.limit_price),
        },
    }


def _fills(account: Account) -> Iterator[FillStep]:
    for row in Trade.objects.filter(account=account).select_related("order").order_by("sequence"):
        recorded = {
            "side": row.side,
            "price": plain(row.price),
            "quantity": plain(row.quantity),
            "fee": plain(row.fee),
            "fee_currency": row.fee_currency,
            "ts_event": row.ts_event,
        }
        yield FillStep(sequence=row.sequence, client_order_id=row.order.client_order_id, recorded=recorded)


def _ends(account: Account) -> Iterator[EndStep]:
    rows = OrderEvent.objects.filter(
        order__account=account, sequence__isnull=False, event__in=[event.value for event in UNFILLED]
    ).select_related("order")
    expired = set(
        VenueOrder.objects.filter(
            client_order_id__in=rows.values("order__client_order_id"), status=VenueOrder.Status.EXPIRED
        ).values_list("client_order_id", flat=True)
    )
    for row in rows:
        assert row.sequence is not None
        order_id = row.order.client_order_id
        yield EndStep(sequence=row.sequence, client_order_id=order_id, reason=row.detail, at_venue=order_id in expired)


def _states(account: Account) -> Iterator[StateStep]:
    for row in RiskStateChange.objects.filter(account=account, scope=Scope.ACCOUNT).order_by("sequence"):
        state = TradingState(row.to_state)
        since = f"since {row.created_at:%H:%M} by {row.set_by}: {row.reason}"
        yield StateStep(sequence=row.sequence, state=state, words="" if state is TradingState.ACTIVE else since)


def _corrections(account: Account) -> Iterator[MoneyStep]:
    for row in Correction.objects.filter(account=account).order_by("sequence"):
        legs = LedgerEntry.objects.filter(account=account, reference=row.reference).order_by("leg")
        yield MoneyStep(
            sequence=row.sequence,
            reference=row.reference,
            legs=tuple(Leg(LegKind(leg.kind), leg.currency, leg.amount) for leg in legs),
        )


# --- what no step shows -----------------------------------------------------------------------------------------------


def _missing_signal(session: TradingSession, account: Account, again: StreamAgain, end_ms: int) -> Difference | None:
    """A signal that the stream gives and nobody raised or refused."""
    known = set(Signal.objects.filter(session=session, book=account.book).values_list("trigger_key", flat=True))
    known |= set(SignalRefusal.objects.filter(session=session, book=account.book).values_list("trigger_key", flat=True))
    for raised in sorted(again.signals, key=lambda row: row.ts_event):
        key = _key_of(raised)
        if raised.kind == Signal.Kind.ENTRY and raised.ts_event < end_ms and key not in known:
            replayed = {"symbol": raised.symbol, "ts_event": raised.ts_event, "price_ticks": raised.price}
            return Difference("signal", key, None, {"signal": "nothing"}, replayed)
    return None


def _result_difference(account: Account, replay: Replay, end_ms: int) -> Difference | None:
    """The money: cash as the ledger has it and as the replay left it, if the replay went through the newest row."""
    if RiskDecision.objects.filter(account=account, ts_event__gte=end_ms).exists():
        return None
    account.refresh_from_db()
    if account.cash == replay.desk.cash:
        return None
    recorded, replayed = {"cash": money_text(account.cash)}, {"cash": money_text(replay.desk.cash)}
    return Difference("result", f"account {account.pk}", None, recorded, replayed)


@transaction.atomic
def _store(
    session: TradingSession, day: date, compared: dict[str, int], difference: Difference | None, now: datetime
) -> ParityAudit:
    """The audit, and with a difference the alert of it; both sides stand in the audit."""
    audit = ParityAudit.objects.create(
        session=session,
        day=day,
        holds=difference is None,
        compared=compared,
        difference={} if difference is None else asdict(difference),
        asked_at=now,
    )
    if difference is not None:
        log.critical(
            "parity of %s on %s: %s %s was %s and is %s in the replay",
            session, day, difference.what, difference.key, difference.recorded, difference.replayed,
        )  # fmt: skip
        raise_alert(
            kind=Alert.Kind.PARITY_DIFFERENCE,
            severity=Alert.Severity.CRITICAL,
            subject=f"session {session.pk} on {day}",
            words=f"A replay of {day} does not give what session {session.pk} did: first the {difference.what} "
            f"{difference.key} (parity audit {audit.pk}).",
            session_id=session.pk,
        )
    return audit
