"""The end of a session: who, when, why, and what it came to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.portfolio.models import PERSON_MAX, REASON_MAX, SessionReport, TradingSession


def close_session(*, session: TradingSession, by: str, reason: str, now: datetime) -> None:
    """Note the end of a session that the caller has locked. It trades no more from here on."""
    session.ended_at = now
    session.ended_by = by[:PERSON_MAX]
    session.end_reason = reason[:REASON_MAX]
    session.save(update_fields=["ended_at", "ended_by", "end_reason"])


def keep_report(*, session: TradingSession, figures: dict[str, Any]) -> SessionReport:
    """What the session came to, once and for good."""
    return SessionReport.objects.create(session=session, figures=figures)


def set_end(*, session: TradingSession, at: datetime) -> None:
    """From then on nothing is opened, and the session ends with its last position."""
    session.ends_at = at
    session.save(update_fields=["ends_at"])
