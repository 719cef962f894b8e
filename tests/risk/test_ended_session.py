"""A session that has ended stays as it is: nobody resumes, reduces or flattens its account."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from apps.ops.services.session_ends import end_session, wind_down
from apps.portfolio.models import TradingSession
from apps.risk.models import RiskStateChange, Scope, TradingState
from apps.risk.services import set_trading_state
from apps.risk.services.flattening import flatten
from apps.risk.services.states import StateRefused
from tests.risk.stating import ACTIVE, HALTED, REDUCING, held, set_state, trading_world
from tests.worlds import NOW_MS, World

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def ended() -> World:
    """A session that was ended with a position left open."""
    world = trading_world()
    held(world)
    end_session(session_id=world.session.pk, by="mara", reason="enough", now=NOW, leave_open=True)
    return world


@pytest.mark.parametrize(
    ("state", "scope", "subject"),
    [
        (ACTIVE, "account", ""),
        (REDUCING, "account", ""),
        (ACTIVE, "strategy", "momentum"),
        (ACTIVE, "symbol", "XRPUSDT"),
    ],
)
def test_nobody_lets_an_account_trade_again_whose_session_has_ended(state: str, scope: str, subject: str) -> None:
    world = ended()
    changes = RiskStateChange.objects.count()
    with pytest.raises(StateRefused, match="has ended"):
        set_state(world, state, scope, subject)
    assert (world.state.trading_state, world.state.asked_state) == (HALTED, HALTED)
    assert RiskStateChange.objects.count() == changes
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert decision.reasons == ["HALTED"]


def test_what_it_left_open_is_not_sold() -> None:
    with pytest.raises(StateRefused, match="has ended"):
        flatten(account_id=ended().account.pk, set_by="mara", reason="late", now_ms=NOW_MS)


def test_to_halt_it_again_changes_nothing() -> None:
    assert set_state(ended(), HALTED).change is None


def test_an_end_of_time_overrules_nobody_who_halted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the steward's look and its change of the state a person halts: the halt holds."""
    world = trading_world()

    def beaten_to_it(**given: Any) -> Any:
        set_state(world, HALTED)
        return set_trading_state(**given)

    monkeypatch.setattr("apps.ops.services.session_ends.set_trading_state", beaten_to_it)
    wind_down(session=TradingSession.objects.get(), by="steward", reason="its time is over", now=NOW)
    assert world.state.trading_state == TradingState.HALTED
    assert (world.state.state_set_by, world.state.asked_state) == ("mara", HALTED)


def test_to_be_made_stricter_only_is_what_it_says() -> None:
    world = trading_world()
    given: dict[str, Any] = {"account_id": world.account.pk, "set_by": "steward", "reason": "over"}
    given["only_stricter"] = True
    assert set_trading_state(**given, to_state=TradingState.REDUCING).change is not None
    assert set_trading_state(**given, to_state=TradingState.REDUCING).change is None
    assert set_trading_state(**given, to_state=TradingState.ACTIVE).change is None
    named = {**given, "scope": Scope.SYMBOL, "subject": "XRPUSDT"}
    assert set_trading_state(**named, to_state=TradingState.HALTED).change is not None
    assert world.state.trading_state == REDUCING
