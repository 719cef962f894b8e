"""What a task leads to on its own worker's queue is done right after it; everything else goes through the broker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from django.db import transaction

from apps.outbox import at_hand, services
from apps.outbox.models import OutboxEvent
from apps.outbox.pace import Pause
from apps.outbox.services import record
from cdb_project import celery
from cdb_project.redelivery import BoundedTask

pytestmark = pytest.mark.django_db(transaction=True)
Body = Callable[..., None]


class Failed(Exception):
    pass


class House:
    """An application of its own whose tasks bear the names of the route table, and a broker that only writes down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.application = Celery("test", task_cls=BoundedTask, set_as_current=False)
        self.application.conf.task_routes = dict(celery.app.conf.task_routes)
        self.said: list[str] = []
        monkeypatch.setattr(at_hand, "current_app", self.application)
        monkeypatch.setattr(services, "current_app", self)

    def send_task(self, name: str, **_: object) -> None:
        self.said.append(f"told {name}")

    def task(self, name: str, body: Body) -> None:
        self.application.tasks.pop(name, None)
        make: Any = self.application.task(name=name, shared=False)
        make(body)

    def deliver(self, name: str, queue: str, **ids: int) -> None:
        task = self.application.tasks[name]
        task.push_request(id=name, delivery_info={"routing_key": queue})
        try:
            task(**ids)
        finally:
            task.pop_request()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(services, "_pause", Pause(2.0))
    return House(monkeypatch)


def unpublished() -> list[str]:
    rows = OutboxEvent.objects.filter(published_at=None).order_by("pk")
    return list(rows.values_list("event_type", flat=True))


def submits(house: House, *, fails: bool = False) -> None:
    def submit(intent_id: int) -> None:
        house.said.append(f"submitting {intent_id}, unpublished {len(unpublished())}")
        if fails:
            raise Failed

    house.task("execution.submit_order", submit)


def only_the_intent(house: House) -> None:
    def assess(signal_id: int) -> None:
        with transaction.atomic():
            record("IntentApproved", intent_id=signal_id)

    house.task("risk.assess_signal", assess)


def test_an_order_is_sent_by_the_worker_that_decided_on_it_and_other_queues_are_told(house: House) -> None:
    only_the_intent(house)
    submits(house)
    house.deliver("risk.assess_signal", "trade", signal_id=7)
    assert house.said == ["submitting 7, unpublished 1"]
    assert unpublished() == []


def test_what_belongs_to_another_queue_goes_through_the_broker_at_once(house: House) -> None:
    def close(signal_id: int) -> None:
        with transaction.atomic():
            record("PositionClosed", account_id=signal_id)
        house.said.append("closed")

    house.task("risk.assess_signal", close)
    house.deliver("risk.assess_signal", "trade", signal_id=7)
    assert house.said == ["told risk.review_tier", "closed"]


def test_outside_of_a_worker_everything_goes_through_the_broker(house: House) -> None:
    only_the_intent(house)
    house.application.tasks["risk.assess_signal"](signal_id=7)
    assert house.said == ["told execution.submit_order"]


def test_what_fails_here_is_told_to_the_broker_and_the_first_task_has_not_failed(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    only_the_intent(house)
    submits(house, fails=True)
    with caplog.at_level(logging.WARNING):
        house.deliver("risk.assess_signal", "trade", signal_id=7)
    assert house.said == ["submitting 7, unpublished 1", "told execution.submit_order"]
    assert "execution.submit_order" in caplog.text
    assert "Failed" in caplog.text
    assert unpublished() == []


def test_what_a_task_noted_before_it_failed_is_told_to_the_broker(house: House) -> None:
    def assess(signal_id: int) -> None:
        with transaction.atomic():
            record("IntentApproved", intent_id=signal_id)
        raise Failed

    house.task("risk.assess_signal", assess)
    submits(house)
    with pytest.raises(Failed):
        house.deliver("risk.assess_signal", "trade", signal_id=7)
    assert house.said == ["told execution.submit_order"]


def test_what_a_dying_worker_had_kept_is_left_to_the_relay(house: House) -> None:
    only_the_intent(house)

    def die(intent_id: int) -> None:
        services._pause.begin()  # nothing is told to a broker any more
        raise SystemExit(intent_id)

    house.task("execution.submit_order", die)
    with pytest.raises(SystemExit):
        house.deliver("risk.assess_signal", "trade", signal_id=7)
    assert unpublished() == ["IntentApproved"]


def test_more_than_one_turn_can_take_is_told_to_the_broker(house: House) -> None:
    def assess(signal_id: int) -> None:
        for number in range(at_hand.KEPT_MAX + 2):
            with transaction.atomic():
                record("IntentApproved", intent_id=signal_id + number)

    house.task("risk.assess_signal", assess)
    submits(house)
    house.deliver("risk.assess_signal", "trade", signal_id=0)
    assert house.said[:2] == ["told execution.submit_order"] * 2
    assert [line.split(",")[0] for line in house.said[2:]] == [f"submitting {n}" for n in range(at_hand.KEPT_MAX)]
    assert unpublished() == []
