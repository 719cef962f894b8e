"""Trading states: by account, strategy and symbol, moved along a table, under the account's lock, with who and why.

A state is the strictest of what a person asked for last and of what the open trips of its scope hold. So a trip that
clears never takes away what a person asked for, and a person's word alone never takes away a trip whose cause persists.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from django.utils import timezone

from apps.alerts.models import Alert
from apps.alerts.services import raise_alert, settle
from apps.market.models import EpochInstrument
from apps.market.selectors import reached_ms
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account, Position, Reservation, TradingSession
from apps.portfolio.services import exit_failed, lock_account, save_account
from apps.risk.models import (
    BreakerTrip,
    RiskDecision,
    RiskState,
    RiskStateChange,
    Scope,
    ScopedState,
    TradingState,
    TripCause,
)
from apps.risk.scopes import STRICTNESS, effective_of, open_trips, read_scoped, strictest
from apps.risk.services.gate import senders_are_through
from apps.risk.services.ways_back import still_holds
from apps.signals.models import SessionStrategy, Signal, StrategyVersion

log = logging.getLogger(__name__)

SYSTEM: Final = "system"
REASON_MAX: Final = 200
LOWERED: Final = "lowered_by"
MISSING: Final = "the trading state was missing: somebody has to look why"

StateRow = RiskState | ScopedState


class By(StrEnum):
    """Who moves a state."""

    PERSON = "person"
    TRIP = "trip"
    WAY_BACK = "way back"


# The whole machine: what is not here cannot happen. A rule only ever makes a state stricter, a way back only laxer.
TRANSITIONS: Final[dict[tuple[TradingState, TradingState], frozenset[By]]] = {
    (TradingState.ACTIVE, TradingState.REDUCING): frozenset({By.PERSON, By.TRIP}),
    (TradingState.ACTIVE, TradingState.HALTED): frozenset({By.PERSON, By.TRIP}),
    (TradingState.REDUCING, TradingState.HALTED): frozenset({By.PERSON, By.TRIP}),
    (TradingState.REDUCING, TradingState.ACTIVE): frozenset({By.PERSON, By.WAY_BACK}),
    (TradingState.HALTED, TradingState.REDUCING): frozenset({By.PERSON, By.WAY_BACK}),
    (TradingState.HALTED, TradingState.ACTIVE): frozenset({By.PERSON, By.WAY_BACK}),
}

# Trips that say nothing about how well a strategy trades, and so take no trust from it.
_NO_BREAKERS: Final = frozenset(
    {
        TripCause.STALE_FEED,
        TripCause.EXPOSURE,
        TripCause.HEARTBEAT,
        TripCause.VERSION,
        TripCause.LEASE,
        TripCause.REPEAT,
    }
)


class StateRefused(ValueError):
    """A state that cannot be set as asked, or not yet; one line for whoever asked."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change of state meant. `change` is None if the state was that already.

    `all_left`: every order that had passed its last look had left when this was returned, and none leaves after it.
    """

    change: RiskStateChange | None
    open_positions: int
    exits_brought_back: int
    all_left: bool = True


def set_trading_state(
    *,
    account_id: int,
    to_state: TradingState,
    set_by: str,
    reason: str,
    scope: Scope = Scope.ACCOUNT,
    subject: str = "",
    only_stricter: bool = False,
) -> Changed:
    """A person changes the state of a scope. Leaving HALTED brings back the exits that were denied meanwhile.

    A stricter state waits, after its commit, for orders that are just leaving. With `only_stricter` nothing changes if
    the scope is that strict already. Raises `StateRefused` for a strategy or a symbol that the session does not have,
    for a session that has ended, and while the cause of a trip that would have to give way persists.
    """

    def change() -> Changed:
        account = lock_account(account_id)
        check_subject(account, scope, subject)
        holds = state_of(account, scope, subject).trading_state if only_stricter else TradingState.ACTIVE
        if only_stricter and STRICTNESS[holds] >= STRICTNESS[to_state]:
            save_account(account)  # a state that was missing took a number
            return Changed(None, len(positions_of(account, scope, subject)), 0)
        if to_state != TradingState.HALTED:
            check_running(account)
        return change_by_person(
            account=account, to_state=to_state, set_by=set_by, reason=reason, scope=scope, subject=subject
        )

    done = retry_tx(change)
    row = done.change
    if row is not None and STRICTNESS[row.to_state] > STRICTNESS[row.from_state]:
        return replace(done, all_left=senders_are_through(account_id))
    return done


def check_running(account: Account) -> None:
    """Raises `StateRefused` if the account's session has ended: its figures are frozen, and nobody manages it.

    Under the account's lock, which who ends a session takes first; the row that came with the lock may be older.
    """
    if TradingSession.objects.filter(pk=account.session_id, ended_at__isnull=False).exists():
        raise StateRefused(f"the session {account.session} has ended: it trades no more, start a new one")


def check_subject(account: Account, scope: Scope, subject: str) -> None:
    """Raises `StateRefused` unless the account's session trades by this strategy, or in this symbol."""
    if scope == Scope.STRATEGY:
        known = SessionStrategy.objects.filter(session=account.session_id, version__strategy__name=subject).exists()
    elif scope == Scope.SYMBOL:
        known = EpochInstrument.objects.filter(epoch=account.session.epoch_id, instrument__symbol=subject).exists()
    else:
        known = not subject
    if not known:
        raise StateRefused(f"the session has no {scope.label.lower()} {subject!r}")


def change_by_person(
    *, account: Account, to_state: TradingState, set_by: str, reason: str, scope: Scope, subject: str
) -> Changed:
    """`set_trading_state` for a caller that holds the account's lock; saves the account. Raises `StateRefused`."""
    target = state_of(account, scope, subject)
    was = TradingState(target.trading_state)
    _clear_by_person(account, scope, subject, to_state, set_by, reason)
    target.asked_state = to_state
    target.save(update_fields=["asked_state"])
    row = change_state(account=account, state=target, to_state=to_state, set_by=set_by, reason=reason)
    positions = positions_of(account, scope, subject)
    revived = _revive_exits(account, positions) if row and was == TradingState.HALTED else 0
    save_account(account)
    return Changed(row, len(positions), revived)


def _clear_by_person(
    account: Account, scope: Scope, subject: str, to_state: TradingState, by: str, reason: str
) -> None:
    """Trips that would hold the state stricter than asked are cleared by whoever asks, if their causes are gone."""
    stricter = [
        row for row in open_trips(account.pk, scope, subject) if STRICTNESS[row.to_state] > STRICTNESS[to_state]
    ]
    persisting = [words for words in (still_holds(row, account, to_state) for row in stricter) if words]
    if persisting:
        raise StateRefused("; ".join(persisting))
    for row in stricter:
        clear(row, by=by, reason=reason)
        if to_state != TradingState.ACTIVE and still_holds(row, account, TradingState.ACTIVE):
            _keep_lowered(row, to_state, by)


def _keep_lowered(row: BreakerTrip, to_state: TradingState, by: str) -> None:
    """The cause persists, but a person lets exits through: it holds this much from now on, and trips no further."""
    for other in open_trips(row.account_id, row.scope, row.subject):
        if other.cause == row.cause:
            other.evidence = {**other.evidence, LOWERED: by}
            other.save(update_fields=["evidence"])
            return
    BreakerTrip.objects.create(
        account=row.account,
        sequence=row.sequence,
        cause=row.cause,
        scope=row.scope,
        subject=row.subject,
        from_state=row.from_state,
        to_state=to_state,
        evidence={**row.evidence, LOWERED: by},
        reason=row.reason,
    )


def clear(row: BreakerTrip, *, by: str, reason: str) -> None:
    """The way back was taken: the trip holds nothing any more, and its alert needs nobody."""
    settle(kind=Alert.Kind.BREAKER_TRIPPED, subject=alert_subject(row), by=by, reason=reason)
    row.cleared_at, row.cleared_by, row.clear_reason = timezone.now(), by[:150], reason[:REASON_MAX]
    row.save(update_fields=["cleared_at", "cleared_by", "clear_reason"])


def alert_subject(row: BreakerTrip) -> str:
    """One alert is open for a cause, the strategy or symbol that it is about, and an account."""
    return f"{row.cause} {row.subject}".strip() + f": {row.account}"


def note_gone(row: BreakerTrip) -> None:
    row.gone_at = timezone.now()
    row.save(update_fields=["gone_at"])


def change_state(
    *,
    account: Account,
    state: StateRow,
    to_state: TradingState,
    set_by: str,
    reason: str,
    trip: BreakerTrip | None = None,
) -> RiskStateChange | None:
    """The move itself, for a caller that holds the account's lock and saves the account. None if nothing changes.

    A trip brings the sequence number that it took itself. Raises `StateRefused` for a move that the table has not.
    """
    was = TradingState(state.trading_state)
    if was == to_state:
        return None
    by = _who(was, to_state, set_by)
    if by not in TRANSITIONS[was, to_state]:
        raise StateRefused(f"{was} -> {to_state} is nothing that a {by} may do")
    if trip is None:
        account.sequence += 1
    scope, subject = scope_of(state)
    row = RiskStateChange.objects.create(
        account=account,
        sequence=account.sequence,
        scope=scope,
        subject=subject,
        trip=trip,
        from_state=was,
        to_state=to_state,
        set_by=set_by,
        reason=reason[:REASON_MAX],
    )
    _write(account, state, row)
    log.warning(
        "trading state %s%s -> %s by %s: %s", f"of {subject} " if subject else "", was, to_state, set_by, reason
    )
    if by is By.TRIP and scope == Scope.ACCOUNT and (trip is None or trip.cause not in _NO_BREAKERS):
        record("BreakerTripped", account_id=account.pk, change_id=row.pk)
    return row


def _who(was: TradingState, to_state: TradingState, set_by: str) -> By:
    if set_by != SYSTEM:
        return By.PERSON
    return By.TRIP if STRICTNESS[to_state] > STRICTNESS[was] else By.WAY_BACK


def _write(account: Account, state: StateRow, row: RiskStateChange) -> None:
    state.trading_state = row.to_state
    state.state_reason = row.reason
    state.state_set_by = row.set_by
    state.state_since = timezone.now()
    fields = ["trading_state", "state_reason", "state_set_by", "state_since"]
    if isinstance(state, RiskState):
        state.sequence = account.sequence
        fields.append("sequence")
    state.save(update_fields=fields)


def scope_of(state: StateRow) -> tuple[Scope, str]:
    return (Scope.ACCOUNT, "") if isinstance(state, RiskState) else (Scope(state.scope), state.subject)


def state_of(account: Account, scope: Scope = Scope.ACCOUNT, subject: str = "") -> StateRow:
    """The state row of a scope, made if need be, under the account's lock."""
    if scope == Scope.ACCOUNT:
        return account_state(account)
    row, _ = ScopedState.objects.get_or_create(account=account, scope=scope, subject=subject)
    return row


def account_state(account: Account) -> RiskState:
    """The account's state, under its lock. A missing row is made anew as HALTED: nobody knows what it said."""
    return RiskState.objects.filter(account=account).first() or _make_halted(account)


def state_for(account: Account, strategy: str, symbol: str) -> tuple[RiskState, TradingState, str]:
    """`account_state`, with the state that holds for an order of `strategy` in `symbol` and its words. One query."""
    row = read_scoped(account.pk, strategy, symbol) or _make_halted(account)
    return row, *effective_of(row)


def _make_halted(account: Account) -> RiskState:
    log.critical("the trading state of account %d was missing: HALTED", account.pk)
    account.sequence += 1
    halted = TradingState.HALTED
    row = RiskState.objects.create(
        account=account,
        trading_state=halted,
        asked_state=halted,
        state_reason=MISSING,
        state_set_by=SYSTEM,
        sequence=account.sequence,
    )
    RiskStateChange.objects.create(
        account=account, sequence=account.sequence, from_state=halted, to_state=halted, set_by=SYSTEM, reason=MISSING
    )
    raise_alert(
        kind=Alert.Kind.BREAKER_TRIPPED,
        severity=Alert.Severity.CRITICAL,
        subject=f"trading state of {account}",
        words=MISSING,
        session_id=account.session_id,
    )
    return row


def relax(*, account: Account, state: StateRow, reason: str) -> RiskStateChange | None:
    """After trips were cleared by themselves: as far down as the person's last word and the open trips allow."""
    was = TradingState(state.trading_state)
    scope, subject = scope_of(state)
    held = [TradingState(row.to_state) for row in open_trips(account.pk, scope, subject)]
    to_state = strictest(TradingState(state.asked_state), *held)
    if STRICTNESS[to_state] >= STRICTNESS[was]:
        return None
    row = change_state(account=account, state=state, to_state=to_state, set_by=SYSTEM, reason=reason)
    if was == TradingState.HALTED:
        _revive_exits(account, positions_of(account, scope, subject))
    return row


def positions_of(account: Account, scope: Scope = Scope.ACCOUNT, subject: str = "") -> list[Position]:
    """Open positions of a scope, oldest first."""
    rows = Position.objects.filter(account=account, status=Position.Status.OPEN).select_related("instrument")
    rows = rows.order_by("id")
    if scope == Scope.SYMBOL:
        rows = rows.filter(instrument__symbol=subject)
    elif scope == Scope.STRATEGY:
        rows = rows.filter(strategy_version_id__in=_versions_of(subject))
    return list(rows)


def _versions_of(strategy: str) -> list[int]:
    return list(StrategyVersion.objects.filter(strategy__name=strategy).values_list("pk", flat=True))


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
