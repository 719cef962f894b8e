"""Reads of what happened to the feed: who holds the lease, what the connections did, which symbols were chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.db.models import Count, DurationField, ExpressionWrapper, F, Subquery
from django.db.models.functions import Now

from apps.engine import timeouts
from apps.market.models import FeedTransition, IngestLease, IngestRun, ScreenerRun
from apps.staff import numbers

TAKEOVER_GAP: Final = timedelta(seconds=3 * timeouts.LEASE_TAKEOVER_MAX_SECONDS)
LEASE_TTL_MS: Final = timeouts.LEASE_TTL_SECONDS * 1000


@dataclass(frozen=True, slots=True)
class Lease:
    """Ages are the database's, ms; None: never taken, or given back."""

    token: int
    holder: str
    age_ms: int | None
    held_for_ms: int | None

    @property
    def held(self) -> bool:
        return self.age_ms is not None and self.age_ms <= LEASE_TTL_MS


def lease(*, epoch_id: int) -> Lease | None:
    """The lease of an epoch; None if nobody ever took it."""
    span = DurationField()
    row = (
        IngestLease.objects.filter(epoch_id=epoch_id)
        .annotate(
            age=ExpressionWrapper(Now() - F("renewed_at"), output_field=span),
            held_for=ExpressionWrapper(Now() - F("acquired_at"), output_field=span),
        )
        .values_list("token", "holder", "age", "held_for")
        .first()
    )
    if row is None:
        return None
    token, holder, age, held_for = row
    return Lease(
        token,
        holder,
        None if age is None else max(int(age.total_seconds() * 1000), 0),
        None if held_for is None or age is None else max(int(held_for.total_seconds() * 1000), 0),
    )


def took_over(*, epoch_id: int, token: int) -> bool:
    """Whether the holder of this token followed close upon another ingest, as a standby does; a start does not."""
    acquired = IngestLease.objects.filter(epoch_id=epoch_id, token=token).values("acquired_at")[:1]
    before = IngestRun.objects.filter(epoch_id=epoch_id, token__lt=token)
    return before.filter(last_seen_at__gte=Subquery(acquired) - TAKEOVER_GAP).exists()


def transitions(*, epoch_id: int, limit: int) -> list[FeedTransition]:
    """The newest changes of state, newest first."""
    return list(FeedTransition.objects.filter(epoch_id=epoch_id).order_by("-id")[:limit])


def transition_counts(*, epoch_id: int) -> dict[str, int]:
    """Changes of state by category, of those that are kept."""
    rows = FeedTransition.objects.filter(epoch_id=epoch_id).order_by().values_list("category").annotate(n=Count("id"))
    return dict(rows)


def last_choice(*, epoch_id: int) -> ScreenerRun | None:
    """The newest choice of symbols for an epoch."""
    return ScreenerRun.objects.filter(epoch_id=epoch_id).select_related("rule").order_by("-id").first()


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """One symbol of a choice, in words and figures as people read them."""

    rank: str
    symbol: str
    turnover: str
    movement: str
    verdict: str
    why: str


def choice_rows(run: ScreenerRun) -> list[ChoiceRow]:
    """The symbols near the choice, in the order in which they were ranked."""
    found = [row for row in run.rows if isinstance(row, dict)] if isinstance(run.rows, list) else []
    return [
        ChoiceRow(
            _figure(row.get("rank"), numbers.count),
            str(row.get("symbol", "")),
            _figure(row.get("turnover"), lambda value: numbers.rounded(Decimal(str(value)), 0)),
            _figure(row.get("movement"), lambda value: numbers.percent(Decimal(str(value)), 2, signed=True)),
            str(row.get("verdict") or ""),
            str(row.get("why") or ""),
        )
        for row in found
    ]


def _figure(stored: Any, show: Callable[[Any], str]) -> str:
    """A stored figure as people read it; as it stands if it is none, a dash if there is nothing."""
    if stored is None or stored == "":
        return numbers.UNKNOWN
    try:
        return show(stored)
    except (ArithmeticError, ValueError, TypeError):
        return str(stored)
