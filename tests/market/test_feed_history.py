"""Who holds the lease, what the connections did, and which symbols were chosen, as stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.engine import timeouts
from apps.market import feed_history
from tests.factories import (
    FeedEpochFactory,
    FeedTransitionFactory,
    IngestLeaseFactory,
    IngestRunFactory,
    ScreenerRunFactory,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("renewed_seconds_ago", "held"),
    [(0, True), (timeouts.LEASE_TTL_SECONDS - 3, True), (timeouts.LEASE_TTL_SECONDS + 1, False), (None, False)],
)
def test_a_lease_is_held_while_its_renewal_is_younger_than_its_time(
    renewed_seconds_ago: int | None, held: bool
) -> None:
    now = timezone.now()
    renewed = None if renewed_seconds_ago is None else now - timedelta(seconds=renewed_seconds_ago)
    row = IngestLeaseFactory.create(renewed_at=renewed, acquired_at=now - timedelta(minutes=5))
    found = feed_history.lease(epoch_id=row.epoch_id)
    assert found is not None
    assert (found.held, found.holder) == (held, "machine:4711")
    assert (found.age_ms is None) == (found.held_for_ms is None) == (renewed is None)
    if found.held_for_ms is not None:
        assert 300_000 <= found.held_for_ms < 360_000


@pytest.mark.parametrize(
    ("seen_seconds_before", "token", "followed"),
    [(4, 1, True), (25, 1, True), (40, 1, False), (4, 3, False), (None, 1, False)],
    ids=["killed", "slow to take over", "a restart", "a later run", "never seen"],
)
def test_a_takeover_follows_close_upon_another_ingest(
    seen_seconds_before: int | None, token: int, followed: bool
) -> None:
    row = IngestLeaseFactory.create(token=2)
    assert row.acquired_at is not None
    seen = None if seen_seconds_before is None else row.acquired_at - timedelta(seconds=seen_seconds_before)
    IngestRunFactory.create(epoch=row.epoch, token=token, last_seen_at=seen)
    IngestRunFactory.create(token=10**6, last_seen_at=row.acquired_at)
    assert feed_history.took_over(epoch_id=row.epoch_id, token=2) is followed


def test_a_lease_that_nobody_took_is_none() -> None:
    assert feed_history.lease(epoch_id=FeedEpochFactory.create().pk) is None


def test_changes_of_state_are_the_newest_first_and_counted_by_category() -> None:
    epoch = FeedEpochFactory.create()
    rows = [FeedTransitionFactory.create(epoch=epoch, category=name) for name in ("no_pong", "rotated", "no_pong")]
    FeedTransitionFactory.create(category="blocked")
    assert feed_history.transitions(epoch_id=epoch.pk, limit=2) == [rows[2], rows[1]]
    assert feed_history.transition_counts(epoch_id=epoch.pk) == {"no_pong": 2, "rotated": 1}


def test_the_newest_choice_is_told() -> None:
    epoch = FeedEpochFactory.create()
    assert feed_history.last_choice(epoch_id=epoch.pk) is None
    ScreenerRunFactory.create(epoch=epoch)
    newest = ScreenerRunFactory.create(epoch=epoch)
    assert feed_history.last_choice(epoch_id=epoch.pk) == newest


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (
            {"rank": 1, "symbol": "XRPUSDT", "turnover": "1234567.5", "movement": "-0.0321", "verdict": "followed",
             "why": "rank 1 by turnover"},
            ("1", "XRPUSDT", "1\u202f234\u202f568", "−3.21\u202f%", "followed", "rank 1 by turnover"),
        ),
        (
            {"rank": None, "symbol": "NEWUSDT", "turnover": None, "movement": None, "verdict": "left out", "why": "x"},
            ("—", "NEWUSDT", "—", "—", "left out", "x"),
        ),
        ({"rank": "?", "symbol": "A", "turnover": "many", "movement": []}, ("?", "A", "many", "[]", "", "")),
    ],
)  # fmt: skip
def test_a_choice_is_shown_in_figures_that_people_read(stored: dict[str, Any], shown: tuple[str, ...]) -> None:
    (row,) = feed_history.choice_rows(ScreenerRunFactory.build(rows=[stored], rule=None, epoch=None))
    assert (row.rank, row.symbol, row.turnover, row.movement, row.verdict, row.why) == shown


def test_a_choice_whose_rows_are_not_rows_has_none() -> None:
    assert feed_history.choice_rows(ScreenerRunFactory.build(rows={"odd": 1}, rule=None, epoch=None)) == []
    assert feed_history.choice_rows(ScreenerRunFactory.build(rows=["odd"], rule=None, epoch=None)) == []
