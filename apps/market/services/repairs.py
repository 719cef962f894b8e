"""Asking again, on a person's word, for minutes that stayed UNPROVEN."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction

from apps.market.models import Bar, Coverage, Gap

MINUTES_MAX: Final = 7 * 1440

BACKFILLED: Final = "backfilled"
FAILED: Final = "failed"
WAITING: Final = "waiting"
NOT_CLOSED: Final = "not closed"


@dataclass(frozen=True, slots=True)
class Opened:
    """Minutes that are asked for again, with the attempts before."""

    attempts: dict[int, int]
    proven: int
    backfilled: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of one minute."""

    minute: int
    fate: str
    words: str


@transaction.atomic
def reopen(*, epoch: int, instrument: int, first: int, last: int, now: datetime) -> Opened:
    """Ask for every UNPROVEN minute between the two (inclusive) as soon as possible, whatever was tried before."""
    where = {"epoch_id": epoch, "instrument_id": instrument, "minute__gte": first, "minute__lte": last}
    rows = Coverage.objects.filter(**where)
    unproven = rows.filter(status=Coverage.Status.UNPROVEN)
    attempts = dict(unproven.order_by("minute").values_list("minute", "attempts"))
    gaps = list(unproven.exclude(gap=None).values_list("gap", flat=True).distinct())
    unproven.update(next_attempt_at=now, detail="")
    # Other minutes of the gap were given up; it is open all the same while one of them is asked for.
    closed = Gap.objects.filter(pk__in=gaps, status__in=(Gap.Status.PARTIAL, Gap.Status.UNFILLABLE))
    closed.update(status=Gap.Status.OPEN, closed_at=None)
    marked = set(rows.values_list("minute", flat=True))
    bars = set(Bar.objects.filter(**where).values_list("minute", flat=True))
    return Opened(attempts, len(bars - marked), len(marked) - len(attempts), last - first + 1 - len(bars | marked))


def fates(*, epoch: int, instrument: int, opened: Opened) -> list[Fate]:
    """What has become of the minutes since they were opened, oldest first."""
    where = {"epoch_id": epoch, "instrument_id": instrument, "minute__in": list(opened.attempts)}
    closed = set(Bar.objects.filter(**where).values_list("minute", flat=True))
    rows = Coverage.objects.filter(**where).order_by("minute")
    return [_fate(row, opened.attempts[row.minute], closed) for row in rows]


def _fate(row: Coverage, before: int, closed: set[int]) -> Fate:
    if row.status == Coverage.Status.BACKFILLED:
        return Fate(row.minute, BACKFILLED, row.detail)
    if row.minute not in closed:
        return Fate(row.minute, NOT_CLOSED, "its minute has not ended for the feed")
    if row.detail:  # it was emptied when the minute was opened
        return Fate(row.minute, FAILED, row.detail)
    return Fate(row.minute, WAITING, "answered, on its way" if row.attempts != before else "not answered yet")
