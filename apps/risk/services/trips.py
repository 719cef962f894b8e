"""Automatic trips: a rule of ours lowers a trading state, with its evidence, an alert, and a stated way back."""

from __future__ import annotations

from collections.abc import Mapping

from apps.alerts.models import Alert
from apps.alerts.services import raise_alert
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account
from apps.portfolio.services import lock_account, save_account
from apps.risk.models import BreakerTrip, RiskState, Scope, ScopedState, TradingState, TripCause
from apps.risk.scopes import STRICTNESS, effective_state, open_trips
from apps.risk.services.states import (
    LOWERED,
    SYSTEM,
    StateRow,
    account_state,
    alert_subject,
    change_state,
    clear,
    note_gone,
    relax,
    state_of,
)
from apps.risk.services.ways_back import DAY, clears_itself

__all__ = [
    "BreakerTrip",
    "ScopedState",
    "TripCause",
    "cause_gone",
    "clear_trips",
    "effective_state",
    "trip",
    "trip_account",
]


def trip(
    *,
    account: Account,
    state: RiskState,
    cause: TripCause,
    evidence: Mapping[str, str],
    reason: str,
    to_state: TradingState = TradingState.REDUCING,
    scope: Scope = Scope.ACCOUNT,
    subject: str = "",
) -> BreakerTrip | None:
    """Trip a scope, for a caller that holds the account's lock and saves the account; `state` is the account's row.

    None if this cause holds the scope that strict already, or if a person has let exits through although it persists.
    The trip is stored and holds also if the scope is stricter for another reason, so that whoever resumes meets it.
    """
    open_already = [row for row in open_trips(account.pk, scope, subject) if row.cause == cause]
    if any(STRICTNESS[row.to_state] >= STRICTNESS[to_state] or LOWERED in row.evidence for row in open_already):
        _holds_again(open_already)
        return None
    target: StateRow = state if scope == Scope.ACCOUNT else state_of(account, scope, subject)
    account.sequence += 1
    row = BreakerTrip.objects.create(
        account=account,
        sequence=account.sequence,
        cause=cause,
        scope=scope,
        subject=subject,
        from_state=target.trading_state,
        to_state=to_state,
        evidence=_with_day(cause, evidence, state),
        reason=reason[:200],
    )
    if STRICTNESS[to_state] > STRICTNESS[target.trading_state]:
        change_state(account=account, state=target, to_state=to_state, set_by=SYSTEM, reason=reason, trip=row)
    raise_alert(
        kind=Alert.Kind.BREAKER_TRIPPED,
        severity=Alert.Severity.CRITICAL,
        subject=alert_subject(row),
        words=f"{to_state}{f' for {subject}' if subject else ''}: {reason}",
        session_id=account.session_id,
    )
    return row


def trip_account(
    *,
    account_id: int,
    cause: TripCause,
    evidence: Mapping[str, str],
    reason: str,
    to_state: TradingState = TradingState.REDUCING,
    scope: Scope = Scope.ACCOUNT,
    subject: str = "",
) -> BreakerTrip | None:
    """`trip` in a transaction of its own, with the account's lock. None if it holds already."""

    def make() -> BreakerTrip | None:
        account = lock_account(account_id)
        row = trip(
            account=account,
            state=account_state(account),
            cause=cause,
            evidence=evidence,
            reason=reason,
            to_state=to_state,
            scope=scope,
            subject=subject,
        )
        save_account(account)
        return row

    return retry_tx(make)


def cause_gone(
    *,
    account_id: int,
    cause: TripCause,
    words: str,
    scope: Scope = Scope.ACCOUNT,
    subject: str = "",
    keep: bool = False,
) -> list[BreakerTrip]:
    """Whoever watches a cause sees that it is gone: trips that clear themselves are cleared, the others may be resumed.

    With `keep`, all of them wait for a person. Cheap if no such trip is open: then no lock is taken. Returns the trips
    that were cleared.
    """
    rows = BreakerTrip.objects.filter(account_id=account_id, cause=cause, scope=scope, subject=subject, cleared_at=None)
    if not rows.exists():
        return []

    def note() -> list[BreakerTrip]:
        account = lock_account(account_id)
        state = state_of(account, scope, subject)
        cleared = clear_trips(account=account, state=state, cause=cause, words=words, keep=keep)
        save_account(account)
        return cleared

    return retry_tx(note)


def clear_trips(
    *, account: Account, state: StateRow, cause: TripCause, words: str, keep: bool = False
) -> list[BreakerTrip]:
    """`cause_gone` for a caller that holds the account's lock and saves the account."""
    scope, subject = (Scope.ACCOUNT, "") if isinstance(state, RiskState) else (Scope(state.scope), state.subject)
    cleared = []
    for row in open_trips(account.pk, scope, subject):
        if row.cause != cause:
            continue
        note_gone(row)
        if not keep and clears_itself(row):
            clear(row, by=SYSTEM, reason=words)
            cleared.append(row)
    if cleared:
        relax(account=account, state=state, reason=words)
    return cleared


def _with_day(cause: TripCause, evidence: Mapping[str, str], state: RiskState) -> dict[str, str]:
    """The day's loss is that of a trading day, and is over with it."""
    if cause != TripCause.DAILY_LOSS or state.day is None:
        return dict(evidence)
    return {DAY: state.day.isoformat(), **evidence}


def _holds_again(rows: list[BreakerTrip]) -> None:
    for row in rows:
        if row.gone_at is not None:
            row.gone_at = None
            row.save(update_fields=["gone_at"])
