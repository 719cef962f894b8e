"""What the steward shows the watchdog: the youngest feed, and what became of the newest orders."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.utils import timezone

from apps.bus import clients
from apps.bus.streams import feed_state_key
from apps.execution.models import Order, OrderEvent
from apps.ops.steward.chores import Duties
from apps.ops.steward.watching import outcomes_of, youngest_feed
from apps.risk.models import BreakerTrip, RiskState
from apps.risk.services.findings import Outcomes
from tests import factories
from tests.worlds import open_world

pytestmark = pytest.mark.django_db
NOW_MS = 1_800_000_000_000


def connection(name: str, symbol: str, frame_ms: int) -> dict[str, object]:
    state = {"name": name, "state": "STREAMING", "last_frame_ms": frame_ms, "last_pong_ms": None}
    return {**state, "symbols": [symbol]}


def test_the_youngest_feed_is_that_of_the_symbol_that_was_heard_of_last(redis_client: redis.Redis) -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    key, reader = feed_state_key(world.epoch.pk), clients.reader(settings.REDIS_URL)
    assert youngest_feed(world.epoch.pk, reader, NOW_MS).words == "the ingest has not reported"
    rows = [connection("a", "XRPUSDT", NOW_MS - 9_000), connection("b", "ADAUSDT", NOW_MS - 400)]
    redis_client.set(key, json.dumps({"written_ms": NOW_MS, "connections": rows}))
    assert youngest_feed(world.epoch.pk, reader, NOW_MS).age_ms == 400
    redis_client.set(key, json.dumps({"written_ms": NOW_MS, "connections": []}))
    assert "no connection owns" in youngest_feed(world.epoch.pk, reader, NOW_MS).words
    redis_client.set(key, "{")
    assert youngest_feed(world.epoch.pk, reader, NOW_MS).age_ms is None
    gone = clients.glance("redis://127.0.0.1:1/0")
    assert youngest_feed(world.epoch.pk, gone, NOW_MS).age_ms is None


@pytest.mark.parametrize(
    ("events", "minutes_ago", "expected"),
    [
        (["SUBMIT", "ACCEPT"], 1, Outcomes(1, 0)),
        (["SUBMIT", "REJECT"], 1, Outcomes(1, 1)),
        (["SUBMIT", "LOSE", "LOSE", "ACCEPT"], 1, Outcomes(1, 1)),
        (["DENY"], 1, Outcomes(0, 0)),
        (["SUBMIT", "REJECT"], 11, Outcomes(0, 0)),
    ],
)
def test_an_order_fails_if_it_was_rejected_or_lost_lately(
    events: list[str], minutes_ago: int, expected: Outcomes
) -> None:
    world = open_world()
    order = factories.OrderFactory.create(intent=world.approved(world.entry_signal()))
    Order.objects.update(account=world.account, created_at=timezone.now() - timedelta(minutes=minutes_ago))
    for number, event in enumerate(events, start=1):
        OrderEvent.objects.create(order=order, number=number, event=event, status="UNKNOWN")
    assert outcomes_of(world.account, within=timedelta(minutes=10)) == expected


def test_the_steward_watches_the_running_session(redis_client: redis.Redis) -> None:
    duties = Duties(reader=clients.reader(settings.REDIS_URL), writer=clients.writer(settings.REDIS_URL))
    duties.watch()  # no session: nothing to look at
    world = open_world()
    duties.dog.was_fresh, duties.dog.unknown_since_ms = True, 0
    redis_client.delete(feed_state_key(world.epoch.pk))
    duties.watch()
    assert BreakerTrip.objects.get().cause == "STALE_FEED"
    assert RiskState.objects.get(account=world.account).trading_state == "REDUCING"
    assert {chore.name for chore in duties.chores()} >= {"watch losses, exposure and the order path"}
