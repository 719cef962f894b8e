"""Changes of the trading state: under the account's lock, with a sequence number, who and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.utils import timezone

from apps.market.selectors import reached_ms
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account, Position, Reservation
from apps.portfolio.services import exit_failed, lock_account, save_account
from apps.risk.models import RiskDecision, RiskState, RiskStateChange, TradingState
from apps.signals.models import Signal

log = logging.getLogger(__name__)

SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change of state meant. `change` is None if the state was that already."""

    change: RiskStateChange | None
    open_positions: int
    exits_brought_back: int


def set_trading_state(*, account_id: int, to_state: TradingState, set_by: str, reason: str) -> Changed:
    """A person changes the state. Leaving HALTED brings back the exits that were denied meanwhile."""

    def change() -> Changed:
        account = lock_account(account_id)
        state = RiskState.objects.get(account=account)
        was_halted = state.trading_state == TradingState.HALTED
        row = change_state(account=account, state=state, to_state=to_state, set_by=set_by, reason=reason)
        positions = list(Position.objects.filter(account=account, status=Position.Status.OPEN))
        revived = _revive_exits(account, positions) if row and was_halted else 0
        save_account(account)
        return Changed(row, len(positions), revived)

    return retry_tx(change)


def change_state(
    *, account: Account, state: RiskState, to_state: TradingState, set_by: str, reason: str
) -> RiskStateChange | None:
    """The change itself, for a caller that holds the account's lock and saves the account. None if nothing changes."""
    if state.trading_state == to_state:
        return None
    account.sequence += 1
    row = RiskStateChange.objects.create(
        account=account,
        sequence=account.sequence,
        from_state=state.trading_state,
        to_state=to_state,
        set_by=set_by,
        reason=reason[:200],
    )
    state.trading_state = to_state
    state.state_reason = reason[:200]
    state.state_set_by = set_by
    state.state_since = timezone.now()
    state.sequence = account.sequence
    state.save(update_fields=["trading_state", "state_reason", "state_set_by", "state_since", "sequence"])
    log.warning("trading state %s -> %s by %s: %s", row.from_state, to_state, set_by, reason)
    if set_by == SYSTEM and to_state != TradingState.ACTIVE:
        record("BreakerTripped", account_id=account.pk, change_id=row.pk)
    return row


def _revive_exits(account: Account, positions: list[Position]) -> int:
    """Let the drain raise again what HALTED denied: exits of open positions whose newest exit signal was denied."""
    busy = set(
        Reservation.objects.filter(account=account, active=True, reducing=True).values_list("position", flat=True)
    )
    newest = Signal.objects.filter(position__in=positions).order_by("position", "-id").distinct("position")
    denied = set(
        RiskDecision.objects.filter(signal__in=newest.values("pk"), verdict=RiskDecision.Verdict.DENIED).values_list(
            "signal__position", flat=True
        )
    )
    revived = [position for position in positions if position.pk in denied - busy]
    now_ms = reached_ms(epoch_id=account.session.epoch_id) or 0
    for position in revived:
        exit_failed(account=account, position=position, not_before_ms=now_ms)
    return len(revived)
