"""Rows of money that no signal brings: corrections and the reports of sessions."""

# factory-boy ships a marker of being typed, but its declarations carry no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from factory.declarations import LazyFunction, Sequence, SubFactory
from factory.django import DjangoModelFactory

from apps.portfolio import models as portfolio
from tests.factories.seen import START_MS, AccountFactory, TradingSessionFactory


class CorrectionFactory(DjangoModelFactory[portfolio.Correction]):
    class Meta:
        model = portfolio.Correction

    account = SubFactory(AccountFactory)
    number = Sequence(lambda n: n + 1)
    reason = "the venue paid interest"
    made_by = "mara"
    approved_by = "oli"
    sequence = Sequence(lambda n: n + 1)
    ts_event = START_MS


class SessionReportFactory(DjangoModelFactory[portfolio.SessionReport]):
    class Meta:
        model = portfolio.SessionReport

    session = SubFactory(TradingSessionFactory)
    figures = LazyFunction(lambda: {"trades": 2, "net": "1.5", "win_rate": "0.5", "profit_factor": None})
