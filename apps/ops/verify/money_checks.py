"""I4, I6 and I7: decisions, money and exposure, recomputed here from the rows alone."""

from __future__ import annotations

import time
from collections import defaultdict
from decimal import Decimal
from typing import Final

from django.db.models import Count, QuerySet, Sum

from apps.execution.models import Trade
from apps.ops.verify.result import Check
from apps.portfolio.models import Account, LedgerEntry, Position, Reservation, TradingSession
from apps.risk.models import OrderIntent, RiskDecision, RiskState
from apps.signals.models import Signal

UNDECIDED_MAX_MS: Final = 30_000
ZERO: Final = Decimal(0)


def check_decisions(session: TradingSession) -> Check:
    """I4: one signal per trigger, one decision per signal, one intent per approval."""
    check = Check("I4", "each trigger raised one signal, each signal has one decision, each approval one intent")
    signals = Signal.objects.filter(session=session)
    doubled = signals.values("book", "trigger_key").annotate(n=Count("id")).filter(n__gt=1)
    check.faults += [f"signals twice for {row['trigger_key']}" for row in doubled[:3]]
    now_ms = time.time_ns() // 1_000_000
    for row in signals.annotate(n=Count("decisions")).values("id", "n", "created_at", "kind"):
        waiting = row["n"] == 0 and now_ms - row["created_at"].timestamp() * 1000 < UNDECIDED_MAX_MS
        if not waiting:
            check.expect(row["n"] == 1, f"signal {row['id']} ({row['kind']}) has {row['n']} decisions")
    decisions = RiskDecision.objects.filter(signal__session=session).annotate(n=Count("intents"))
    for found in decisions.values("id", "verdict", "n"):
        wanted = 1 if found["verdict"] == RiskDecision.Verdict.APPROVED else 0
        check.expect(found["n"] == wanted, f"decision {found['id']} ({found['verdict']}) has {found['n']} intents")
    return check


def check_money(session: TradingSession) -> Check:
    """I6: trades add up to positions, ledger legs to zero, cash legs to the account's cash; no cash below zero."""
    check = Check("I6", "trades add up to positions, ledger legs to zero and to the account's cash")
    for account in Account.objects.filter(session=session):
        _check_positions(check, account)
        _check_ledger(check, account)
        _check_trades_booked(check, account)
    return check


def _check_positions(check: Check, account: Account) -> None:
    sums: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for trade in Trade.objects.filter(account=account):
        sums[trade.position_id] += trade.quantity if trade.side == OrderIntent.Side.BUY else -trade.quantity
    for position in Position.objects.filter(account=account):
        check.expect(
            position.quantity == sums[position.pk] and position.quantity >= 0,
            f"position {position.pk} holds {position.quantity:f}, its trades add up to {sums[position.pk]:f}",
        )
        closed = position.status == Position.Status.CLOSED
        check.expect(closed == (position.quantity == 0), f"position {position.pk} is {position.status}, not empty")


def _check_ledger(check: Check, account: Account) -> None:
    legs = LedgerEntry.objects.filter(account=account)
    for row in legs.values("reference", "currency").annotate(total=Sum("amount")):
        check.expect(
            row["total"] == 0, f"legs of {row['reference']} in {row['currency']} add up to {row['total'].normalize():f}"
        )
    cash = legs.filter(kind=LedgerEntry.Kind.CASH, currency=account.currency).aggregate(total=Sum("amount"))["total"]
    check.expect(account.cash == (cash or ZERO), f"cash is {account.cash:f}, its legs add up to {cash or ZERO:f}")
    check.expect(account.cash >= 0, f"cash is {account.cash:f}")
    assets = legs.filter(kind=LedgerEntry.Kind.ASSET).values("currency").annotate(total=Sum("amount"))
    held = {row["currency"]: row["total"] for row in assets}
    for base, quantity in _held(account).items():
        check.expect(
            held.get(base, ZERO) == quantity,
            f"{base}: positions hold {quantity:f}, asset legs {held.get(base, ZERO):f}",
        )


def _held(account: Account) -> dict[str, Decimal]:
    rows = Position.objects.filter(account=account).values("instrument__base_asset").annotate(total=Sum("quantity"))
    return {row["instrument__base_asset"]: row["total"] for row in rows}


def _check_trades_booked(check: Check, account: Account) -> None:
    """Every fill moved exactly its own notional and quantity through the ledger."""
    booked: dict[tuple[str, str], dict[str, Decimal]] = defaultdict(dict)
    for leg in LedgerEntry.objects.filter(account=account, kind__in=[LedgerEntry.Kind.CASH, LedgerEntry.Kind.ASSET]):
        sums = booked[(leg.reference, leg.kind)]
        sums[leg.currency] = sums.get(leg.currency, ZERO) + leg.amount
    for trade in Trade.objects.filter(account=account).select_related("instrument"):
        reference = f"trade:{trade.venue}:{trade.trade_id}"
        sign = 1 if trade.side == OrderIntent.Side.BUY else -1
        in_cash = trade.fee if trade.fee_currency == account.currency else ZERO
        wanted = -sign * trade.price * trade.quantity - in_cash
        cash = booked[(reference, LedgerEntry.Kind.CASH)].get(account.currency)
        asset = booked[(reference, LedgerEntry.Kind.ASSET)].get(trade.instrument.base_asset)
        check.expect(
            cash is not None and abs(cash - wanted) < Decimal("1e-15") and asset == sign * trade.quantity,
            f"{reference}: the ledger moved {cash} {account.currency} and {asset} {trade.instrument.base_asset}",
        )


def check_exposure(session: TradingSession) -> Check:
    """I7: stored exposure equals what positions and reservations give on the same marks; approvals kept the limit."""
    check = Check("I7", "stored exposure equals the recomputed one on the same marks; no approval passed the limit")
    for state in RiskState.objects.filter(account__session=session).select_related("account"):
        recomputed = _exposure(state)
        check.expect(
            recomputed == state.exposure, f"exposure is stored as {state.exposure:f}, recomputed {recomputed:f}"
        )
    approved = RiskDecision.objects.filter(
        signal__session=session, verdict=RiskDecision.Verdict.APPROVED, signal__kind=Signal.Kind.ENTRY
    )
    for row in _with_limits(approved):
        limit = row.equity * row.limits.exposure_max
        check.expect(
            row.exposure_after <= limit, f"decision {row.pk}: {row.exposure_after:f} after approval, limit {limit:f}"
        )
    return check


def _with_limits(decisions: QuerySet[RiskDecision]) -> QuerySet[RiskDecision]:
    return decisions.select_related("limits")


def _exposure(state: RiskState) -> Decimal:
    """Positions at the stored marks, plus what open opening orders may still buy."""
    marks = {symbol: Decimal(price) for symbol, price in state.marks.get("prices", {}).items()}
    total = ZERO
    positions = Position.objects.filter(account=state.account, status=Position.Status.OPEN).select_related("instrument")
    for position in positions:
        total += position.quantity * marks.get(position.instrument.symbol, position.entry_price)
    for reservation in Reservation.objects.filter(account=state.account, active=True):
        total += reservation.notional
    return total.quantize(Decimal("1e-18"))
