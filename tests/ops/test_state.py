"""The snapshot behind the state sentence, read from PostgreSQL and Redis."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.bus.streams import feed_state_key
from apps.execution.models import Order, OrderStatus, Trade
from apps.market.models import Bar, Coverage, IngestLease, IngestRun, ShardCursor
from apps.ops.selectors.state import State, read_state
from apps.portfolio.models import TradingSession
from apps.staff import times
from tests.admin.rows import Road, make_road
from tests.factories import (
    START_MINUTE,
    BarFactory,
    CoverageFactory,
    EpochInstrumentFactory,
    IngestLeaseFactory,
)

pytestmark = pytest.mark.django_db

NOW = times.to_ms(datetime.now(UTC))
QUERIES_MAX = 17


@pytest.fixture
def road(redis_client: redis.Redis) -> Road:
    road = make_road()
    EpochInstrumentFactory.create(epoch=road.session.epoch, instrument=road.instrument)
    return road


def report(client: redis.Redis, road: Road, **connection_fields: object) -> None:
    fields = {
        "name": "connection 1",
        "state": "STREAMING",
        "last_frame_ms": NOW - 300,
        "last_pong_ms": None,
        "symbols": ["XRPUSDT"],
        **connection_fields,
    }
    body = {"token": 1, "written_ms": NOW, "connections": [fields], "last_trade_ms": NOW - 400, "event_time_ms": NOW}
    client.set(feed_state_key(road.session.epoch_id), json.dumps(body))


def read() -> State:
    return read_state(NOW)


def test_a_session_that_works_needs_nobody_and_few_queries(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road)
    BarFactory.create(epoch=road.session.epoch, instrument=road.instrument, close=Decimal("0.6"))
    with CaptureQueriesContext(connection) as captured:
        state = read()
    assert len(captured) <= QUERIES_MAX
    assert state.sentence.line == (
        "Nothing needs you. Newest trade 0.4 s old, 1 of 1 symbols fresh. 1 position, 0\u202f% of the limit."
    )
    assert (state.snapshot.position_value, state.snapshot.equity) == (Decimal(60), Decimal(100_060))


def test_an_open_position_without_a_bar_is_valued_at_its_entry(road: Road) -> None:
    assert read().snapshot.position_value == Decimal(50)


def test_warming_up_counts_minutes_until_the_first_decision_is_possible(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road)
    ShardCursor.objects.update(evaluated=0, closed_minute=START_MINUTE + 8)
    Bar.objects.all().delete()
    for minute in range(9):
        BarFactory.create(epoch=road.session.epoch, instrument=road.instrument, minute=START_MINUTE + minute)
    snapshot = read().snapshot
    assert (snapshot.minutes_known, snapshot.minutes_needed) == (9, 16)
    assert snapshot.first_decision_ms == (START_MINUTE + 16) * 60_000
    assert read().sentence.text.startswith("Warming up: 9 of 16 minutes of history. First decision possible at")


def test_before_the_first_bar_the_warm_up_promises_no_time(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road)
    ShardCursor.objects.update(evaluated=0, closed_minute=None)
    assert read().sentence.text == "Warming up: 0 of 16 minutes of history."


def test_a_long_quiet_names_the_symbol_nearest_to_an_entry(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road)
    long_ago = times.moment(NOW) - timedelta(hours=3)
    Trade.objects.update(created_at=long_ago)
    TradingSession.objects.update(started_at=long_ago)
    epoch = road.session.epoch
    EpochInstrumentFactory.create(epoch=epoch, instrument__symbol="ETHUSDT")
    for member, close in zip(epoch.members.order_by("id"), ("0.509", "0.502"), strict=True):
        for minute, price in ((START_MINUTE, "0.5"), (START_MINUTE + 15, close)):
            BarFactory.create(epoch=epoch, instrument=member.instrument, minute=minute, close=Decimal(price))
    report(redis_client, road, symbols=["XRPUSDT", "ETHUSDT"])
    assert read().sentence.text == (
        "Nothing traded for 3 h: no symbol has moved 2.0\u202f% in 15 min (closest XRPUSDT 1.8\u202f%)."
    )


def test_a_refused_channel_is_named_by_its_symbol(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road, refused={"spot@public.aggre.deals.v3.api.pb@100ms@ABCUSDT": "Blocked!"})
    assert 'refuses ABCUSDT ("Blocked!")' in read().sentence.text


def test_a_connection_that_does_not_stream_is_named_with_its_reason(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road, state="CLOSED", reason="1006")
    assert "(connection 1 is CLOSED: 1006)" in read().sentence.text


def test_an_unknown_order_is_told_with_its_age(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road)
    Order.objects.update(status=OrderStatus.UNKNOWN, updated_at=times.moment(NOW - 22_000))
    assert read().sentence.text.startswith("1 order is UNKNOWN for 22 s (BUY XRPUSDT 100.00).")


def test_a_standby_that_took_over_is_told_for_a_minute(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road)
    # The lease is judged by the database's clock, not by that of the reader.
    lease = IngestLeaseFactory.create(epoch=road.session.epoch, token=10**9)
    assert lease.acquired_at is not None
    IngestRun.objects.update(last_seen_at=lease.acquired_at)
    assert read().sentence.text.startswith("The standby took over")
    IngestLease.objects.update(acquired_at=lease.acquired_at - timedelta(seconds=61))
    assert read().sentence.situation == "well"


def test_minutes_that_stay_unproven_are_told_once_their_repair_has_failed(
    road: Road, redis_client: redis.Redis
) -> None:
    report(redis_client, road)
    hole = CoverageFactory.create(epoch=road.session.epoch, instrument=road.instrument, reason="no_pong")
    assert read().sentence.situation == "well"
    Coverage.objects.filter(pk=hole.pk).update(attempts=1)
    assert read().sentence.text == (
        "No entries in XRPUSDT until 14 Nov 2023 22:31 UTC: UNPROVEN minutes (no_pong). Repair goes on."
    )


def test_a_report_that_expired_leaves_the_time_it_was_last_seen(road: Road) -> None:
    IngestRun.objects.update(last_seen_at=times.moment(NOW - 300_000))
    assert read().sentence.text.startswith("The ingest has not reported for 5 min")


def test_a_report_that_is_old_itself_makes_every_feed_at_least_as_old(road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road)
    later = read_state(NOW + 5_000)
    assert later.snapshot.feeds[0].age_ms == 5_300
    assert later.sentence.situation == "no-data"
