"""The ledger as people read it: counted in few queries, equal to counting minute by minute."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.market import coverage
from apps.market.coverage import Cell
from apps.market.models import Bar, Coverage, EpochInstrument, FeedEpoch, Gap, ShardCursor
from tests import factories
from tests.factories import START_MINUTE
from tests.market.ledger import gap, hole, member

pytestmark = pytest.mark.django_db

LAST = START_MINUTE + 39
UNPROVEN, BACKFILLED = Coverage.Status.UNPROVEN, Coverage.Status.BACKFILLED
Ledger = dict[tuple[str, int], str]


@pytest.fixture
def epoch() -> FeedEpoch:
    epoch = factories.FeedEpochFactory.create()
    ShardCursor.objects.create(epoch=epoch, shard=0, closed_minute=LAST - 3)
    ShardCursor.objects.create(epoch=epoch, shard=1, closed_minute=LAST)
    return epoch


def random_ledger(epoch: FeedEpoch, seed: int, symbols: int = 3) -> Ledger:
    """Minutes of every kind: proven, backfilled, unproven with and without a bar, and none at all."""
    dice, ledger = random.Random(seed), Ledger()
    for number in range(symbols):
        row = member(epoch, f"S{number}USDT")
        for minute in range(START_MINUTE, LAST + 1):
            kind = dice.choice(["proven"] * 5 + ["backfilled", "unproven", "unproven without a bar", "none"])
            store(row, minute, kind)
            ledger[row.instrument.symbol, minute] = kind.split()[0]
    return ledger


def store(row: EpochInstrument, minute: int, kind: str) -> None:
    if kind in ("proven", "backfilled", "unproven"):
        factories.BarFactory.create(epoch=row.epoch, instrument=row.instrument, minute=minute)
    if kind.startswith(("backfilled", "unproven")):
        status = kind.split()[0]
        factories.CoverageFactory.create(epoch=row.epoch, instrument=row.instrument, minute=minute, status=status)


@pytest.mark.parametrize("bucket", [1, 5, 7])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_bucket_counts_what_its_minutes_are(epoch: FeedEpoch, seed: int, bucket: int) -> None:
    ledger = random_ledger(epoch, seed)
    found = coverage.picture(epoch_id=epoch.pk, last_minute=LAST, minutes=40, bucket=bucket)
    assert found.first_minute % bucket == 0
    assert [row.symbol for row in found.rows] == ["S0USDT", "S1USDT", "S2USDT"]
    for row in found.rows:
        for number, cell in enumerate(row.cells):
            first = found.first_minute + number * bucket
            kinds = Counter(ledger.get((row.symbol, minute), "none") for minute in range(first, first + bucket))
            assert (cell.proven, cell.backfilled, cell.unproven) == (
                kinds["proven"],
                kinds["backfilled"],
                kinds["unproven"],
            )


def test_the_figures_of_a_day_are_those_of_its_minutes(epoch: FeedEpoch) -> None:
    kinds = Counter(random_ledger(epoch, 3).values())
    counts = coverage.minute_counts(epoch_id=epoch.pk, minutes=1440)
    assert counts == {kind: kinds[kind] for kind in ("proven", "backfilled", "unproven")}
    newest = coverage.minute_counts(epoch_id=epoch.pk, minutes=1)
    assert sum(newest.values()) <= 3


@pytest.mark.parametrize("symbols", [1, 8])
def test_the_number_of_queries_does_not_grow_with_the_symbols(epoch: FeedEpoch, symbols: int) -> None:
    random_ledger(epoch, 4, symbols)
    with CaptureQueriesContext(connection) as captured:
        coverage.picture(epoch_id=epoch.pk, last_minute=LAST, minutes=40, bucket=5)
    assert len(captured) == 3
    with CaptureQueriesContext(connection) as captured:
        coverage.minute_counts(epoch_id=epoch.pk, minutes=40)
        coverage.gated(epoch_id=epoch.pk, window_minutes=16)
    assert len(captured) == 6


def test_another_epoch_is_not_in_the_picture(epoch: FeedEpoch) -> None:
    other = factories.FeedEpochFactory.create()
    store(member(other, "S0USDT"), LAST, "unproven")
    store(member(epoch, "S0USDT"), LAST, "proven")
    (row,) = coverage.picture(epoch_id=epoch.pk, last_minute=LAST, minutes=5, bucket=5).rows
    assert Counter(cell.kind for cell in row.cells) == {coverage.PROVISIONAL: 1}


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (Cell(), coverage.NOTHING),
        (Cell(proven=5), coverage.PROVISIONAL),
        (Cell(proven=5, checked=True), coverage.CHECKED),
        (Cell(proven=4, backfilled=1, checked=True), coverage.BACKFILLED),
        (Cell(proven=3, backfilled=1, unproven=1, checked=True), coverage.UNPROVEN),
        (Cell(unproven=1), coverage.UNPROVEN),
    ],
)
def test_a_bucket_is_called_by_the_worst_that_is_in_it(cell: Cell, kind: str) -> None:
    assert cell.kind == kind


def test_a_bucket_is_checked_once_its_last_minute_was_compared(epoch: FeedEpoch) -> None:
    row = member(epoch, "S0USDT", swept_minute=START_MINUTE + 8)
    for number in range(15):
        store(row, START_MINUTE + number, "proven")
    first = START_MINUTE % 5  # buckets begin at whole multiples
    found = coverage.picture(epoch_id=epoch.pk, last_minute=START_MINUTE + 14 - first, minutes=15, bucket=5)
    kinds = [cell.kind for cell in found.rows[0].cells]
    ends = [found.first_minute + 5 * number + 4 for number in range(3)]
    assert [kind == coverage.CHECKED for kind in kinds if kind != coverage.NOTHING] == [
        end <= START_MINUTE + 8 for end, kind in zip(ends, kinds, strict=True) if kind != coverage.NOTHING
    ]


def test_a_symbol_that_is_not_followed_any_more_is_shown_while_it_has_minutes_there(epoch: FeedEpoch) -> None:
    gone, never = member(epoch, "AGOUSDT", followed=False), member(epoch, "NEVUSDT", followed=False)
    store(gone, LAST, "proven")
    store(member(epoch, "ZZZUSDT"), LAST, "proven")
    rows = coverage.picture(epoch_id=epoch.pk, last_minute=LAST, minutes=40, bucket=5).rows
    assert [(row.symbol, row.followed) for row in rows] == [("ZZZUSDT", True), ("AGOUSDT", False)]
    assert never.instrument.symbol not in {row.symbol for row in rows}


def test_a_picture_has_bounds(epoch: FeedEpoch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "ROWS_MAX", 2)
    random_ledger(epoch, 5, 5)
    found = coverage.picture(epoch_id=epoch.pk, last_minute=LAST, minutes=40, bucket=5)
    assert (len(found.rows), found.more) == (2, 3)


# --- who is held up ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minute", "held"),
    [(LAST + 1, True), (LAST, True), (LAST + 1 - 16, True), (LAST - 16, False)],
    ids=["the open minute", "the newest", "the oldest of the window", "just before it"],
)
def test_a_symbol_is_held_up_by_unproven_minutes_in_its_window(epoch: FeedEpoch, minute: int, held: bool) -> None:
    store(member(epoch, "S0USDT"), minute, "unproven without a bar")
    found = coverage.gated(epoch_id=epoch.pk, window_minutes=16)
    assert bool(found) is held
    if held:
        assert (found[0].symbol, found[0].minutes, found[0].free_minute) == ("S0USDT", 1, minute + 17)


def test_a_backfilled_minute_and_a_symbol_that_went_hold_up_nothing(epoch: FeedEpoch) -> None:
    store(member(epoch, "S0USDT"), LAST, "backfilled")
    store(member(epoch, "S1USDT", followed=False), LAST, "unproven")
    assert coverage.gated(epoch_id=epoch.pk, window_minutes=16) == []


@pytest.mark.parametrize(
    ("status", "final"), [(Gap.Status.OPEN, False), (Gap.Status.PARTIAL, True), (Gap.Status.UNFILLABLE, True)]
)
def test_it_is_final_once_its_gap_was_given_up(epoch: FeedEpoch, status: str, final: bool) -> None:
    row = member(epoch, "S0USDT")
    made = gap(row, 38, 39)
    Gap.objects.update(status=status)
    Coverage.objects.filter(gap=made).update(attempts=8)
    (found,) = coverage.gated(epoch_id=epoch.pk, window_minutes=16)
    assert (found.minutes, found.tried, found.final) == (2, True, final)


def test_a_hole_that_was_not_asked_for_yet_is_not_tried(epoch: FeedEpoch) -> None:
    hole(member(epoch, "S0USDT"), 39)
    (found,) = coverage.gated(epoch_id=epoch.pk, window_minutes=16)
    assert (found.tried, found.final) == (False, False)


# --- gaps and sweeps --------------------------------------------------------------------------------------------------


def test_open_gaps_come_first_with_their_next_attempt(epoch: FeedEpoch) -> None:
    row = member(epoch, "S0USDT")
    due = timezone.now() + timedelta(seconds=60)
    lost = gap(row, 1, status=Gap.Status.UNFILLABLE)
    waits = gap(row, 5, 6)
    gap(row, 9, status=Gap.Status.FILLED)
    waits.minutes.filter(minute=START_MINUTE + 5).update(status=BACKFILLED, attempts=7, detail="not this one")
    waits.minutes.filter(minute=START_MINUTE + 6).update(attempts=2, next_attempt_at=due, detail="failed: HTTP 503")
    lost.minutes.update(attempts=8, next_attempt_at=None)
    first, second = coverage.unfilled_gaps(epoch_id=epoch.pk, limit=5)
    assert (first.pk, first.attempts, first.next_attempt_at, first.detail) == (waits.pk, 2, due, "failed: HTTP 503")
    assert (second.pk, second.status, second.next_attempt_at) == (lost.pk, "unfillable", None)
    assert coverage.unfilled_gaps(epoch_id=epoch.pk, limit=1) == [first]
    assert coverage.gap_counts(epoch_id=epoch.pk) == {"open": 1, "filled": 1, "partial": 0, "unfillable": 1}


def test_the_sweep_is_as_far_as_its_slowest_symbol(epoch: FeedEpoch) -> None:
    member(epoch, "S0USDT", swept_minute=LAST)
    member(epoch, "S1USDT", swept_minute=LAST - 60)
    assert coverage.oldest_sweep(epoch_id=epoch.pk) == LAST - 60
    member(epoch, "S2USDT")
    assert coverage.oldest_sweep(epoch_id=epoch.pk) is None
    EpochInstrument.objects.filter(instrument__symbol="S2USDT").update(followed=False)
    assert coverage.oldest_sweep(epoch_id=epoch.pk) == LAST - 60


def test_before_the_first_minute_nothing_is_counted() -> None:
    fresh = factories.FeedEpochFactory.create()
    assert coverage.newest_minute(epoch_id=fresh.pk) is None
    assert coverage.minute_counts(epoch_id=fresh.pk, minutes=1440) == {}
    assert coverage.gated(epoch_id=fresh.pk, window_minutes=16) == []
    assert not Bar.objects.exists()
