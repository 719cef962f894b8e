"""Reading alerts."""

from __future__ import annotations

from typing import Final

from django.db.models import Count

from apps.alerts.models import Alert

OPEN_MAX: Final = 20


def open_alerts() -> list[Alert]:
    """The open ones on which somebody must act, critical ones first, then the oldest; `OPEN_MAX` at most.

    A notice is no such thing: it stands in the list of alerts and is not told in the sentence.
    """
    rows = Alert.objects.filter(acknowledged_at=None).exclude(severity=Alert.Severity.NOTICE)
    return list(rows.order_by("severity", "id")[:OPEN_MAX])  # "critical" sorts before "warning"


def open_by_kind() -> dict[str, int]:
    """How many are open, for every kind there is."""
    counts = dict(
        Alert.objects.filter(acknowledged_at=None).values_list("kind").annotate(n=Count("id")).values_list("kind", "n")
    )
    return {str(kind): counts.get(kind, 0) for kind in Alert.Kind.values}
