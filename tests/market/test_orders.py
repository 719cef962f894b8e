"""The ledger says what is to be repaired, and takes the answers in."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from apps.bus.orders import (
    DOUBTS_MAX,
    REPAIRS_MAX,
    Doubt,
    Repair,
    WantedSymbol,
    read_orders,
    read_outcomes,
    write_outcome,
)
from apps.bus.streams import repair_outcomes_key
from apps.market.models import Coverage, FeedEpoch, Gap, KlineDoubt
from apps.market.services.orders import (
    ATTEMPTS_MAX,
    RETRY_SECONDS,
    compose_orders,
    exchange_orders,
    settle_doubts,
    store_outcomes,
)
from tests import factories
from tests.factories import START_MINUTE
from tests.market.ledger import NOW, NOW_MS, answer, gap, hole, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def epoch() -> FeedEpoch:
    return factories.FeedEpochFactory.create()


def repairs(epoch: FeedEpoch, now_ms: int = NOW_MS) -> list[tuple[str, int, int]]:
    orders = compose_orders(epoch=epoch.pk, now_ms=now_ms)
    return [(row.symbol, row.minute - START_MINUTE, row.attempt) for row in orders.repairs]


def test_the_wish_names_the_followed_symbols_with_their_decimals(epoch: FeedEpoch) -> None:
    member(epoch, "XRPUSDT")
    member(epoch, "ADAUSDT")
    member(epoch, "OLDUSDT", followed=False)
    member(factories.FeedEpochFactory.create(), "DOTUSDT")
    orders = compose_orders(epoch=epoch.pk, now_ms=NOW_MS)
    assert orders.symbols == [WantedSymbol("ADAUSDT", 4, 2), WantedSymbol("XRPUSDT", 4, 2)]
    assert (orders.written_ms, orders.repairs, orders.doubts) == (NOW_MS, [], [])


def test_an_unproven_minute_is_asked_for_once_it_is_closed_and_due(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    hole(row, 0)
    hole(row, 1, closed=False)
    hole(row, 2, due_ms=NOW_MS + 1)
    hole(row, 3, due_ms=None)
    (filled,) = hole(row, 4)
    Coverage.objects.filter(pk=filled.pk).update(status=Coverage.Status.BACKFILLED)
    hole(member(epoch, "OLDUSDT", followed=False), 0)
    assert repairs(epoch) == [("XRPUSDT", 0, 1)]
    assert repairs(epoch, NOW_MS + 1) == [("XRPUSDT", 2, 1), ("XRPUSDT", 0, 1)]


def test_newest_minutes_come_first_and_symbols_take_turns(epoch: FeedEpoch) -> None:
    hole(member(epoch, "XRPUSDT"), *range(10, 14))
    hole(member(epoch, "ADAUSDT"), 2, 3)
    assert [row[:2] for row in repairs(epoch)] == [
        ("XRPUSDT", 13), ("ADAUSDT", 3), ("XRPUSDT", 12), ("ADAUSDT", 2), ("XRPUSDT", 11), ("XRPUSDT", 10),
    ]  # fmt: skip


def test_a_long_hole_of_one_symbol_leaves_room_for_the_others(epoch: FeedEpoch) -> None:
    hole(member(epoch, "XRPUSDT"), *range(10, 10 + REPAIRS_MAX))
    hole(member(epoch, "ADAUSDT"), 0)
    asked = repairs(epoch)
    assert len(asked) == REPAIRS_MAX
    assert ("ADAUSDT", 0, 1) in asked[:2]


def test_a_failed_attempt_is_repeated_after_growing_pauses_and_then_given_up(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    made = gap(row, 0)
    now = NOW
    for attempt in range(1, ATTEMPTS_MAX + 1):
        assert repairs(epoch, int(now.timestamp() * 1000)) == [("XRPUSDT", 0, attempt)]
        assert store_outcomes(epoch=epoch.pk, outcomes=[answer(row, 0, attempt)], now=now) == 1
        stored = Coverage.objects.get()
        assert (stored.attempts, stored.detail) == (attempt, "failed: HTTP 503")
        if attempt < ATTEMPTS_MAX:
            assert stored.next_attempt_at == now + timedelta(seconds=RETRY_SECONDS[attempt - 1])
            now = stored.next_attempt_at
    assert stored.next_attempt_at is None
    assert repairs(epoch, NOW_MS + 10**9) == []
    made.refresh_from_db()
    assert (made.status, made.closed_at) == (Gap.Status.UNFILLABLE, now)


def test_only_the_answer_to_the_present_request_counts(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    hole(row, 0)
    assert store_outcomes(epoch=epoch.pk, outcomes=[answer(row, 0, attempt=2), answer(row, 9)], now=NOW) == 0
    assert store_outcomes(epoch=epoch.pk, outcomes=[answer(row, 0)], now=NOW) == 1
    assert store_outcomes(epoch=epoch.pk, outcomes=[answer(row, 0)], now=NOW) == 0
    assert Coverage.objects.get().attempts == 1


def test_a_filled_minute_is_asked_for_again_only_if_its_repair_does_not_arrive(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    hole(row, 0)
    store_outcomes(epoch=epoch.pk, outcomes=[answer(row, 0, status="filled", detail="", rows=4)], now=NOW)
    stored = Coverage.objects.get()
    assert (stored.status, stored.detail) == (Coverage.Status.UNPROVEN, "")  # the drain turns it
    assert repairs(epoch) == []
    assert repairs(epoch, NOW_MS + 1000 * RETRY_SECONDS[0]) == [("XRPUSDT", 0, 2)]


@pytest.mark.parametrize(
    ("last", "backfilled", "status"),
    [
        ("failed", False, Gap.Status.UNFILLABLE),
        ("unfillable", False, Gap.Status.UNFILLABLE),
        ("partial", False, Gap.Status.PARTIAL),
        ("failed", True, Gap.Status.PARTIAL),
    ],
)
def test_a_gap_without_hope_is_closed_by_what_rest_told(
    epoch: FeedEpoch, last: str, backfilled: bool, status: str
) -> None:
    row = member(epoch, "XRPUSDT")
    made = gap(row, 0, 1, 2)
    rows = Coverage.objects.order_by("minute")
    if backfilled:
        rows.filter(minute=START_MINUTE).update(status=Coverage.Status.BACKFILLED)
    else:
        rows.filter(minute=START_MINUTE).update(attempts=ATTEMPTS_MAX, next_attempt_at=None, detail="failed: x")
    rows.filter(minute__gt=START_MINUTE).update(attempts=ATTEMPTS_MAX - 1)
    store_outcomes(epoch=epoch.pk, outcomes=[answer(row, 1, ATTEMPTS_MAX, last)], now=NOW)
    made.refresh_from_db()
    assert made.status == Gap.Status.OPEN  # the last minute will still be asked for
    store_outcomes(epoch=epoch.pk, outcomes=[answer(row, 2, ATTEMPTS_MAX)], now=NOW)
    made.refresh_from_db()
    assert (made.status, made.closed_at) == (status, NOW)


def test_a_doubt_is_told_until_the_ledger_has_it_and_settled_then(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    KlineDoubt.objects.create(
        epoch=epoch, instrument=row.instrument, minute=START_MINUTE, ours="1.50", theirs="2.000000000000"
    )
    expected = [Doubt("XRPUSDT", START_MINUTE, "volume 1.5 here, 2 in klines")]
    assert compose_orders(epoch=epoch.pk, now_ms=NOW_MS).doubts == expected
    assert settle_doubts(epoch=epoch.pk, now=NOW) == 0
    hole(row, 0)
    assert compose_orders(epoch=epoch.pk, now_ms=NOW_MS).doubts == []
    assert settle_doubts(epoch=epoch.pk, now=NOW) == 1
    assert KlineDoubt.objects.get().settled_at == NOW


def test_the_wish_is_bounded(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    KlineDoubt.objects.bulk_create(
        KlineDoubt(epoch=epoch, instrument=row.instrument, minute=minute, ours=1, theirs=2)
        for minute in range(DOUBTS_MAX + 1)
    )
    assert len(compose_orders(epoch=epoch.pk, now_ms=NOW_MS).doubts) == DOUBTS_MAX


def test_a_round_with_the_ingest_takes_answers_and_leaves_the_wish(epoch: FeedEpoch, redis_client: redis.Redis) -> None:
    row = member(epoch, "XRPUSDT")
    hole(row, 0, 1)
    write_outcome(redis_client, epoch.pk, answer(row, 0, status="partial", detail="a full page in one second"))
    written = exchange_orders(epoch=epoch.pk, client=redis_client, now_ms=NOW_MS)
    assert read_orders(redis_client, epoch.pk) == written
    assert written.repairs == [Repair("XRPUSDT", START_MINUTE + 1, 1)]
    assert read_outcomes(redis_client, epoch.pk) == {}
    assert Coverage.objects.get(minute=START_MINUTE).detail == "partial: a full page in one second"


@pytest.mark.parametrize("payload", [b"{", b"\xff", b'{"symbol": 1}'])
def test_answers_that_cannot_be_read_are_asked_for_again(
    epoch: FeedEpoch, redis_client: redis.Redis, payload: bytes
) -> None:
    hole(member(epoch, "XRPUSDT"), 0)
    redis_client.hset(repair_outcomes_key(epoch.pk), "XRPUSDT:0:1", payload)
    assert len(exchange_orders(epoch=epoch.pk, client=redis_client, now_ms=NOW_MS).repairs) == 1
    assert not redis_client.exists(repair_outcomes_key(epoch.pk))
