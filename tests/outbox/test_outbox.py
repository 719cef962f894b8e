"""Events are recorded with what they follow from and published at least once."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest
from django.db import connection, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from apps.outbox import services
from apps.outbox.models import OutboxEvent
from apps.outbox.pace import AtMostEvery, Pause
from apps.outbox.relay import Relayed, publish_pending
from apps.outbox.services import Payload, UnknownEvent, publish, record, task_of
from tests.factories import OutboxEventFactory

Sent = list[tuple[str, dict[str, int | str]]]


class Broker:
    """Keeps what it is given, or refuses."""

    def __init__(self, *, works: bool = True, fails_after: int = 1_000) -> None:
        self.sent: Sent = []
        self.works = works
        self.fails_after = fails_after

    def __call__(self, event_type: str, payload: Payload) -> None:
        if not self.works or len(self.sent) >= self.fails_after:
            raise OperationalError("connection refused")
        self.sent.append((event_type, dict(payload)))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with a broker that has not failed lately."""
    monkeypatch.setattr(services, "_pause", Pause(2.0))


def old_events(count: int) -> list[OutboxEvent]:
    events = [OutboxEventFactory.create(payload={"signal_id": number}) for number in range(count)]
    OutboxEvent.objects.update(created_at=timezone.now() - timedelta(seconds=2))
    return events


@pytest.mark.django_db(transaction=True)
def test_an_event_is_published_when_its_transaction_has_committed() -> None:
    broker = Broker()
    with transaction.atomic():
        record("SignalRaised", sender=broker, signal_id=7)
        assert broker.sent == []
    assert broker.sent == [("SignalRaised", {"signal_id": 7})]
    assert OutboxEvent.objects.get().published_at is not None


@pytest.mark.django_db(transaction=True)
def test_an_event_of_a_transaction_that_failed_never_was() -> None:
    broker = Broker()
    with transaction.atomic():
        record("SignalRaised", sender=broker, signal_id=7)
        transaction.set_rollback(True)
    assert broker.sent == []
    assert not OutboxEvent.objects.exists()


@pytest.mark.django_db
def test_an_event_that_no_route_knows_is_refused_where_it_is_recorded() -> None:
    with pytest.raises(UnknownEvent, match="SignalRased"):
        record("SignalRased", signal_id=7)
    assert task_of("SignalRaised") == "risk.assess_signal"


@pytest.mark.django_db
def test_a_broker_that_is_away_leaves_the_event_for_the_relay(caplog: pytest.LogCaptureFixture) -> None:
    event, broker = OutboxEventFactory.create(), Broker(works=False)
    with caplog.at_level(logging.WARNING):
        assert publish(event, sender=broker) is False
    event.refresh_from_db()
    assert event.published_at is None


@pytest.mark.django_db
def test_after_a_failure_the_broker_is_left_alone_for_a_while() -> None:
    event, broker = OutboxEventFactory.create(), Broker(works=False)
    publish(event, sender=broker)
    broker.works = True
    assert publish(event, sender=broker) is False
    assert broker.sent == []


@pytest.mark.django_db
def test_the_relay_publishes_what_has_waited_oldest_first() -> None:
    old_events(3)
    OutboxEventFactory.create(payload={"signal_id": 99})
    OutboxEventFactory.create(payload={"signal_id": 98}, published_at=timezone.now())
    broker = Broker()
    assert publish_pending(now=timezone.now(), sender=broker) == Relayed(3, 3)
    assert [payload["signal_id"] for _, payload in broker.sent] == [0, 1, 2]
    assert publish_pending(now=timezone.now(), sender=broker) == Relayed(0, 0)


@pytest.mark.django_db
def test_the_relay_stops_at_the_first_failure_and_keeps_what_it_did() -> None:
    events = old_events(4)
    assert publish_pending(now=timezone.now(), sender=Broker(fails_after=2)) == Relayed(4, 2)
    left = OutboxEvent.objects.filter(published_at=None).order_by("id")
    assert [event.pk for event in left] == [event.pk for event in events[2:]]


@pytest.mark.django_db
def test_an_event_without_a_route_does_not_block_those_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    OutboxEventFactory.create(event_type="Forgotten")
    old_events(1)
    calls: Sent = []

    def sender(event_type: str, payload: Payload) -> None:
        task_of(event_type)
        calls.append((event_type, dict(payload)))

    with caplog.at_level(logging.ERROR):
        assert publish_pending(now=timezone.now(), sender=sender) == Relayed(2, 1)
    assert "no task is routed from Forgotten" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_two_relays_at_once_publish_each_event_once() -> None:
    old_events(6)
    first, second = Broker(), Broker()
    inside, go_on = Event(), Event()

    def slow(event_type: str, payload: Payload) -> None:
        first(event_type, payload)
        inside.set()
        go_on.wait(timeout=20)

    def run() -> Relayed:
        try:
            return publish_pending(now=timezone.now(), limit=3, sender=slow)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        assert inside.wait(timeout=20)
        assert publish_pending(now=timezone.now(), sender=second) == Relayed(3, 3)
        go_on.set()
        assert running.result(timeout=20) == Relayed(3, 3)
    numbers = [payload["signal_id"] for _, payload in first.sent + second.sent]
    assert sorted(numbers, key=int) == list(range(6))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_thing_is_said_once_per_key_and_span() -> None:
    clock = Clock()
    may_say = AtMostEvery(10, clock)
    assert [may_say.ready("a"), may_say.ready("a"), may_say.ready("b")] == [True, False, True]
    clock.now += 10
    assert may_say.ready("a")


def test_the_memory_of_what_was_said_is_bounded() -> None:
    may_say = AtMostEvery(10, Clock())
    for key in range(5_000):
        may_say.ready(key)
    assert len(may_say._said) <= 1_000


def test_a_pause_ends_by_itself() -> None:
    clock = Clock()
    pause = Pause(2, clock)
    states = [pause.active]
    pause.begin()
    states.append(pause.active)
    clock.now += 2
    states.append(pause.active)
    assert states == [False, True, False]
