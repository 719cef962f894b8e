"""Minutes that were given up are asked for again when a person says so."""

from __future__ import annotations

import pytest

from apps.market.models import Coverage, EpochInstrument, FeedEpoch, Gap
from apps.market.services.orders import ATTEMPTS_MAX, compose_orders, store_outcomes
from apps.market.services.repairs import BACKFILLED, FAILED, NOT_CLOSED, WAITING, Opened, fates, reopen
from tests import factories
from tests.factories import START_MINUTE
from tests.market.ledger import NOW, NOW_MS, answer, gap, hole, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def epoch() -> FeedEpoch:
    return factories.FeedEpochFactory.create()


def opened(row: EpochInstrument, epoch: FeedEpoch, first: int, last: int) -> Opened:
    pk = row.instrument.pk
    return reopen(epoch=epoch.pk, instrument=pk, first=START_MINUTE + first, last=START_MINUTE + last, now=NOW)


def test_minutes_that_were_given_up_are_asked_for_again_with_a_number_of_their_own(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    made = gap(row, 0, 1, status=Gap.Status.UNFILLABLE, closed_at=NOW)
    Coverage.objects.update(attempts=ATTEMPTS_MAX, next_attempt_at=None, detail="failed: HTTP 503")
    assert opened(row, epoch, 0, 0).attempts == {START_MINUTE: ATTEMPTS_MAX}
    asked = [(one.minute, one.attempt) for one in compose_orders(epoch=epoch.pk, now_ms=NOW_MS).repairs]
    assert asked == [(START_MINUTE, ATTEMPTS_MAX + 1)]
    made.refresh_from_db()
    assert (made.status, made.closed_at) == (Gap.Status.OPEN, None)
    assert Coverage.objects.get(minute=START_MINUTE).detail == ""  # what comes next is the new attempt's
    store_outcomes(epoch=epoch.pk, outcomes=[answer(row, 0, ATTEMPTS_MAX + 1)], now=NOW)
    assert Coverage.objects.get(minute=START_MINUTE).next_attempt_at is not None  # another round of attempts
    made.refresh_from_db()
    assert made.status == Gap.Status.OPEN


def test_only_unproven_minutes_are_opened_and_the_others_are_counted(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    hole(row, 0, 1)
    Coverage.objects.filter(minute=START_MINUTE + 1).update(status=Coverage.Status.BACKFILLED)
    factories.BarFactory.create(epoch=epoch, instrument=row.instrument, minute=START_MINUTE + 2)
    hole(member(epoch, "ADAUSDT"), 0)
    found = opened(row, epoch, 0, 4)
    assert found == Opened({START_MINUTE: 0}, proven=1, backfilled=1, unknown=2)


def test_what_became_of_each_minute_is_told(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    hole(row, 0, 1, 2, 3)
    hole(row, 4, closed=False)
    found = opened(row, epoch, 0, 9)
    store_outcomes(
        epoch=epoch.pk,
        outcomes=[
            answer(row, 1, status="partial", detail="a full page in one second"),
            answer(row, 2, status="filled"),
        ],
        now=NOW,
    )
    Coverage.objects.filter(minute=START_MINUTE).update(status=Coverage.Status.BACKFILLED, detail="trades, 4 rows")
    told = fates(epoch=epoch.pk, instrument=row.instrument.pk, opened=found)
    assert [(one.minute - START_MINUTE, one.fate, one.words) for one in told] == [
        (0, BACKFILLED, "trades, 4 rows"),
        (1, FAILED, "partial: a full page in one second"),
        (2, WAITING, "answered, on its way"),
        (3, WAITING, "not answered yet"),
        (4, NOT_CLOSED, "its minute has not ended for the feed"),
    ]
