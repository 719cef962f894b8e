"""Ending a trading session: its money stands still, its figures are frozen, and nothing is left unsaid.

From its end on a session is HALTED, so whatever still comes for it - a signal on its way, a message that was late - is
denied with that reason by the same checks as ever. A new one begins with a feed epoch of its own, at a start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction

from apps.engine.orders import ENDED
from apps.execution.models import Order
from apps.ops.selectors.session_figures import figures_of
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account, Position, Reservation, SessionReport, TradingSession
from apps.portfolio.services import lock_account
from apps.portfolio.services.sessions import close_session, keep_report, set_end
from apps.risk.models import RiskState, Scope, TradingState
from apps.risk.services import set_trading_state
from apps.risk.services.states import change_by_person

log = logging.getLogger(__name__)

STEWARD: Final = "steward"
START: Final = "start"
"""Who ended a session, if no person did."""


class EndRefused(ValueError):
    """A session that cannot end as asked; one line for whoever asked. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Open:
    """What a session still has at stake."""

    positions: int
    orders: int

    def __bool__(self) -> bool:
        return bool(self.positions or self.orders)

    @property
    def words(self) -> str:
        return f"{_count(self.positions, 'position')} and {_count(self.orders, 'order')} open"


def open_of(session: TradingSession) -> Open:
    """Positions, and orders that have not ended or still have something promised to them."""
    accounts = Account.objects.filter(session=session)
    orders = Order.objects.filter(account__in=accounts).exclude(status__in=[status.value for status in ENDED])
    promised = Reservation.objects.filter(account__in=accounts, active=True)
    names = {*orders.values_list("client_order_id", flat=True), *promised.values_list("client_order_id", flat=True)}
    return Open(Position.objects.filter(account__in=accounts, status=Position.Status.OPEN).count(), len(names))


def end_session(*, session_id: int, by: str, reason: str, now: datetime, leave_open: bool = False) -> SessionReport:
    """Halt the session, end it and freeze its report. Raises `EndRefused`.

    With something open it is refused unless `leave_open`: what stays open then is nobody's to close any more.
    """
    return retry_tx(lambda: end_within(session_id=session_id, by=by, reason=reason, now=now, leave_open=leave_open))


def end_within(*, session_id: int, by: str, reason: str, now: datetime, leave_open: bool) -> SessionReport:
    """`end_session` as part of the caller's transaction."""
    session = TradingSession.objects.select_for_update(of=("self",)).select_related("epoch").get(pk=session_id)
    if session.ended_at is not None:
        raise EndRefused(f"{session} has ended already, on {session.ended_at:%Y-%m-%d at %H:%M} UTC")
    accounts = [lock_account(pk) for pk in _accounts(session)]
    left = open_of(session)
    if left and not leave_open:
        raise EndRefused(f"{session} has {left.words}")
    for account in accounts:
        if RiskState.objects.filter(account=account).exists():
            change_by_person(
                account=account,
                to_state=TradingState.HALTED,
                set_by=by,
                reason=f"the session has ended: {reason}",
                scope=Scope.ACCOUNT,
                subject="",
            )
    close_session(session=session, by=by, reason=reason, now=now)
    report = keep_report(session=session, figures=figures_of(session, now))
    log.warning("session %s ended by %s: %s (%s)", session, by, reason, left.words)
    return report


def end_all(*, sessions: Iterable[TradingSession], reason: str, now: datetime) -> int:
    """End what a start does not go on with, before anything trades. Part of the caller's transaction."""
    ended = [end_within(session_id=row.pk, by=START, reason=reason, now=now, leave_open=True) for row in sessions]
    return len(ended)


def wind_down(*, session: TradingSession, by: str, reason: str, now: datetime) -> None:
    """Open nothing any more; the steward ends the session with its last position."""
    if session.ends_at is None or session.ends_at > now:
        with transaction.atomic():
            set_end(session=session, at=now)
    _only_reduce(session, by, reason)


def end_due(*, now: datetime) -> list[SessionReport]:
    """Sessions whose time is over: those with nothing open end, the others open nothing any more. Returns reports."""
    reports = []
    for session in TradingSession.objects.filter(ended_at__isnull=True, ends_at__lte=now).order_by("id"):
        if open_of(session):
            _only_reduce(session, STEWARD, f"{session} is over: it ends with its last position")
            continue
        try:
            reports.append(end_session(session_id=session.pk, by=STEWARD, reason="its time is over", now=now))
        except EndRefused as refused:  # an order was sent, or a person was quicker, since it was looked at
            log.info("%s", refused)
    return reports


def _only_reduce(session: TradingSession, by: str, reason: str) -> None:
    """Whoever halted the account meanwhile is not overruled."""
    active = RiskState.objects.filter(account__session=session, trading_state=TradingState.ACTIVE)
    for account_id in active.values_list("account_id", flat=True):
        set_trading_state(
            account_id=account_id, to_state=TradingState.REDUCING, set_by=by, reason=reason, only_stricter=True
        )


def _accounts(session: TradingSession) -> list[int]:
    return list(Account.objects.filter(session=session).order_by("pk").values_list("pk", flat=True))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
