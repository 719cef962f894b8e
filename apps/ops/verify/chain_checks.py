"""The chain: every link from a signal to its ledger legs is there, whatever was deleted past the constraints.

Rows are looked for by keys that they hold themselves, never through a join: a join drops the row whose partner is gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.apps import apps
from django.db.models import Count, Model, QuerySet

from apps.engine.orders import TABLE, Event, Status
from apps.engine.portfolio import Fill, Side, legs_of
from apps.engine.risk.assessment import CHECKS
from apps.engine.risk.words import plain
from apps.execution.models import Order, OrderEvent, Trade, VenueOrder
from apps.market.models import Instrument
from apps.ops.explain.endings import codes_of
from apps.ops.explain.orders import PAPER
from apps.ops.verify.result import Check
from apps.portfolio.models import Account, LedgerEntry, Position, Reservation, TradingSession
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, RiskState
from apps.signals.models import Signal, SignalRefusal, Strategy, StrategyVersion

SETTLED_AFTER_MS: Final = 30_000
DEPOSIT_SEQUENCE: Final = 1
SEQUENCE_OWNERS: Final = frozenset({"risk.RiskState", "portfolio.Account"})
"""Models that hold the newest number, not one of their own."""


def check_chain(session: TradingSession, now_ms: int) -> Check:
    """Signals, versions, decisions, checks, limits, intents, reservations, orders, events, trades, positions, legs."""
    check = Check("chain", "every link from the signals to the ledger legs is there")
    before = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(milliseconds=SETTLED_AFTER_MS)
    _check_signals(check, session)
    accounts = list(Account.objects.filter(session=session))
    check.expect(bool(accounts), f"session {session.pk} has no account")
    for account in accounts:
        _check_sequence(check, account)
        _check_limits(check, account)
        _check_decisions(check, account)
        _check_intents(check, account, before)
        _check_orders(check, account, before)
        _check_trades(check, account)
        _check_positions(check, account)
    return check


def check_endings(session: TradingSession, now_ms: int) -> Check:
    """Each signal ends in exactly one reason of the closed list."""
    check = Check("endings", "every signal ends in exactly one reason of the closed list")
    for number, kind, ending in codes_of(Signal.objects.filter(session=session), now_ms):
        check.expect(bool(ending), f"signal {number} ({kind}) ends in nothing that the closed list knows")
    check.compared += SignalRefusal.objects.filter(session=session).count()
    return check


# --- links ------------------------------------------------------------------------------------------------------------


def _exist(check: Check, rows: QuerySet[Any], key: str, model: type[Model], what: str) -> None:
    """Each row's `key` names a row of `model`. Keys that are empty name none."""
    name = rows.model._meta.verbose_name
    known = set(model._default_manager.filter(pk__in=rows.values(key)).values_list("pk", flat=True))
    for pk, target in rows.values_list("pk", key):
        if target is not None:
            check.expect(target in known, f"{name} {pk} has lost its {what} {target}")


def _check_signals(check: Check, session: TradingSession) -> None:
    for rows in (Signal.objects.filter(session_id=session.pk), SignalRefusal.objects.filter(session_id=session.pk)):
        _exist(check, rows, "strategy_version_id", StrategyVersion, "strategy version")
        _exist(check, rows, "instrument_id", Instrument, "instrument")
    signals = Signal.objects.filter(session_id=session.pk)
    _exist(check, signals, "position_id", Position, "position")
    judging = StrategyVersion.objects.filter(pk__in=signals.values("strategy_version_id"))
    _exist(check, judging, "strategy_id", Strategy, "strategy")
    strategies = StrategyVersion.objects.filter(strategy_id__in=judging.values("strategy_id"))
    versions: dict[int, list[int]] = defaultdict(list)
    for strategy, version in strategies.values_list("strategy_id", "version"):
        versions[strategy].append(version)
    for strategy, found in versions.items():
        _count_up(check, found, f"version of strategy {strategy}")


def _count_up(check: Check, numbers: Collection[int], what: str) -> None:
    """From the first to the last none is missing."""
    check.compared += len(numbers)
    missing = sorted(set(range(min(numbers, default=1), max(numbers, default=0) + 1)) - set(numbers))
    check.expect(not missing, f"{what} {_few(missing)} is gone")


def _few(numbers: Iterable[int]) -> str:
    listed = [str(number) for number in numbers]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _check_sequence(check: Check, account: Account) -> None:
    """Each number that the account has given belongs to a row: whatever took one and was deleted leaves a hole."""
    taken = {DEPOSIT_SEQUENCE}
    for model in apps.get_models():
        if model._meta.label in SEQUENCE_OWNERS or not _numbered(model):
            continue
        lookup = {"order__account": account} if model is OrderEvent else {"account": account}
        taken |= set(model._default_manager.filter(**lookup).values_list("sequence", flat=True))
    missing = sorted(set(range(1, account.sequence + 1)) - taken)
    check.compared += account.sequence
    words = f"account {account.pk} gave number {_few(missing)} and has no row for it"
    check.expect(len(missing) == _unnumbered(account), words)


def _unnumbered(account: Account) -> int:
    """How many numbers went to rows that do not carry them: changed limits."""
    return RiskLimits.objects.filter(account_id=account.pk, version__gt=1).count()


def _numbered(model: type[Model]) -> bool:
    names = {field.name for field in model._meta.concrete_fields}
    return "sequence" in names and ("account" in names or model is OrderEvent)


def _check_limits(check: Check, account: Account) -> None:
    versions = list(RiskLimits.objects.filter(account_id=account.pk).values_list("version", flat=True))
    check.expect(1 in versions, f"account {account.pk} has lost the first version of its limits")
    _count_up(check, versions, f"version of the limits of account {account.pk}")
    check.expect(RiskState.objects.filter(account_id=account.pk).exists(), f"account {account.pk} has no risk state")


def _check_decisions(check: Check, account: Account) -> None:
    decisions = RiskDecision.objects.filter(account_id=account.pk)
    _exist(check, decisions, "signal_id", Signal, "signal")
    _exist(check, decisions, "limits_id", RiskLimits, "limits version")
    wanted = [reason.value for reason, _ in CHECKS]
    intents = set(OrderIntent.objects.filter(account_id=account.pk).values_list("decision_id", flat=True))
    for pk, verdict, reasons, stored in decisions.values_list("pk", "verdict", "reasons", "checks"):
        rows = [row for row in stored if isinstance(row, dict)] if isinstance(stored, list) else []
        codes = [row.get("code") for row in rows]
        lost = [code for code in wanted if code not in codes]
        check.expect(not lost, f"decision {pk} has lost its checks: {', '.join(lost[:3])}")
        failed = [row.get("code") for row in rows if row.get("passed") is not True]
        agree = failed == list(reasons) and bool(failed) == (verdict == RiskDecision.Verdict.DENIED)
        check.expect(agree, f"decision {pk} is {verdict} for {reasons}, its checks failed: {failed}")
        approved = verdict == RiskDecision.Verdict.APPROVED
        words = f"decision {pk} is {verdict} and {'has lost its' if approved else 'has an'} intent"
        check.expect((pk in intents) == approved, words)


def _check_intents(check: Check, account: Account, before: datetime) -> None:
    intents = OrderIntent.objects.filter(account_id=account.pk)
    _exist(check, intents, "decision_id", RiskDecision, "decision")
    _exist(check, intents, "position_id", Position, "position")
    ids = intents.values("client_order_id")
    reserved = set(Reservation.objects.filter(client_order_id__in=ids).values_list("client_order_id", flat=True))
    ordered = set(Order.objects.filter(account_id=account.pk).values_list("intent_id", flat=True))
    for pk, order_id, created_at in intents.values_list("pk", "client_order_id", "created_at"):
        check.expect(order_id in reserved, f"intent {pk} has lost its reservation {order_id}")
        if created_at < before:
            check.expect(pk in ordered, f"intent {pk} has no order")
    asked = set(intents.values_list("client_order_id", flat=True))
    for order_id in Reservation.objects.filter(account_id=account.pk).values_list("client_order_id", flat=True):
        check.expect(order_id in asked, f"reservation {order_id} has lost its intent")


def _check_orders(check: Check, account: Account, before: datetime) -> None:
    orders = Order.objects.filter(account_id=account.pk)
    _exist(check, orders, "intent_id", OrderIntent, "intent")
    steps: dict[int, list[tuple[int, str, str]]] = defaultdict(list)
    events = OrderEvent.objects.filter(order_id__in=orders.values("pk")).order_by("order_id", "number")
    for order_id, number, event, status in events.values_list("order_id", "number", "event", "status"):
        steps[order_id].append((number, event, status))
    filled = dict(_sums(Trade.objects.filter(account_id=account.pk)))
    ids = orders.values("client_order_id")
    at_venue = set(VenueOrder.objects.filter(client_order_id__in=ids).values_list("client_order_id", flat=True))
    for order in orders.only("pk", "status", "venue", "client_order_id", "venue_order_id", "filled_qty", "updated_at"):
        _check_steps(check, order, steps.get(order.pk, []))
        booked = filled.get(order.pk, 0)
        words = f"order {order.pk} has filled {order.filled_qty:f}, its trades add up to {booked:f}"
        check.expect(order.filled_qty == booked, words)
        if order.venue == PAPER and order.venue_order_id and order.updated_at < before:
            there = order.client_order_id in at_venue
            check.expect(there, f"order {order.pk} is gone from the paper venue's books")


def _sums(trades: QuerySet[Trade]) -> Iterable[tuple[int, Any]]:
    sums: dict[int, Any] = defaultdict(lambda: 0)
    for order_id, quantity in trades.values_list("order_id", "quantity"):
        sums[order_id] += quantity
    return sums.items()


def _check_steps(check: Check, order: Order, steps: list[tuple[int, str, str]]) -> None:
    """Numbers from 1 on, each step as the state table allows it, the last one where the order stands."""
    status = Status.INITIALIZED
    for place, (number, event, after) in enumerate(steps, 1):
        known = event in set(Event) and TABLE.get((status, Event(event))) == after
        words = f"event {place} is gone" if number != place else f"{event} cannot come after {status}"
        check.expect(number == place and known, f"order {order.pk}: {words}")
        if number != place or after not in set(Status):
            return
        status = Status(after)
    check.expect(status == order.status, f"order {order.pk} is {order.status}, its events end in {status}")


def _check_trades(check: Check, account: Account) -> None:
    """Each fill has its order, its position and exactly its legs; no leg of a fill is without it."""
    trades = Trade.objects.filter(account_id=account.pk)
    _exist(check, trades, "order_id", Order, "order")
    _exist(check, trades, "position_id", Position, "position")
    instruments: Mapping[int, Instrument] = Instrument.objects.in_bulk(
        list(trades.values_list("instrument_id", flat=True))
    )
    legs: dict[str, list[str]] = defaultdict(list)
    rows = LedgerEntry.objects.filter(account_id=account.pk, reference__startswith="trade:").order_by(
        "reference", "leg"
    )
    for row in rows:
        legs[row.reference].append(f"{row.kind} {plain(row.amount)} {row.currency}")
    for trade in trades:
        instrument = instruments.get(trade.instrument_id)
        reference = f"trade:{trade.venue}:{trade.trade_id}"
        check.expect(instrument is not None, f"{reference} has lost its instrument")
        if instrument is not None:
            wanted, found = _legs_of(trade, instrument), legs.pop(reference, [])
            lost = [leg for leg in wanted if leg not in found]
            words = f"{reference} has lost a leg: {lost[0]}" if lost else f"{reference} has legs that are not its own"
            check.expect(found == wanted, words)
    check.expect(not legs, f"legs without their fill: {', '.join(sorted(legs)[:3])}")
    deposits = LedgerEntry.objects.filter(account_id=account.pk, reference="deposit").count()
    check.expect(deposits == 2, f"account {account.pk} has {deposits} of the 2 legs of its deposit")


def _legs_of(trade: Trade, instrument: Instrument) -> list[str]:
    fill = Fill(Side(trade.side), trade.price, trade.quantity, trade.fee, trade.fee_currency, trade.ts_event)
    legs = legs_of(fill, base=instrument.base_asset, quote=instrument.quote_asset)
    return [f"{leg.kind} {plain(leg.amount)} {leg.currency}" for leg in legs]


def _check_positions(check: Check, account: Account) -> None:
    positions = Position.objects.filter(account_id=account.pk)
    _exist(check, positions, "strategy_version_id", StrategyVersion, "strategy version")
    openers = positions.values("opened_by")
    known = set(Order.objects.filter(client_order_id__in=openers).values_list("client_order_id", flat=True))
    trades = dict(Trade.objects.filter(account_id=account.pk).values_list("position_id").annotate(n=Count("id")))
    for pk, opened_by in positions.values_list("pk", "opened_by"):
        check.expect(opened_by in known, f"position {pk} has lost the order {opened_by} that opened it")
        check.expect(trades.get(pk, 0) > 0, f"position {pk} has no trade")
