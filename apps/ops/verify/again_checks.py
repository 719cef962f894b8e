"""Verdicts, fills, ledger and positions worked out again from what was stored before them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from apps.execution.models import Order, Trade
from apps.ops.explain.again import decision_again, fill_again, order_again, position_again
from apps.ops.explain.history import Past
from apps.ops.explain.parts import Recomputed
from apps.ops.verify.result import Check
from apps.portfolio.models import Account, LedgerEntry, Position, TradingSession
from apps.risk.models import OrderIntent, RiskDecision
from apps.signals.models import StrategyVersion

SHOWN_MAX = 160


def check_again(session: TradingSession) -> Check:
    """Every decision with each check, every fill with its legs, every position, from the rows before them."""
    check = Check("again", "each verdict, check, size, fill, leg and position is what its inputs give")
    for account in Account.objects.filter(session=session):
        _decisions(check, account)
        _fills(check, account)
    return check


def _expect(check: Check, what: str, rows: Iterable[Recomputed]) -> None:
    for row in rows:
        shown = f"{what}: {row.name} is {row.stored[:SHOWN_MAX]}, worked out again {row.again[:SHOWN_MAX]}"
        check.expect(row.equal, shown)


def _decisions(check: Check, account: Account) -> None:
    """One walk through the account's past, in its own order."""
    past = Past.of(account)
    intents = {row.decision_id: row for row in OrderIntent.objects.filter(account=account)}
    rows = RiskDecision.objects.filter(account=account).select_related("signal__instrument", "limits")
    for decision in rows.order_by("sequence"):
        again = decision_again(decision, decision.signal, intents.get(decision.pk), past)
        _expect(check, f"decision {decision.pk}", again)


def _fills(check: Check, account: Account) -> None:
    by_order: dict[int, list[Trade]] = defaultdict(list)
    by_position: dict[int, list[Trade]] = defaultdict(list)
    legs: dict[str, list[LedgerEntry]] = defaultdict(list)
    entries = LedgerEntry.objects.filter(account=account, reference__startswith="trade:")
    for leg in entries.order_by("reference", "leg"):
        legs[leg.reference].append(leg)
    for trade in Trade.objects.filter(account=account).select_related("instrument").order_by("sequence"):
        by_order[trade.order_id].append(trade)
        by_position[trade.position_id].append(trade)
        own = legs[f"trade:{trade.venue}:{trade.trade_id}"]
        _expect(check, f"trade {trade.pk}", fill_again(trade, trade.instrument, own))
    for order in Order.objects.filter(account=account):
        _expect(check, f"order {order.pk}", order_again(order, by_order[order.pk]))
    for position in Position.objects.filter(account=account).select_related("instrument"):
        version = StrategyVersion.objects.filter(pk=position.strategy_version_id).first()
        again = position_again(position, position.instrument, version, by_position[position.pk])
        _expect(check, f"position {position.pk}", again)
