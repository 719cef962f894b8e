"""What tests of trading states and of the last look share."""

from __future__ import annotations

from typing import Any

from apps.execution.services import submit_order
from apps.portfolio.models import Position
from apps.risk.models import (
    OrderIntent,
    RiskState,
    Scope,
    TradingState,
)
from apps.risk.services import set_trading_state
from tests.factories import PositionFactory, SessionStrategyFactory
from tests.worlds import World, fresh, open_world

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED


def trading_world(*symbols: str) -> World:
    world = open_world(symbols or ("XRPUSDT",))
    SessionStrategyFactory.create(session=world.session, version=world.version)
    return world


def set_state(world: World, state: str, scope: str = "account", subject: str = "") -> Any:
    return set_trading_state(
        account_id=world.account.pk, to_state=TradingState(state), set_by="mara", reason="odd", scope=Scope(scope),
        subject=subject,
    )  # fmt: skip


def held(world: World, symbol: str = "XRPUSDT") -> Position:
    """An open position that the stored exposure knows."""
    position = PositionFactory.create(account=world.account, instrument=world.instruments[symbol])
    RiskState.objects.update(exposure=50, marks={"minute": 1, "prices": {symbol: "0.5"}})
    return position


def send(world: World, intent: OrderIntent, venue: Any) -> None:
    now_ms = int(intent.created_at.timestamp() * 1000)
    submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
