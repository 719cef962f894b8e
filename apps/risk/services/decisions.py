"""The decision: one transaction from a signal to a verdict, with everything that it was based on.

What does not depend on the account is read before its lock. Under the lock are PostgreSQL and arithmetic only.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Exists, OuterRef

from apps.bus.feed import FeedAge
from apps.engine.money import ZERO, to_money, total
from apps.engine.portfolio import Promise, Side, opening_promise, reducing_promise
from apps.engine.risk.assessment import Assessment, Ruling
from apps.engine.risk.assessment import assess as run_checks
from apps.engine.risk.values import Intent, Limits, Outcome, Verdict, View
from apps.engine.risk.values import TradingState as EngineState
from apps.engine.risk.words import plain
from apps.engine.sizing import exit_limit, opening_limit, opening_quantity
from apps.market.models import EpochInstrument
from apps.outbox.pace import AtMostEvery
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account
from apps.portfolio.selectors import Book, read_book
from apps.portfolio.services import free_cash, lock_account, reserve, save_account
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, RiskState, TradingState
from apps.risk.selectors import MarkSet, current_limits, earlier_orders, limits_of, marks_for
from apps.risk.services.exposure import difference
from apps.risk.services.states import SYSTEM, change_state
from apps.signals.models import Signal

log = logging.getLogger(__name__)

FeedReader = Callable[[int, str], FeedAge]

_complaints = AtMostEvery(10)


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read before the account was locked."""

    signal: Signal
    account_id: int
    in_session: bool
    feed: FeedAge
    signal_age_ms: int
    marks: MarkSet


@dataclass(frozen=True, slots=True)
class Ground:
    """The account as it is under its lock, valued at the decision's marks."""

    account: Account
    state: RiskState
    version: RiskLimits
    limits: Limits
    book: Book
    marks: MarkSet
    equity: Decimal
    unvalued: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The order that the signal asks for, sized, with what it would reserve."""

    intent: Intent
    promise: Promise
    position_id: int | None


@dataclass(frozen=True, slots=True)
class Decided:
    decision: RiskDecision | None
    assessment: Assessment | None


def assess(*, signal_id: int, now_ms: int, feed: FeedReader) -> RiskDecision | None:
    """Decide on a signal, once. None if it was decided before, or if an exit is held until the feed is fresh.

    `now_ms` is the wall clock; `feed` gives the age of a symbol's feed in an epoch.
    """
    facts = _gather(signal_id, now_ms, feed)
    if facts is None:
        return None
    decided = retry_tx(lambda: _decide(facts))
    _report(facts.signal, decided)
    return decided.decision


def client_order_id(signal: Signal) -> str:
    """The same trigger gives the same order id in every run, so a venue can tell a repeated order from a new one."""
    name = f"{signal.session_id}|{signal.book}|{signal.trigger_key}"
    return "c" + hashlib.sha256(name.encode()).hexdigest()[:24]


def _gather(signal_id: int, now_ms: int, feed: FeedReader) -> Facts | None:
    decisions = RiskDecision.objects.filter(signal=OuterRef("pk"), book=OuterRef("book"))
    members = EpochInstrument.objects.filter(epoch=OuterRef("session__epoch"), instrument=OuterRef("instrument"))
    signal = (
        Signal.objects.filter(pk=signal_id)
        .select_related("session__epoch", "instrument")
        .annotate(decided=Exists(decisions), in_session=Exists(members))
        .first()
    )
    if signal is None or signal.decided:
        if signal is None:
            log.warning("signal %d does not exist", signal_id)
        return None
    account = Account.objects.only("pk").get(session=signal.session_id, book=signal.book)
    epoch_id, symbol = signal.session.epoch_id, signal.instrument.symbol
    return Facts(
        signal=signal,
        account_id=account.pk,
        in_session=signal.in_session,
        feed=feed(epoch_id, symbol),
        signal_age_ms=max(now_ms - signal.ts_init, 0),
        marks=marks_for(epoch_id=epoch_id, ts_event=signal.ts_event, symbol=symbol, price=signal.price),
    )


def _decide(facts: Facts) -> Decided:
    signal = facts.signal
    account = lock_account(facts.account_id)
    if RiskDecision.objects.filter(signal=signal, book=signal.book).exists():
        return Decided(None, None)
    ground = _look(facts, account)
    proposal = _propose(signal, ground)
    view = _view(facts, ground, proposal)
    assessment = run_checks(proposal.intent, view, ground.limits)
    decision = None
    if assessment.ruling is not Ruling.HELD:
        account.sequence += 1
        decision = _store(facts, ground, proposal, view, assessment)
    save_account(account)
    return Decided(decision, assessment)


def _look(facts: Facts, account: Account) -> Ground:
    state = RiskState.objects.get(account=account)
    version, book = current_limits(account.pk), read_book(account.pk)
    _distrust(account, state, book)
    marks = facts.marks.narrowed({*book.symbols, facts.signal.instrument.symbol}, MarkSet.from_json(state.marks))
    value, unvalued = book.worth(marks.prices)
    equity = total([account.cash, value])
    return Ground(account, state, version, limits_of(version), book, marks, equity, unvalued)


def _distrust(account: Account, state: RiskState, book: Book) -> None:
    """Stored and recomputed exposure differ only if rows were changed behind our back: then nothing may be opened."""
    off = difference(state, book)
    if not off:
        return
    log.critical("stored exposure of account %d is off by %s", account.pk, plain(off))
    if state.trading_state == TradingState.ACTIVE:
        reason = f"stored exposure differs from the recomputed one by {plain(off)}"
        change_state(account=account, state=state, to_state=TradingState.REDUCING, set_by=SYSTEM, reason=reason)


def _propose(signal: Signal, ground: Ground) -> Proposal:
    instrument, limits = signal.instrument, ground.limits
    common: dict[str, Any] = {"symbol": instrument.symbol, "price": signal.price}
    if signal.kind == Signal.Kind.EXIT:
        held = next((row for row in ground.book.positions if row.position_id == signal.position_id), None)
        quantity = held.quantity if held else ZERO
        reference = signal.price if signal.bid is None else signal.bid
        limit = exit_limit(reference, limits.exit_band, instrument.price_decimals)
        intent = Intent(**common, side=Side.SELL, reducing=True, limit_price=limit, quantity=quantity)
        return Proposal(intent, reducing_promise(quantity, instrument.base_asset), signal.position_id)
    limit = opening_limit(signal.price, limits.collar, instrument.price_decimals)
    quantity = opening_quantity(
        order_size=limits.order_size,
        equity=ground.equity,
        price=signal.price,
        limit_price=limit,
        quantity_decimals=instrument.quantity_decimals,
        notional_max=instrument.notional_max,
    )
    promise = opening_promise(quantity, limit, instrument.taker_fee, instrument.quote_asset)
    intent = Intent(**common, side=Side.BUY, reducing=False, limit_price=limit, quantity=quantity)
    return Proposal(intent, promise, None)


def _view(facts: Facts, ground: Ground, proposal: Proposal) -> View:
    signal, instrument, symbol = facts.signal, facts.signal.instrument, facts.signal.instrument.symbol
    account, state, limits, book = ground.account, ground.state, ground.limits, ground.book
    earlier = earlier_orders(
        account_id=account.pk,
        ts_event=signal.ts_event,
        instrument_id=instrument.pk,
        side=proposal.intent.side.value,
        quantity=proposal.intent.quantity,
        duplicate_ms=limits.duplicate_ms,
    )
    exits = [row for row in book.reservations if row.reducing and row.position_id == signal.position_id]
    return View(
        trading_state=EngineState(state.trading_state),
        state_words=_since(state),
        in_session=facts.in_session,
        tradable=instrument.tradable,
        feed_age_ms=facts.feed.age_ms,
        feed_words=facts.feed.words,
        signal_age_ms=facts.signal_age_ms,
        unproven_minutes=signal.unproven_minutes,
        unproven_reason=signal.unproven_reason,
        bid=signal.bid,
        ask=signal.ask,
        median=signal.median_price,
        quantity_min=instrument.quantity_min,
        notional_min=instrument.notional_min,
        currency=account.currency,
        equity=ground.equity,
        free_cash=free_cash(account, book.reserved(account.currency)),
        needed_cash=proposal.promise.amount,
        exposure=book.exposure(ground.marks.prices),
        symbol_exposure=book.exposure(ground.marks.prices, symbol),
        unvalued=ground.unvalued,
        positions_symbol=book.entries_of(symbol),
        open_orders=len(book.reservations),
        open_orders_symbol=sum(row.instrument_id == instrument.pk for row in book.reservations),
        open_exits=len(exits) if signal.position_id else 0,
        orders_second=earlier.orders_second,
        orders_minute=earlier.orders_minute,
        orders_day=earlier.orders_day,
        exits_second=earlier.exits_second,
        twin_ms=earlier.twin_ms,
    )


def _since(state: RiskState) -> str:
    if state.trading_state == TradingState.ACTIVE:
        return ""
    return f"since {state.state_since:%H:%M} by {state.state_set_by}: {state.state_reason}"


def _store(facts: Facts, ground: Ground, proposal: Proposal, view: View, assessment: Assessment) -> RiskDecision:
    signal, account = facts.signal, ground.account
    approved = assessment.ruling is Ruling.APPROVED
    added = proposal.promise.notional if approved else ZERO
    decision = RiskDecision.objects.create(
        signal=signal,
        book=signal.book,
        account=account,
        sequence=account.sequence,
        verdict=RiskDecision.Verdict.APPROVED if approved else RiskDecision.Verdict.DENIED,
        reasons=[reason.value for reason in assessment.reasons],
        sentence=assessment.sentence[:300],
        checks=[_as_json(verdict) for verdict in assessment.verdicts],
        limits=ground.version,
        trading_state=ground.state.trading_state,
        equity=to_money(view.equity),
        exposure_before=to_money(view.exposure),
        exposure_after=to_money(total([view.exposure, added])),
        marks=ground.marks.as_json(),
        ts_event=signal.ts_event,
        feed_age_ms=facts.feed.age_ms,
        signal_age_ms=facts.signal_age_ms,
    )
    if approved:
        _approve(decision, account, signal, proposal)
    _remember(ground.state, decision)
    return decision


def _approve(decision: RiskDecision, account: Account, signal: Signal, proposal: Proposal) -> None:
    intent = proposal.intent
    row = OrderIntent.objects.create(
        decision=decision,
        client_order_id=client_order_id(signal),
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


def _remember(state: RiskState, decision: RiskDecision) -> None:
    """The exposure after this decision on its marks, and the day's and the highest equity in event time."""
    day = datetime.fromtimestamp(decision.ts_event / 1000, UTC).date()
    if state.day is None or day > state.day:
        state.day, state.day_start_equity = day, decision.equity
    state.peak_equity = decision.equity if state.peak_equity is None else max(state.peak_equity, decision.equity)
    state.exposure = decision.exposure_after
    state.marks = decision.marks
    state.sequence = decision.sequence
    state.save(update_fields=["day", "day_start_equity", "peak_equity", "exposure", "marks", "sequence"])


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "code": verdict.reason.value,
        "value": None if verdict.value is None else plain(verdict.value),
        "limit": None if verdict.limit is None else plain(verdict.limit),
        "passed": verdict.outcome is not Outcome.FAILED,
        "note": verdict.note,
    }


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
