"""Reading alerts."""

from __future__ import annotations

from typing import Final

from django.db.models import Count

from apps.alerts.models import Alert

OPEN_MAX: Final = 20


def open_alerts() -> list[Alert]:
    """The open ones, critical ones first, then the oldest; `OPEN_MAX` at most."""
    rows = Alert.objects.filter(acknowledged_at=None).order_by("severity", "id")  # "critical" sorts before "warning"
    return list(rows[:OPEN_MAX])


def open_by_kind() -> dict[str, int]:
    """How many are open, for every kind there is."""
    counts = dict(
        Alert.objects.filter(acknowledged_at=None).values_list("kind").annotate(n=Count("id")).values_list("kind", "n")
    )
    return {str(kind): counts.get(kind, 0) for kind in Alert.Kind.values}
