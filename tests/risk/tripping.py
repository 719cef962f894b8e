"""What tests of trips, of the watchdog and of flatten share."""

from __future__ import annotations

from typing import Any

from apps.risk.models import (
    BreakerTrip,
    Scope,
    TradingState,
    TripCause,
)
from apps.risk.services import set_trading_state
from apps.risk.services.trips import cause_gone, trip_account
from tests.worlds import World

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED


def trip(world: World, cause: TripCause = TripCause.ERROR_RATE, **fields: Any) -> BreakerTrip | None:
    given: dict[str, Any] = {"evidence": {"failed": "3"}, "reason": "three of ten failed"}
    return trip_account(account_id=world.account.pk, cause=cause, **{**given, **fields})


def gone(world: World, cause: TripCause, **fields: Any) -> list[BreakerTrip]:
    return cause_gone(account_id=world.account.pk, cause=cause, words="seen to be gone", **fields)


def ask(world: World, state: TradingState, scope: Scope = Scope.ACCOUNT, subject: str = "") -> Any:
    return set_trading_state(
        account_id=world.account.pk, to_state=state, set_by="mara", reason="looked at", scope=scope, subject=subject
    )
