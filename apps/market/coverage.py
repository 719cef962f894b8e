"""Reads of the coverage ledger: which minutes are proven, which are not, and whom that holds up.

A minute with a bar and without a row of its own is PROVEN. So every figure here is bars less rows, in two queries
whatever the number of symbols.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet

from apps.market.models import Bar, Coverage, EpochInstrument, Gap, ShardCursor

ROWS_MAX: Final = 400
GATED_MAX: Final = 100
CLOSED_UNFILLED: Final = (Gap.Status.UNFILLABLE, Gap.Status.PARTIAL)

CHECKED: Final = "checked"
PROVISIONAL: Final = "provisional"
BACKFILLED: Final = "backfilled"
UNPROVEN: Final = "unproven"
NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Cell:
    """Some neighbouring minutes of one symbol, by what is known of them. `checked`: its klines have been compared."""

    proven: int = 0
    backfilled: int = 0
    unproven: int = 0
    checked: bool = False
    reason: str = ""

    @property
    def kind(self) -> str:
        """The worst that is in it: nobody must overlook one UNPROVEN minute among nine proven ones."""
        if self.unproven:
            return UNPROVEN
        if self.backfilled:
            return BACKFILLED
        if not self.proven:
            return NOTHING
        return CHECKED if self.checked else PROVISIONAL


@dataclass(frozen=True, slots=True)
class Row:
    instrument_id: int
    symbol: str
    followed: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """Cell n of every row holds `bucket` minutes from `first_minute + n * bucket` on. `more` rows are not in it."""

    first_minute: int
    bucket: int
    rows: tuple[Row, ...]
    more: int = 0


def newest_minute(*, epoch_id: int) -> int | None:
    """The last minute that some shard has closed; None before the first."""
    newest: int | None = ShardCursor.objects.filter(epoch_id=epoch_id).aggregate(at=Max("closed_minute"))["at"]
    return newest


def picture(*, epoch_id: int, last_minute: int, minutes: int, bucket: int) -> Picture:
    """The ledger of an epoch up to `last_minute` in buckets that begin at whole multiples of `bucket` minutes."""
    end = (last_minute // bucket + 1) * bucket
    first = end - minutes // bucket * bucket
    known = EpochInstrument.objects.filter(epoch_id=epoch_id).order_by("-followed", "instrument__symbol")
    members = list(known.values_list("instrument_id", "instrument__symbol", "followed", "swept_minute")[: ROWS_MAX + 1])
    more = known.count() - ROWS_MAX if len(members) > ROWS_MAX else 0
    members = members[:ROWS_MAX]
    bars, marks = _counted(epoch_id, [member[0] for member in members], first, end, bucket)
    rows = []
    for instrument, symbol, followed, swept in members:
        cells = tuple(
            _cell(bars.get((instrument, n), 0), marks.get((instrument, n), {}), first + (n + 1) * bucket - 1, swept)
            for n in range((end - first) // bucket)
        )
        if followed or any(cell.kind != NOTHING for cell in cells):
            rows.append(Row(instrument, symbol, followed, cells))
    return Picture(first, bucket, tuple(rows), more)


Counted = tuple[dict[tuple[int, int], int], dict[tuple[int, int], dict[str, tuple[int, int, str]]]]


def _counted(epoch_id: int, instruments: list[int], first: int, end: int, bucket: int) -> Counted:
    """Bars, and (rows, rows with a bar, a reason) by status; both by instrument and bucket.

    The instruments are named one by one because the index asks for them before the minutes.
    """
    number = (F("minute") - first) / bucket
    where = {"epoch_id": epoch_id, "instrument_id__in": instruments, "minute__gte": first, "minute__lt": end}
    closed = Bar.objects.filter(**where).order_by().annotate(bucket=number).values_list("instrument_id", "bucket")
    bars = {(instrument, n): count for instrument, n, count in closed.annotate(n=Count("id"))}
    marks: dict[tuple[int, int], dict[str, tuple[int, int, str]]] = {}
    rows = _with_bars(Coverage.objects.filter(**where)).annotate(bucket=number)
    grouped = rows.values_list("instrument_id", "bucket", "status").annotate(
        n=Count("id"), barred=Count("id", filter=Q(has_bar=True)), why=Min("reason")
    )
    for instrument, n, status, count, barred, why in grouped:
        marks.setdefault((instrument, n), {})[status] = (count, barred, why)
    return bars, marks


def _with_bars(rows: QuerySet[Coverage]) -> QuerySet[Coverage]:
    same = {name: OuterRef(name) for name in ("epoch_id", "instrument_id", "minute")}
    return rows.order_by().annotate(has_bar=Exists(Bar.objects.filter(**same)))


def _cell(bars: int, marks: dict[str, tuple[int, int, str]], last: int, swept: int | None) -> Cell:
    if not bars and not marks:
        return _EMPTY
    unproven, backfilled = marks.get(Coverage.Status.UNPROVEN), marks.get(Coverage.Status.BACKFILLED)
    return Cell(
        bars - sum(barred for _, barred, _ in marks.values()),
        backfilled[0] if backfilled else 0,
        unproven[0] if unproven else 0,
        swept is not None and last <= swept,
        unproven[2] if unproven else backfilled[2] if backfilled else "",
    )


_EMPTY: Final = Cell()


def minute_counts(*, epoch_id: int, minutes: int) -> dict[str, int]:
    """How many of the newest `minutes` minutes are proven, backfilled, unproven, all symbols together. Empty: none."""
    last = newest_minute(epoch_id=epoch_id)
    if last is None:
        return {}
    instruments = list(EpochInstrument.objects.filter(epoch_id=epoch_id).values_list("instrument_id", flat=True))
    where = {"epoch_id": epoch_id, "instrument_id__in": instruments, "minute__gt": last - minutes}
    bars = Bar.objects.filter(**where).count()
    rows = _with_bars(Coverage.objects.filter(**where)).values_list("status")
    by_status = {
        status: (n, barred)
        for status, n, barred in rows.annotate(n=Count("id"), barred=Count("id", filter=Q(has_bar=True)))
    }
    marked = {status: by_status.get(status, (0, 0))[0] for status in (BACKFILLED, UNPROVEN)}
    return {"proven": bars - sum(barred for _, barred in by_status.values()), **marked}


@dataclass(frozen=True, slots=True)
class GatedSymbol:
    """A followed symbol that can raise no entry signal now, because its window holds UNPROVEN minutes.

    `free_minute` is the first one at which it can again if nothing is repaired; `final`: nothing will be.
    """

    symbol: str
    minutes: int
    reason: str
    free_minute: int
    tried: bool
    final: bool


def gated(*, epoch_id: int, window_minutes: int) -> list[GatedSymbol]:
    """Symbols that are held up at present, in symbol order, at most GATED_MAX of them."""
    last = newest_minute(epoch_id=epoch_id)
    if last is None:
        return []
    followed = EpochInstrument.objects.filter(epoch_id=epoch_id, followed=True).values("instrument_id")
    rows = Coverage.objects.filter(
        epoch_id=epoch_id,
        instrument_id__in=followed,
        minute__gte=last + 1 - window_minutes,
        status=Coverage.Status.UNPROVEN,
    )
    grouped = rows.order_by("instrument__symbol").values_list("instrument__symbol")
    found = grouped.annotate(
        n=Count("id"),
        why=Min("reason"),
        newest=Max("minute"),
        tries=Max("attempts"),
        lost=Count("id", filter=Q(gap__status__in=CLOSED_UNFILLED)),
    )[:GATED_MAX]
    return [
        GatedSymbol(symbol, n, why, newest + window_minutes + 1, tries > 0, lost > 0)
        for symbol, n, why, newest, tries, lost in found
    ]


def gap_counts(*, epoch_id: int) -> dict[str, int]:
    """How many gaps of an epoch there are in each status."""
    found = Gap.objects.filter(epoch_id=epoch_id).order_by().values_list("status").annotate(n=Count("id"))
    return {**dict.fromkeys(Gap.Status.values, 0), **dict(found)}


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A gap that is not filled, with the state of its repair."""

    pk: int
    symbol: str
    first_minute: int
    last_minute: int
    reason: str
    status: str
    rows: int
    attempts: int
    next_attempt_at: Any
    detail: str


def unfilled_gaps(*, epoch_id: int, limit: int) -> list[OpenGap]:
    """Gaps that are not filled: the open ones first, within that the newest."""
    left = Q(minutes__status=Coverage.Status.UNPROVEN)
    found = (
        Gap.objects.filter(epoch_id=epoch_id)
        .exclude(status=Gap.Status.FILLED)
        .annotate(
            tries=Max("minutes__attempts", filter=left),
            due=Min("minutes__next_attempt_at", filter=left),
            told=Max("minutes__detail", filter=left),
        )
        .order_by("status", "-id")
        .values_list("pk", "instrument__symbol", "first_minute", "last_minute", "reason", "status", "rows", "tries",
                     "due", "told")
    )  # fmt: skip
    shown = [*found.filter(status=Gap.Status.OPEN)[:limit], *found.exclude(status=Gap.Status.OPEN)[:limit]]
    return [OpenGap(*row[:7], row[7] or 0, row[8], row[9] or "") for row in shown[:limit]]


def oldest_sweep(*, epoch_id: int) -> int | None:
    """The swept minute of the followed symbol that was compared longest ago; None if one of them never was."""
    swept: Iterable[int | None] = EpochInstrument.objects.filter(epoch_id=epoch_id, followed=True).values_list(
        "swept_minute", flat=True
    )
    known = list(swept)
    return min((minute for minute in known if minute is not None), default=None) if None not in known else None
