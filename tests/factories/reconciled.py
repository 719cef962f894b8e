"""Rows of reconciliation and of the starts of trading."""

# factory-boy ships a marker of being typed, but its declarations carry no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from factory.declarations import LazyFunction, SelfAttribute, Sequence, SubFactory
from factory.django import DjangoModelFactory

from apps.execution.models import DatabaseIncarnation, ReconcileDifference, ReconcileRun, TradingStart
from tests.factories.seen import AccountFactory, TradingSessionFactory

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class ReconcileRunFactory(DjangoModelFactory[ReconcileRun]):
    class Meta:
        model = ReconcileRun

    account = SubFactory(AccountFactory)
    scope = ReconcileRun.Scope.FULL
    started_at = AT
    finished_at = AT
    outcome = ReconcileRun.Outcome.DIFFERENT
    compared = LazyFunction(lambda: {"orders": 1, "trades": 3, "balances": 2})
    differences = 1


class ReconcileDifferenceFactory(DjangoModelFactory[ReconcileDifference]):
    class Meta:
        model = ReconcileDifference

    run = SubFactory(ReconcileRunFactory)
    account = SelfAttribute("run.account")
    kind = "BALANCE"
    subject = "USDT"
    ours = "100000"
    venue = "99000"
    correction = "ledger"
    amount = Decimal(-1_000)
    size = Decimal(1_000)
    found_at = AT


class TradingStartFactory(DjangoModelFactory[TradingStart]):
    class Meta:
        model = TradingStart

    session = SubFactory(TradingSessionFactory)
    cause = "start"
    started_at = AT
    ok = True
    steps = LazyFunction(lambda: [{"name": "versions", "seconds": 0.1, "ok": True, "detail": "42 compared"}])


class DatabaseIncarnationFactory(DjangoModelFactory[DatabaseIncarnation]):
    class Meta:
        model = DatabaseIncarnation

    token = Sequence(lambda n: f"a{n:03x}")
    reason = "first start"
