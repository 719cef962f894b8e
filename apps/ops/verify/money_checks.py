"""I4, I6 and I7: decisions, money and exposure, recomputed here from the rows alone."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from django.db.models import Count, QuerySet, Sum

from apps.engine.money import exact
from apps.execution.models import Trade
from apps.ops.verify.result import Check
from apps.portfolio.models import (
    CORRECTION,
    Account,
    Correction,
    LedgerEntry,
    Position,
    Reservation,
    TradingSession,
)
from apps.risk.models import OrderIntent, RiskDecision, RiskState
from apps.signals.models import Signal

UNDECIDED_MAX_MS: Final = 30_000
ZERO: Final = Decimal(0)
NOTHING: Final = Decimal("1e-15")
CASH, ASSET, FEE = LedgerEntry.Kind.CASH, LedgerEntry.Kind.ASSET, LedgerEntry.Kind.FEE


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


@exact
def check_money(session: TradingSession) -> Check:
    """I6: trades add up to positions, ledger legs to zero, cash legs to the account's cash; no cash below zero."""
    check = Check("I6", "trades add up to positions, ledger legs to zero and to the account's cash")
    for account in Account.objects.filter(session=session):
        for invariant in MONEY_INVARIANTS:
            invariant(check, account)
    return check


def legs_sum_to_zero(check: Check, account: Account) -> None:
    """Per reference and currency: what one side gives, the other gets."""
    rows = LedgerEntry.objects.filter(account=account).values("reference", "currency").annotate(total=Sum("amount"))
    for row in rows:
        check.expect(
            row["total"] == 0, f"legs of {row['reference']} in {row['currency']} add up to {row['total'].normalize():f}"
        )


def cash_equals_its_legs(check: Check, account: Account) -> None:
    legs = LedgerEntry.objects.filter(account=account, kind=LedgerEntry.Kind.CASH)
    cash = legs.filter(currency=account.currency).aggregate(total=Sum("amount"))["total"] or ZERO
    check.expect(account.cash == cash, f"cash is {account.cash:f}, its legs add up to {cash:f}")
    others = legs.exclude(currency=account.currency).count()
    check.expect(not others, f"{others} cash legs are not in {account.currency}")


def cash_is_not_negative(check: Check, account: Account) -> None:
    """Spot: what is not there cannot be spent."""
    check.expect(account.cash >= 0, f"cash is {account.cash:f}")


def positions_equal_their_trades(check: Check, account: Account) -> None:
    """The signed sum of a position's trades, less fees taken in its own coin, as far as they were its to pay."""
    sums: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for trade in Trade.objects.filter(account=account).select_related("instrument").order_by("sequence"):
        held, in_coin = sums[trade.position_id], ZERO
        if trade.fee_currency == trade.instrument.base_asset:
            in_coin = trade.fee
        if trade.side == OrderIntent.Side.BUY:
            sums[trade.position_id] = held + trade.quantity - min(in_coin, trade.quantity)
        else:
            sums[trade.position_id] = held - trade.quantity - min(in_coin, held - trade.quantity)
    for position in Position.objects.filter(account=account):
        check.expect(
            position.quantity == sums[position.pk] and position.quantity >= 0,
            f"position {position.pk} holds {position.quantity:f}, its trades add up to {sums[position.pk]:f}",
        )
        closed = position.status == Position.Status.CLOSED
        check.expect(closed == (position.quantity == 0), f"position {position.pk} is {position.status}, not empty")
        check.expect(
            not closed or position.cost == 0, f"position {position.pk} is closed and still has cost {position.cost:f}"
        )


def coins_equal_what_moved_them(check: Check, account: Account) -> None:
    """Asset legs by coin: what was bought less what was sold and paid as fees, and what was corrected."""
    wanted: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for trade in Trade.objects.filter(account=account).select_related("instrument"):
        bought = trade.side == OrderIntent.Side.BUY
        wanted[trade.instrument.base_asset] += trade.quantity if bought else -trade.quantity
        if trade.fee_currency != account.currency:
            wanted[trade.fee_currency] -= trade.fee
    legs = LedgerEntry.objects.filter(account=account, kind=LedgerEntry.Kind.ASSET)
    by_hand = legs.exclude(reference__startswith="trade:").values_list("currency").annotate(total=Sum("amount"))
    for coin, amount in by_hand:
        wanted[coin] += amount
    held = dict(legs.values_list("currency").annotate(total=Sum("amount")))
    for coin in sorted({*wanted, *held}):
        check.expect(
            held.get(coin, ZERO) == wanted[coin],
            f"{coin}: what moved it adds up to {wanted[coin]:f}, asset legs to {held.get(coin, ZERO):f}",
        )


def corrections_are_explained(check: Check, account: Account) -> None:
    """Legs that no trade and no deposit moved have a row that says why, or a difference that was settled."""
    legs = LedgerEntry.objects.filter(account=account, reference__startswith=CORRECTION)
    moved = set(legs.values_list("reference", flat=True))
    for row in Correction.objects.filter(account=account):
        check.expect(row.reference in moved, f"{row.reference} moved nothing")


def trades_are_booked(check: Check, account: Account) -> None:
    """Every fill moved exactly its own notional and quantity through the ledger, and its fee in its own currency."""
    booked: dict[str, dict[tuple[str, str], Decimal]] = defaultdict(lambda: defaultdict(lambda: ZERO))
    for leg in LedgerEntry.objects.filter(account=account, reference__startswith="trade:"):
        booked[leg.reference][(leg.kind, leg.currency)] += leg.amount
    for trade in Trade.objects.filter(account=account).select_related("instrument"):
        reference = f"trade:{trade.venue}:{trade.trade_id}"
        legs, base = booked.pop(reference, {}), trade.instrument.base_asset
        sign = 1 if trade.side == OrderIntent.Side.BUY else -1
        in_cash = trade.fee if trade.fee_currency == account.currency else ZERO
        in_coin = trade.fee if trade.fee_currency == base else ZERO
        cash, asset = legs.get((CASH, account.currency)), legs.get((ASSET, base))
        wanted = -sign * trade.price * trade.quantity - in_cash
        check.expect(
            cash is not None and abs(cash - wanted) < NOTHING and asset == sign * trade.quantity - in_coin,
            f"{reference}: the ledger moved {cash} {account.currency} and {asset} {base}",
        )
        fee = legs.get((FEE, trade.fee_currency), ZERO)
        check.expect(fee == trade.fee, f"{reference}: the ledger has a fee of {fee} {trade.fee_currency}")
    check.faults += [f"{reference} is in the ledger, and there is no such trade" for reference in booked]


MONEY_INVARIANTS: Final[tuple[Callable[[Check, Account], None], ...]] = (
    legs_sum_to_zero,
    cash_equals_its_legs,
    cash_is_not_negative,
    positions_equal_their_trades,
    coins_equal_what_moved_them,
    corrections_are_explained,
    trades_are_booked,
)
"""What must hold of an account's money at every commit, each recomputed from rows alone."""


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
