"""Trading states of single scopes, trips, and refused changes."""

# factory-boy ships a marker of being typed, but its declarations carry no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from factory.declarations import Sequence, SubFactory
from factory.django import DjangoModelFactory

from apps.risk import models as risk
from tests.factories.seen import AccountFactory


class ScopedStateFactory(DjangoModelFactory[risk.ScopedState]):
    class Meta:
        model = risk.ScopedState

    account = SubFactory(AccountFactory)
    scope = risk.Scope.SYMBOL
    subject = Sequence(lambda n: f"SYM{n}USDT")
    trading_state = risk.TradingState.REDUCING
    state_reason = "a test"
    state_set_by = "tester"


class BreakerTripFactory(DjangoModelFactory[risk.BreakerTrip]):
    class Meta:
        model = risk.BreakerTrip

    account = SubFactory(AccountFactory)
    sequence = Sequence(lambda n: n + 1)
    cause = risk.TripCause.DAILY_LOSS
    from_state = risk.TradingState.ACTIVE
    to_state = risk.TradingState.REDUCING
    evidence = {"loss": "5600", "limit": "5000"}
    reason = "the day's loss is 5 600 of 100 000 (5.6 %)"


class StateRefusalFactory(DjangoModelFactory[risk.StateRefusal]):
    class Meta:
        model = risk.StateRefusal

    account = SubFactory(AccountFactory)
    asked = "ACTIVE"
    set_by = "tester"
    reason = "a test"
    why = "DAILY_LOSS persists"
