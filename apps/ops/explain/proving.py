"""Every number of one chain worked out again, and what could not be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from apps.execution.models import Order, Trade
from apps.market.models import Instrument
from apps.ops.explain.again import decision_again, fill_again, order_again, position_again
from apps.ops.explain.history import Past
from apps.ops.explain.parts import Recomputed
from apps.ops.explain.stream import Place, Sources
from apps.ops.explain.window import indicators_again
from apps.portfolio.models import Account, LedgerEntry, Position
from apps.risk.models import OrderIntent, RiskDecision
from apps.signals.models import Signal, StrategyVersion


@dataclass(slots=True)
class Proof:
    """`rows` were worked out again; `unproven` says in words what was not, and why."""

    rows: list[Recomputed] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)


def prove(signal: Signal, sources: Sources) -> Proof:
    """Indicators, verdict with every check, size, fills, ledger and position of a signal."""
    proof = Proof()
    signal = Signal.objects.select_related("session__epoch", "instrument", "strategy_version__strategy").get(
        pk=signal.pk
    )  # fmt: skip
    _indicators(proof, signal, sources)
    decision = RiskDecision.objects.filter(signal=signal, book=signal.book).select_related("limits").first()
    if decision is None:
        proof.unproven.append("there is no decision yet")
        return proof
    intent = OrderIntent.objects.filter(decision=decision).first()
    account = Account.objects.get(pk=decision.account_id)
    past = Past.of(account, before=decision.sequence)
    proof.rows += decision_again(decision, signal, intent, past)
    order = None if intent is None else Order.objects.filter(intent=intent).first()
    if order is not None:
        proof.rows += order_proof(order, signal.instrument)
    return proof


def _indicators(proof: Proof, signal: Signal, sources: Sources) -> None:
    epoch, instrument = signal.session.epoch, signal.instrument
    rows = None
    if signal.kind == Signal.Kind.ENTRY:
        rows = sources.minute_of(Place.of(epoch, instrument.symbol), signal.entry_id, signal.ts_event)
    found = indicators_again(signal, signal.strategy_version, epoch, instrument, rows)
    proof.rows += found.proof
    if found.why_not:
        proof.unproven.append(found.why_not)


def order_proof(order: Order, instrument: Instrument) -> Iterator[Recomputed]:
    """An order with its fills, their legs, and the position that they moved."""
    trades = list(Trade.objects.filter(order=order).order_by("sequence"))
    yield from order_again(order, trades)
    for trade in trades:
        legs = LedgerEntry.objects.filter(
            account_id=trade.account_id, reference=f"trade:{trade.venue}:{trade.trade_id}"
        )
        yield from fill_again(trade, instrument, list(legs.order_by("leg")))
    for position in Position.objects.filter(pk__in={trade.position_id for trade in trades}):
        yield from position_proof(position, instrument)


def position_proof(position: Position, instrument: Instrument) -> Iterator[Recomputed]:
    version = StrategyVersion.objects.filter(pk=position.strategy_version_id).first()
    trades = list(Trade.objects.filter(position=position).order_by("sequence"))
    yield from position_again(position, instrument, version, trades)
