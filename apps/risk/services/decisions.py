"""The decision: one transaction from a signal to a verdict, with everything that it was based on.

What does not depend on the account is read before its lock. Under the lock are PostgreSQL and arithmetic only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

from django.db.models import Exists, OuterRef, QuerySet

from apps.bus.failpoints import failpoint
from apps.bus.feed import FeedAge
from apps.engine.desk.book import Book, Earlier, MarkSet
from apps.engine.desk.deciding import Circumstances, Proposal, Ruled, Standing, client_order_id, decide
from apps.engine.money import to_money
from apps.engine.risk.assessment import Assessment, Ruling
from apps.engine.risk.values import EquityRecord, Intent, Limits, OrderPath, Sizing
from apps.engine.risk.values import TradingState as EngineState
from apps.engine.risk.words import plain
from apps.engine.sizing import ATR_MINUTES, average_true_range
from apps.market.models import EpochInstrument
from apps.outbox.pace import AtMostEvery
from apps.outbox.reads import Read
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account
from apps.portfolio.selectors import read_book
from apps.portfolio.services import lock_account, reserve, save_account
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, RiskState, TradingState, TripCause
from apps.risk.selectors import (
    bars_before,
    current_limits,
    earlier_orders,
    limits_of,
    marks_for,
    record_of,
    terms_of,
    trigger_of,
)
from apps.risk.services.exposure import difference
from apps.risk.services.states import state_for
from apps.risk.services.tripping import trip_for
from apps.risk.services.trips import trip
from apps.signals.models import Signal

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

log = logging.getLogger(__name__)

FeedReader = Callable[[int, str], FeedAge]
PathReader = Callable[[int], OrderPath]

_complaints = AtMostEvery(10)


class Known(TypedDict):
    """What is asked of a signal beside its columns."""

    decided: bool
    in_session: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read before the account was locked."""

    signal: Signal
    account_id: int
    around: Circumstances


@dataclass(frozen=True, slots=True)
class Decided:
    decision: RiskDecision | None
    assessment: Assessment | None


def assess(
    *, signal_id: int, now_ms: int, feed: FeedReader, path: PathReader, order_cap: Decimal | None = None
) -> RiskDecision | None:
    """Decide on a signal, once. None if it was decided before, or if an exit is held until the feed is fresh.

    `now_ms` is the wall clock; `feed` gives the age of a symbol's feed in an epoch, `path` what is known of an epoch's
    order path; `order_cap` is the hard cap of an order's notional, None if the operator set none.
    """
    facts = _gather(signal_id, now_ms, feed, path, order_cap)
    if facts is None:
        return None
    decided = retry_tx(lambda: _decide(facts))
    _report(facts.signal, decided)
    return decided.decision


def _signal(pk: int) -> QuerySet[WithAnnotations[Signal, Known]]:
    decisions = RiskDecision.objects.filter(signal=OuterRef("pk"), book=OuterRef("book"))
    members = EpochInstrument.objects.filter(epoch=OuterRef("session__epoch"), instrument=OuterRef("instrument"))
    found = Signal.objects.filter(pk=pk).select_related("session__epoch", "instrument", "strategy_version__strategy")
    return found.annotate(decided=Exists(decisions), in_session=Exists(members))


_SIGNAL = Read(_signal, int)
_ACCOUNT = Read(
    lambda session, book: Account.objects.filter(session=session, book=book).values_list("pk", flat=True), int, str
)
_DECISION = Read(lambda signal, book: RiskDecision.objects.filter(signal=signal, book=book).values_list("pk"), int, str)


def _gather(signal_id: int, now_ms: int, feed: FeedReader, path: PathReader, order_cap: Decimal | None) -> Facts | None:
    signal = _SIGNAL.first(signal_id)
    if signal is None or signal.decided:
        if signal is None:
            log.warning("signal %d does not exist", signal_id)
        return None
    account_id = _ACCOUNT.first(signal.session_id, signal.book)
    if account_id is None:
        raise Account.DoesNotExist(f"session {signal.session_id} has no account for book {signal.book}")
    epoch_id, symbol = signal.session.epoch_id, signal.instrument.symbol
    age = feed(epoch_id, symbol)
    around = Circumstances(
        in_session=signal.in_session,
        feed_age_ms=age.age_ms,
        feed_words=age.words,
        signal_age_ms=max(now_ms - signal.ts_init, 0),
        marks=marks_for(epoch_id=epoch_id, ts_event=signal.ts_event, symbol=symbol, price=trigger_of(signal).price),
        path=path(epoch_id),
        order_cap=order_cap,
    )
    return Facts(signal, account_id, around)


def _decide(facts: Facts) -> Decided:
    signal = facts.signal
    account = lock_account(facts.account_id)
    failpoint("risk.after_lock")
    if _DECISION.rows(signal.pk, signal.book):
        return Decided(None, None)
    strategy, symbol = signal.strategy_version.strategy.name, signal.instrument.symbol
    state, holds, words = state_for(account, strategy, symbol)
    version, book = current_limits(account.pk), read_book(account.pk)
    if _distrust(account, state, book):
        state, holds, words = state_for(account, strategy, symbol)
    limits = limits_of(version)

    def earlier_of(intent: Intent) -> Earlier:
        return earlier_orders(account_id=account.pk, ts_event=signal.ts_event, intent=intent, limits=limits)

    standing = Standing(
        trading_state=EngineState(holds),
        state_words=words,
        currency=account.currency,
        cash=account.cash,
        book=book,
        known=MarkSet.from_json(state.marks),
        record=record_of(state),
    )
    around = _under_lock(facts, state, limits)
    ruled = decide(trigger_of(signal), terms_of(signal.instrument), around, standing, limits, earlier_of)
    decision = None
    if ruled.assessment.ruling is not Ruling.HELD:
        account.sequence += 1
        inputs = {**around.recorded(), "state_words": words}
        decision = _store(facts, account, state, version, ruled, holds, inputs)
    trip_for(account=account, state=state, symbol=symbol, ruled=ruled)
    save_account(account)
    failpoint("risk.before_commit")
    return Decided(decision, ruled.assessment)


def _distrust(account: Account, state: RiskState, book: Book) -> bool:
    """Whether stored and recomputed exposure differ. Only rows changed behind our back do that: then open nothing."""
    off = difference(state, book)
    if not off:
        return False
    log.critical("stored exposure of account %d is off by %s", account.pk, plain(off))
    trip(
        account=account,
        state=state,
        cause=TripCause.EXPOSURE_DIFFERENCE,
        evidence={"stored": plain(state.exposure), "off_by": plain(off)},
        reason=f"stored exposure differs from the recomputed one by {plain(off)}",
    )
    return True


def _under_lock(facts: Facts, state: RiskState, limits: Limits) -> Circumstances:
    """The circumstances with what only the account's row and its limits tell."""
    path = replace(facts.around.path, differences=state.recon_differences, recon_words=state.recon_words)
    around = replace(facts.around, path=path)
    if limits.sizing is not Sizing.VOLATILITY:
        return around
    signal = facts.signal
    bars = bars_before(
        epoch_id=signal.session.epoch_id, instrument_id=signal.instrument_id, ts_event=signal.ts_event,
        count=ATR_MINUTES + 1,
    )  # fmt: skip
    return replace(around, volatility=average_true_range(bars))


def _store(
    facts: Facts,
    account: Account,
    state: RiskState,
    version: RiskLimits,
    ruled: Ruled,
    holds: TradingState,
    inputs: dict[str, Any],
) -> RiskDecision:
    signal = facts.signal
    decision = RiskDecision.objects.create(
        signal=signal,
        book=signal.book,
        account=account,
        sequence=account.sequence,
        verdict=RiskDecision.Verdict.APPROVED if ruled.approved else RiskDecision.Verdict.DENIED,
        reasons=[reason.value for reason in ruled.assessment.reasons],
        sentence=ruled.assessment.sentence[:300],
        checks=ruled.checks,
        inputs=inputs,
        limits=version,
        trading_state=holds,
        equity=to_money(ruled.equity),
        exposure_before=to_money(ruled.exposure_before),
        exposure_after=to_money(ruled.exposure_after),
        marks=ruled.marks.as_json(),
        ts_event=signal.ts_event,
        feed_age_ms=facts.around.feed_age_ms,
        signal_age_ms=facts.around.signal_age_ms,
    )
    if ruled.approved:
        _approve(decision, account, signal, ruled.proposal)
    _remember(state, decision, ruled.record)
    return decision


def _approve(decision: RiskDecision, account: Account, signal: Signal, proposal: Proposal) -> None:
    intent = proposal.intent
    row = OrderIntent.objects.create(
        decision=decision,
        client_order_id=client_order_id(signal.session_id, signal.book, signal.trigger_key),
        account=account,
        instrument=signal.instrument,
        side=intent.side.value,
        quantity=intent.quantity,
        limit_price=intent.limit_price,
        reducing=intent.reducing,
        position_id=proposal.position_id,
        ts_event=signal.ts_event,
    )
    reserve(
        account=account,
        instrument=signal.instrument,
        client_order_id=row.client_order_id,
        promise=proposal.promise,
        ts_event=signal.ts_event,
        position_id=proposal.position_id,
    )
    record("IntentApproved", intent_id=row.pk)


def _remember(state: RiskState, decision: RiskDecision, record: EquityRecord) -> None:
    """The exposure after this decision on its marks, and the day's and the highest equity in event time."""
    state.day, state.day_start_equity = record.day, _money(record.day_start)
    state.peak_equity, state.last_equity = _money(record.peak), _money(record.last)
    state.exposure = decision.exposure_after
    state.marks = decision.marks
    state.sequence = decision.sequence
    state.save(
        update_fields=["day", "day_start_equity", "peak_equity", "last_equity", "exposure", "marks", "sequence"]
    )  # fmt: skip


def _money(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else to_money(amount)


def _report(signal: Signal, decided: Decided) -> None:
    """Say in the log what somebody should look at: alerts of an order that was sent, and exits that are held."""
    if decided.assessment is None:
        return
    if decided.decision is None:
        if _complaints.ready(("held", signal.pk)):
            log.warning("exit signal %d of %s: %s", signal.pk, signal.instrument.symbol, decided.assessment.sentence)
        return
    for verdict in decided.assessment.alerts:
        log.warning("order of signal %d: %s: %s", signal.pk, verdict.reason, verdict.note)
