"""What a decision's checks found that must change the trading state at once, in the decision's own transaction."""

from __future__ import annotations

from typing import Final

from apps.engine.desk.deciding import Ruled
from apps.engine.risk.values import Reason, Verdict
from apps.engine.risk.words import plain
from apps.portfolio.models import Account
from apps.risk.models import RiskState, Scope, TradingState, TripCause
from apps.risk.services.trips import trip

CAUSES: Final[dict[Reason, TripCause]] = {
    Reason.LEASE: TripCause.LEASE,
    Reason.VERSION: TripCause.VERSION,
    Reason.HEARTBEAT: TripCause.HEARTBEAT,
    Reason.RECON: TripCause.RECON,
    Reason.LOSS_LIMIT: TripCause.DAILY_LOSS,
    Reason.DRAWDOWN: TripCause.DRAWDOWN,
    Reason.REPEAT: TripCause.REPEAT,
}


def trip_for(*, account: Account, state: RiskState, symbol: str, ruled: Ruled) -> None:
    """Trip what the checks ask for. For a caller that holds the account's lock and saves the account."""
    for verdict in ruled.assessment.trips:
        assert verdict.trip is not None
        of_symbol = verdict.reason is Reason.REPEAT
        trip(
            account=account,
            state=state,
            cause=CAUSES[verdict.reason],
            evidence=_evidence(verdict, symbol),
            reason=verdict.note,
            to_state=TradingState(verdict.trip.value),
            scope=Scope.SYMBOL if of_symbol else Scope.ACCOUNT,
            subject=symbol if of_symbol else "",
        )


def _evidence(verdict: Verdict, symbol: str) -> dict[str, str]:
    figures = {"value": verdict.value, "limit": verdict.limit, "margin": verdict.margin}
    return {"symbol": symbol, **{name: plain(value) for name, value in figures.items() if value is not None}}
