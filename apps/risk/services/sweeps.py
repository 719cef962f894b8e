"""What the steward asks: which signals were missed, or are held, and must be brought up again."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db.models.functions import Now

from apps.portfolio.selectors import current_session
from apps.signals.models import Signal

AT_MOST: Final = 500


def undecided_signals(*, older_than_ms: int, at_most: int = AT_MOST) -> list[int]:
    """Signals of the running session without a decision after `older_than_ms` (wall time), oldest first."""
    session = current_session()
    if session is None:
        return []
    waiting = Signal.objects.filter(
        session=session, decisions__isnull=True, created_at__lt=Now() - timedelta(milliseconds=older_than_ms)
    )
    return list(waiting.order_by("id").values_list("pk", flat=True)[:at_most])
