"""Nothing traded for a day, or hardly anything: an alert that names the stage at which the flow stopped.

Counted by the wall clock, for sessions of a live or a synthetic feed: a replay has no day of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from apps.alerts.models import Alert
from apps.alerts.services import raise_alert, settle
from apps.execution.models import Trade
from apps.market.models import FeedEpoch
from apps.ops.selectors.standstill import why_nothing
from apps.ops.selectors.state import read_state
from apps.portfolio.models import TradingSession
from apps.portfolio.selectors import current_session

DAY: Final = timedelta(hours=24)
TRADES_A_DAY_MIN: Final = 5
SYSTEM: Final = "system"


def watch_activity(*, now_ms: int) -> Alert | None:
    """Raise, at most once a day, what is to be said about a day with few trades or none; settle what is over.

    Returns the alert if one was raised.
    """
    session = current_session()
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if session is None or session.epoch.kind == FeedEpoch.Kind.REPLAY or now - session.started_at < DAY:
        return None
    subject = f"session {session.pk}"
    trades = Trade.objects.filter(account__session=session, created_at__gt=now - DAY).count()
    if trades:
        settle(kind=Alert.Kind.NO_ACTIVITY, subject=subject, by=SYSTEM, reason="it trades again")
    if trades >= TRADES_A_DAY_MIN:
        settle(kind=Alert.Kind.FEW_TRADES, subject=subject, by=SYSTEM, reason=f"{trades} trades within a day")
        return None
    kind = Alert.Kind.FEW_TRADES if trades else Alert.Kind.NO_ACTIVITY
    if Alert.objects.filter(kind=kind, subject=subject, last_at__gt=now - DAY).exists():
        return None
    return _raise(session, kind, subject, trades, now_ms)


def _raise(session: TradingSession, kind: Alert.Kind, subject: str, trades: int, now_ms: int) -> Alert:
    why = why_nothing(read_state(now_ms), now_ms)
    if trades:
        words = f"{trades} of at least {TRADES_A_DAY_MIN} trades within a day."
        severity = Alert.Severity.NOTICE
    else:
        where = f" Stands still at {why.stage}." if why and why.stage else ""
        words = f"Nothing has traded for {DAY.total_seconds() / 3600:.0f} h.{where}"
        severity = Alert.Severity.WARNING
    told = f"{words} {why.sentence}" if why else words
    return raise_alert(kind=kind, severity=severity, subject=subject, words=told, session_id=session.pk)
