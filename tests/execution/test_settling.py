"""What was left behind by a lost message or a dead process is found and brought up again."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.execution.models import Order
from apps.execution.selectors import NoVenue, oldest_needed_entry, venue_of
from apps.execution.services import settle_stuck
from apps.outbox.services import Payload
from apps.risk.models import OrderIntent, RiskDecision
from apps.risk.services import undecided_signals
from apps.signals.models import Signal
from tests.worlds import World, open_world, stale

pytestmark = pytest.mark.django_db


def rung(*, later_ms: int = 6_000) -> list[tuple[str, dict[str, Any]]]:
    calls: list[tuple[str, dict[str, Any]]] = []

    def sender(event_type: str, payload: Payload) -> None:
        calls.append((event_type, dict(payload)))

    count = settle_stuck(now_ms=time.time_ns() // 1_000_000 + later_ms, sender=sender)
    assert count == len(calls)
    return calls


def sent(world: World) -> Order:
    world.send(world.approved(world.entry_signal(entry_id="1799999990000-3")))
    return Order.objects.get()


def test_an_intent_that_no_order_was_made_of_is_rung_for_after_a_second() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    assert rung(later_ms=500) == []
    assert rung(later_ms=1_500) == [("IntentApproved", {"intent_id": intent.pk})]


@pytest.mark.parametrize("status", ["SUBMITTING", "UNKNOWN", "SUBMITTED", "ACCEPTED", "PARTIALLY_FILLED"])
def test_an_order_at_work_is_asked_about_after_five_seconds(status: str) -> None:
    order = sent(open_world())
    Order.objects.update(status=status)
    assert ("ExecutionReported", {"order_id": order.pk}) not in rung(later_ms=4_000)
    assert ("ExecutionReported", {"order_id": order.pk}) in rung()


@pytest.mark.parametrize("status", ["DENIED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"])
def test_an_order_that_has_ended_is_left_alone(status: str) -> None:
    sent(open_world())
    Order.objects.update(status=status)
    assert [event for event, _ in rung()] == ["WatermarkAdvanced"]


def test_an_exit_that_was_made_and_not_sent_is_rung_for() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    OrderIntent.objects.update(reducing=True)
    intent.refresh_from_db()
    world.send(intent, feed=stale)
    assert rung() == [("IntentApproved", {"intent_id": intent.pk})]


def test_a_shard_with_open_paper_orders_is_matched_again() -> None:
    world = open_world()
    sent(world)
    assert ("WatermarkAdvanced", {"epoch": world.epoch.pk, "shard": world.shard()}) in rung(later_ms=0)


def test_a_broker_that_is_away_ends_the_round() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    world.approved(world.entry_signal())
    world.approved(world.entry_signal("ADAUSDT"))

    def sender(_event_type: str, _payload: Payload) -> None:
        raise ConnectionError("refused")

    assert settle_stuck(now_ms=time.time_ns() // 1_000_000 + 6_000, sender=sender) == 0


def test_the_oldest_trigger_of_an_open_paper_order_is_known_for_trimming() -> None:
    world = open_world()
    assert oldest_needed_entry(epoch=world.epoch.pk, shard=world.shard()) is None
    sent(world)
    assert oldest_needed_entry(epoch=world.epoch.pk, shard=world.shard()) == "1799999990000-3"


def test_a_session_that_is_not_paper_has_no_venue() -> None:
    world = open_world()
    world.session.mode = "LIVE"
    with pytest.raises(NoVenue, match="LIVE"):
        venue_of(world.session)


# --- signals ----------------------------------------------------------------------------------------------------------


def age(signals: Callable[[], Any], seconds: int) -> None:
    signals().update(created_at=timezone.now() - timedelta(seconds=seconds))


def test_signals_that_were_missed_are_found_and_decided_ones_are_not() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    missed, decided = world.entry_signal(), world.entry_signal("ADAUSDT")
    world.decide(decided)
    assert undecided_signals(older_than_ms=1_000) == []
    age(Signal.objects.all, 2)
    assert undecided_signals(older_than_ms=1_000) == [missed.pk]
    assert RiskDecision.objects.count() == 1


def test_signals_of_a_session_that_has_ended_are_not_brought_up() -> None:
    world = open_world()
    world.entry_signal()
    age(Signal.objects.all, 2)
    world.session.ended_at = timezone.now()
    world.session.save()
    assert undecided_signals(older_than_ms=1_000) == []
