"""The coverage ledger: which minutes are not PROVEN, why, and the gaps that neighbouring ones make.

Part of the drain's transaction, so it asks little: one read of the minutes concerned, one write of them, and three
statements about gaps where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from apps.engine.model import BackfilledMinute, CoverageChange, RefusedBackfill, Scale, UnprovenMinute
from apps.market.models import Coverage, Gap, Instrument

REASON_MAX: Final = 100
DETAIL_MAX: Final = 200
HISTORY: Final = "history from klines"

Place = tuple[int, int]  # instrument, minute


@dataclass(slots=True)
class Ledger:
    """The rows of the minutes concerned, and what happened to them."""

    epoch_id: int
    rows: dict[Place, Coverage]
    written: dict[Place, Coverage] = field(default_factory=dict)
    opened: dict[Place, Coverage] = field(default_factory=dict)
    filled: list[tuple[Gap | None, Place, int]] = field(default_factory=list)  # gap if it had one, rows that REST gave
    noted: dict[Place, Coverage] = field(default_factory=dict)

    def take(self, instrument: Instrument, change: CoverageChange) -> None:
        place = (instrument.pk, change.minute)
        row = self.rows.get(place)
        if isinstance(change, UnprovenMinute):
            self._lose(place, row, change.reason)
        elif isinstance(change, BackfilledMinute):
            self._fill(place, row, change)
        elif row is not None and row.status == Coverage.Status.UNPROVEN:
            row.detail = _why_refused(change, instrument)
            self.noted[place] = row

    def _lose(self, place: Place, row: Coverage | None, reason: str) -> None:
        """The first reason stays until the minute is repaired. REST is asked at once."""
        if row is not None and row.status == Coverage.Status.UNPROVEN:
            return
        row = row or self._new(place)
        row.status, row.reason = Coverage.Status.UNPROVEN, reason[:REASON_MAX]
        row.attempts, row.next_attempt_at, row.detail, row.gap = 0, Now(), "", None
        self.written[place] = self.opened[place] = row

    def _fill(self, place: Place, row: Coverage | None, change: BackfilledMinute) -> None:
        if row is None:
            row = self._new(place)
            row.reason = HISTORY
        elif row.status == Coverage.Status.UNPROVEN:
            row.detail = f"{change.source}, {change.rows} {'row' if change.rows == 1 else 'rows'}"
            self.filled.append((row.gap, place, change.rows))
        row.status, row.next_attempt_at = Coverage.Status.BACKFILLED, None
        self.written[place] = row

    def _new(self, place: Place) -> Coverage:
        row = Coverage(epoch_id=self.epoch_id, instrument_id=place[0], minute=place[1])
        self.rows[place] = row
        return row


def store_coverage(*, epoch_id: int, instruments: Mapping[str, Instrument], changes: Sequence[CoverageChange]) -> None:
    """Take the changes into the ledger, in order."""
    if not changes:
        return
    places = {(instruments[change.symbol].pk, change.minute) for change in changes}
    known = Coverage.objects.filter(
        epoch_id=epoch_id, instrument_id__in={place[0] for place in places}, minute__in={place[1] for place in places}
    ).select_related("gap")
    ledger = Ledger(epoch_id, {(row.instrument_id, row.minute): row for row in known})
    for change in changes:
        ledger.take(instruments[change.symbol], change)
    _open_gaps(ledger)
    Coverage.objects.bulk_create(
        ledger.written.values(),
        update_conflicts=True,
        unique_fields=["epoch", "instrument", "minute"],
        update_fields=["status", "reason", "gap", "attempts", "next_attempt_at", "detail"],
        batch_size=500,
    )
    # What the steward may change meanwhile is left alone: only the words of a refusal are written.
    Coverage.objects.bulk_update(
        [row for place, row in ledger.noted.items() if place not in ledger.written], ["detail"], batch_size=500
    )
    _fill_gaps(ledger)


def _open_gaps(ledger: Ledger) -> None:
    """One gap per run of neighbouring minutes with one reason; one that goes on where an open gap ends extends it."""
    runs = list(_runs(ledger.opened.values()))
    if not runs:
        return
    before = Gap.objects.filter(
        epoch_id=ledger.epoch_id,
        status=Gap.Status.OPEN,
        instrument_id__in={run[0].instrument_id for run in runs},
        last_minute__in={run[0].minute - 1 for run in runs},
    )
    open_ends = {(gap.instrument_id, gap.last_minute + 1, gap.reason): gap for gap in before}
    fresh, extended = [], []
    for run in runs:
        first, last = run[0], run[-1]
        gap = open_ends.get((first.instrument_id, first.minute, first.reason))
        if gap is None:
            gap = Gap(epoch_id=ledger.epoch_id, instrument_id=first.instrument_id, first_minute=first.minute)
            gap.reason = first.reason
            fresh.append(gap)
        else:
            extended.append(gap)
        gap.last_minute = last.minute
        for row in run:
            row.gap = gap
    Gap.objects.bulk_create(fresh, batch_size=500)
    Gap.objects.bulk_update(extended, ["last_minute"], batch_size=500)
    for row in ledger.opened.values():
        row.gap = row.gap  # the foreign key's column takes the new gap's number


def _runs(rows: Iterable[Coverage]) -> Iterable[list[Coverage]]:
    run: list[Coverage] = []
    for row in sorted(rows, key=lambda row: (row.instrument_id, row.minute)):
        if run and (row.instrument_id, row.minute, row.reason) != (
            run[-1].instrument_id, run[-1].minute + 1, run[-1].reason,
        ):  # fmt: skip
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _fill_gaps(ledger: Ledger) -> None:
    """Count what REST gave; a gap without an UNPROVEN minute is FILLED."""
    told: dict[int, int] = {}
    for gap, place, rows in ledger.filled:
        gap = gap or ledger.rows[place].gap
        if gap is not None:
            told[gap.pk] = told.get(gap.pk, 0) + rows
    if not told:
        return
    unproven = Coverage.objects.filter(gap=OuterRef("pk"), status=Coverage.Status.UNPROVEN)
    gaps = list(Gap.objects.filter(pk__in=told).select_for_update().order_by("pk").annotate(remains=Exists(unproven)))
    for gap in gaps:
        gap.rows += told[gap.pk]
        if not gap.remains:
            gap.status, gap.closed_at = Gap.Status.FILLED, Now()
    Gap.objects.bulk_update(gaps, ["rows", "status", "closed_at"], batch_size=500)


def _why_refused(change: RefusedBackfill, instrument: Instrument) -> str:
    words = change.reason
    if change.told is not None and change.received is not None:
        scale = Scale(instrument.price_decimals, instrument.quantity_decimals)
        words += f": {scale.quantity(change.told):f} there, {scale.quantity(change.received):f} here"
    return words[:DETAIL_MAX]
