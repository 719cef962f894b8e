"""Demands that came from incidents: outages are outlasted, old data never trades, nothing has a silent default."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis
from celery.exceptions import Retry
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import OperationalError, models

from apps.bus.streams import feed_state_key
from apps.bus.workers import Heart
from apps.execution import tasks as execution
from apps.execution.models import Order
from apps.execution.venues.paper import SETTINGS, PaperVenue
from apps.live.templatetags.cdb import age
from apps.risk import tasks as risk
from apps.risk.models import OrderIntent, RiskDecision
from apps.risk.services import undecided_signals
from apps.signals import tasks as signals
from tests import factories
from tests.risk.test_last_look import postgres_refuses
from tests.worlds import World, open_world

ROAD = (
    risk.assess_signal, signals.drain_shard, execution.submit_order, execution.match_orders, execution.apply_reports,
)  # fmt: skip
MINUTE_MS = 60_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- 4: outages ------------------------------------------------------------------------------------------------------


def attempt(task: Any, retries: int, *arguments: int) -> BaseException | None:
    """A run of a task as its worker runs it, for the n-th time."""
    task.push_request(args=arguments, kwargs={}, retries=retries, id="a", called_directly=False, is_eager=True)
    try:
        task(*arguments)
    except (Retry, OperationalError) as error:
        return error
    finally:
        task.pop_request()
    return None


@pytest.mark.parametrize("task", ROAD, ids=lambda task: str(task.name))
def test_what_meets_an_outage_of_the_database_comes_again_after_growing_pauses(task: Any) -> None:
    assert OperationalError in task.autoretry_for
    assert (task.retry_backoff, task.max_retries) == (1, 2)


@pytest.mark.django_db(transaction=True)
def test_a_signal_that_met_an_outage_of_the_database_is_decided_after_it(redis_client: redis.Redis) -> None:
    """Tried, tried again, and then found again by the steward's question: nothing waits for a person."""
    world = open_world()
    well(redis_client, world)
    signal = world.entry_signal(ts_init=now_ms())
    with postgres_refuses():
        pauses = [attempt(risk.assess_signal, retries, signal.pk) for retries in (0, 1)]
        for longest, pause in zip((1, 2), pauses, strict=True):  # seconds, drawn up to there
            assert isinstance(pause, Retry)
            assert 0 <= float(str(pause.when)) <= longest
        assert isinstance(attempt(risk.assess_signal, 2, signal.pk), OperationalError)
    assert not RiskDecision.objects.exists()
    assert undecided_signals(older_than_ms=0) == [signal.pk]
    assert attempt(risk.assess_signal, 0, signal.pk) is None
    assert RiskDecision.objects.get().signal == signal
    assert undecided_signals(older_than_ms=0) == []


# --- 5: old data -----------------------------------------------------------------------------------------------------


def well(client: redis.Redis, world: World, *, frame_age_ms: int = 0) -> None:
    """Everybody on an order's way is there; the feed's last sign of life is that old."""
    at = now_ms()
    connection = {
        "name": "connection 1", "state": "STREAMING", "last_frame_ms": at - frame_age_ms, "last_pong_ms": None,
        "symbols": list(world.instruments),
    }  # fmt: skip
    client.set(feed_state_key(world.epoch.pk), json.dumps({"written_ms": at, "connections": [connection]}))
    factories.IngestLeaseFactory.create(epoch=world.epoch)
    for name in ("steward", "trade", "drain-0"):
        Heart(client, name=name, version=settings.CODE_HASH).beat(at)


@pytest.mark.django_db
@pytest.mark.parametrize("age_ms", [MINUTE_MS, MINUTE_MS + 1, 3_600_000])
def test_data_older_than_a_minute_leads_to_no_decision_to_buy(redis_client: redis.Redis, age_ms: int) -> None:
    world = open_world()
    well(redis_client, world, frame_age_ms=age_ms)
    risk.assess_signal(world.entry_signal(ts_init=now_ms()).pk)
    decision = RiskDecision.objects.get()
    assert (decision.verdict, decision.reasons) == ("denied", ["STALE_FEED"])
    assert not OrderIntent.objects.exists()


@pytest.mark.django_db
def test_what_was_approved_on_young_data_is_not_sent_on_old(redis_client: redis.Redis) -> None:
    world = open_world()
    well(redis_client, world)
    risk.assess_signal(world.entry_signal(ts_init=now_ms()).pk)
    intent = OrderIntent.objects.get()
    well_again = {"written_ms": now_ms() - MINUTE_MS - 1, "connections": []}
    redis_client.set(feed_state_key(world.epoch.pk), json.dumps(well_again))
    execution.submit_order(intent.pk)
    order = Order.objects.get()
    assert (order.status, order.venue_order_id) == ("DENIED", "")
    assert order.reason.startswith("stale feed")
    assert world.state.exposure == 0


@pytest.mark.django_db
def test_an_old_signal_on_a_young_feed_is_not_traded_either(redis_client: redis.Redis) -> None:
    world = open_world()
    well(redis_client, world)
    risk.assess_signal(world.entry_signal(ts_init=now_ms() - MINUTE_MS - 1).pk)
    assert RiskDecision.objects.get().reasons == ["STALE_SIGNAL"]


@pytest.mark.parametrize(("age_ms", "old"), [(0, False), (MINUTE_MS, False), (MINUTE_MS + 1, True), (10**9, True)])
def test_whatever_is_shown_says_that_it_is_old_after_a_minute(age_ms: int, old: bool) -> None:
    shown = str(age(10**12, 10**12 + age_ms))
    assert ("cdb-old" in shown, " old" in shown.partition(">")[2]) == (old, old)
    assert "never seen" in str(age(None, 10**12))


# --- 8: no silent default --------------------------------------------------------------------------------------------

BEGINS_AT_ZERO = {
    "filled_qty", "filled_quantity", "realized", "fees", "cost", "exposure", "peak", "drawdown", "stop_price",
    "target_price", "trailing_stop_pct", "amount", "turnover_min",
}  # fmt: skip
"""What nothing has happened to yet, or what is off: zero is what is true of it."""


def test_no_price_and_no_quantity_is_filled_in_by_the_tables() -> None:
    fields = [
        (model, field)
        for model in apps.get_models()
        if model.__module__.startswith("apps.") and model._meta.label != "risk.RiskLimits"
        for field in model._meta.get_fields()
        if isinstance(field, models.DecimalField)
    ]
    assert len(fields) > 40
    filled_in = {f"{model._meta.label}.{field.name}" for model, field in fields if field.has_default()}
    assert {name for name in filled_in if name.rpartition(".")[2] not in BEGINS_AT_ZERO} == set()
    assert all(not field.default for _, field in fields if field.has_default())


@pytest.mark.parametrize("left_out", sorted(SETTINGS))
def test_a_venue_without_a_setting_does_not_begin(left_out: str) -> None:
    given = {"latency_ms": 150, "base_bps": "1", "impact_bps": "10"}
    assert PaperVenue(given).name == "paper"
    with pytest.raises(ValueError, match="paper settings"):
        PaperVenue({name: value for name, value in given.items() if name != left_out})


@pytest.mark.django_db
def test_an_order_without_a_price_cannot_be_stored() -> None:
    order = factories.OrderFactory.build(intent=factories.OrderIntentFactory.create(), limit_price=None)
    with pytest.raises(ValidationError, match="limit_price"):
        order.full_clean(exclude=["account", "instrument"])
