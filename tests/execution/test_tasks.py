"""The Celery doors, called as a worker calls them: with ids only, and the feed's age from Redis."""

from __future__ import annotations

import json
import time

import pytest
import redis
from django.conf import settings

from apps.bus.streams import feed_state_key
from apps.bus.workers import Heart
from apps.execution import tasks as execution_tasks
from apps.execution.models import Order, Trade
from apps.risk import tasks as risk_tasks
from apps.risk.models import OrderIntent, RiskDecision
from tests import factories
from tests.worlds import TRIGGER_MS, World, open_world, quotes, trades, watermark

pytestmark = pytest.mark.django_db


def report_feed(client: redis.Redis, world: World) -> None:
    now_ms = time.time_ns() // 1_000_000
    connection = {
        "name": "connection 1",
        "state": "STREAMING",
        "last_frame_ms": now_ms,
        "last_pong_ms": None,
        "symbols": list(world.instruments),
    }
    client.set(feed_state_key(world.epoch.pk), json.dumps({"written_ms": now_ms, "connections": [connection]}))


def report_path(client: redis.Redis, world: World) -> None:
    """An ingest that holds its lease, and everyone on the way of an order alive, with the code that runs here."""
    factories.IngestLeaseFactory.create(epoch=world.epoch)
    for name in ("steward", "trade", "drain-0"):
        Heart(client, name=name, version=settings.CODE_HASH).beat(time.time_ns() // 1_000_000)


def test_the_tasks_carry_a_signal_to_a_booked_trade(redis_client: redis.Redis) -> None:
    world = open_world()
    report_feed(redis_client, world)
    report_path(redis_client, world)
    entry = world.publish(redis_client, quotes((TRIGGER_MS, 5_000, 1_000_000, 5_002, 1_000_000)))
    world.publish(redis_client, trades((TRIGGER_MS, 5_000)), watermark(TRIGGER_MS + 1_000))
    world.reach(TRIGGER_MS + 1_000)
    now_ms = time.time_ns() // 1_000_000
    signal = world.entry_signal(ts_event=TRIGGER_MS, entry_id=entry, ts_init=now_ms)
    risk_tasks.assess_signal(signal.pk)
    execution_tasks.submit_order(OrderIntent.objects.get().pk)
    execution_tasks.match_orders(world.epoch.pk, world.shard())
    execution_tasks.apply_reports(Order.objects.get().pk)
    assert Trade.objects.get().order.status == "FILLED"


def test_without_a_report_of_the_feed_nothing_is_opened(redis_client: redis.Redis) -> None:
    world = open_world()
    redis_client.flushdb()
    report_path(redis_client, world)
    risk_tasks.assess_signal(world.entry_signal(ts_init=time.time_ns() // 1_000_000).pk)
    assert RiskDecision.objects.get().reasons == ["STALE_FEED"]


@pytest.mark.parametrize(
    ("event", "task"),
    [
        ("SignalRaised", risk_tasks.assess_signal),
        ("IntentApproved", execution_tasks.submit_order),
        ("OrderSubmitted", execution_tasks.match_orders),
        ("WatermarkAdvanced", execution_tasks.match_orders),
        ("ExecutionReported", execution_tasks.apply_reports),
    ],
)
def test_every_event_of_this_part_of_the_road_leads_to_a_task_that_exists(event: str, task: object) -> None:
    assert settings.PIPELINE_ROUTES[event] == task.name  # type: ignore[attr-defined]
