"""Raising alerts and acknowledging them."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.alerts.models import PERSON_MAX, REASON_MAX, SUBJECT_MAX, WORDS_MAX, Alert


class AlertRefused(ValueError):
    """An alert that cannot be acknowledged as asked; one line for whoever asked."""


def raise_alert(
    *, kind: Alert.Kind, severity: Alert.Severity, subject: str, words: str, session_id: int | None = None
) -> Alert:
    """Raise an alert as part of the caller's transaction, or count up the open one of this kind and subject.

    Both texts are cut to what fits; neither may hold anything secret: every signed-in person reads them.
    """
    subject, words = in_a_line(subject)[:SUBJECT_MAX], in_a_line(words)[:WORDS_MAX]
    again = _count_up(kind, subject, words)
    if again is not None:
        return again
    try:
        with transaction.atomic():
            return Alert.objects.create(
                kind=kind, severity=severity, subject=subject, words=words, session_id=session_id
            )
    except IntegrityError:  # another process raised it between the two statements
        return _count_up(kind, subject, words) or Alert.objects.filter(kind=kind, subject=subject).latest("id")


def _count_up(kind: Alert.Kind, subject: str, words: str) -> Alert | None:
    """The open alert, counted once more; None if there was none to count (one may have come since)."""
    still_open = Alert.objects.filter(kind=kind, subject=subject, acknowledged_at=None)
    counted = still_open.update(count=F("count") + 1, last_at=Now(), words=words)
    return still_open.first() if counted else None


def acknowledge(*, alert_id: int, by: str, reason: str) -> Alert:
    """A person has looked at it. Raises `AlertRefused` without a name or a reason, and if somebody was faster."""
    by, reason = in_a_line(by), in_a_line(reason)
    if not by or len(by) > PERSON_MAX:
        raise AlertRefused(f"say who acknowledges it, in 1 to {PERSON_MAX} characters")
    if not reason or len(reason) > REASON_MAX:
        raise AlertRefused(f"say why, in 1 to {REASON_MAX} characters")
    row = Alert.objects.filter(pk=alert_id).first()
    if row is None:
        raise AlertRefused(f"there is no alert {alert_id}")
    done = Alert.objects.filter(pk=alert_id, acknowledged_at=None).update(
        acknowledged_at=Now(), acknowledged_by=by, reason=reason
    )
    row.refresh_from_db()
    if not done:
        raise AlertRefused(f"alert {alert_id} was acknowledged by {row.acknowledged_by} already: {row.reason}")
    return row


def settle(*, kind: Alert.Kind, subject: str, by: str, reason: str) -> int:
    """A person has removed the cause: the open alert of it needs nobody any more. Returns how many there were."""
    return Alert.objects.filter(kind=kind, subject=in_a_line(subject)[:SUBJECT_MAX], acknowledged_at=None).update(
        acknowledged_at=Now(), acknowledged_by=by[:PERSON_MAX], reason=in_a_line(reason)[:REASON_MAX]
    )


def in_a_line(text: str) -> str:
    """Without line ends and control characters, so that it reads the same on a page and in a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
