"""UNKNOWN and what leads out of it: questions with growing pauses, an alert, and no order sent twice."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from apps.alerts.models import Alert
from apps.engine import timeouts
from apps.execution.models import Order, VenueOrder
from apps.execution.services import cancel_order, settle_stuck, submit_order, sync_order
from apps.execution.services.syncing import pause_seconds
from apps.execution.venues.base import VenueStatus
from apps.portfolio.models import Position, Reservation
from apps.risk.models import OrderIntent
from tests.execution.books import books_agree
from tests.execution.venues import ScriptedVenue
from tests.worlds import World, fresh, open_world

D = Decimal
pytestmark = pytest.mark.django_db


def lost(world: World, venue: ScriptedVenue) -> tuple[Order, int]:
    """A buy whose answer is lost, and the wall clock then, ms."""
    venue.answers = False
    intent = world.approved(world.entry_signal())
    now_ms = int(intent.created_at.timestamp() * 1000)
    submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
    return Order.objects.get(intent=intent), now_ms


def rung(now_ms: int) -> list[int]:
    """Orders that the steward asks about at this time."""
    found: list[int] = []
    settle_stuck(
        now_ms=now_ms,
        sender=lambda _event, payload: found.append(int(payload["order_id"])) if "order_id" in payload else None,
    )
    return found


def test_the_pauses_between_questions_grow_up_to_ten_seconds() -> None:
    assert [pause_seconds(asks) for asks in (0, 1, 2, 3, 4, 5, 4_000)] == [1, 2, 4, 8, 10, 10, 10]


def test_a_question_without_an_answer_is_put_again_when_its_pause_is_over() -> None:
    world, venue = open_world(), ScriptedVenue()
    order, _ = lost(world, venue)
    for asks, pause in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10)):
        order.refresh_from_db()
        assert (order.status, order.asks) == ("UNKNOWN", asks)
        assert order.ask_at is not None
        due_ms = int(order.ask_at.timestamp() * 1000) + 1
        assert order.pk not in rung(due_ms - 500)
        assert order.pk in rung(due_ms)
        sync_order(order_id=order.pk, venue=venue, now_ms=due_ms)
        order.refresh_from_db()
        next_pause = min(2 * pause, timeouts.ORDER_ASK_MAX_SECONDS)
        assert order.ask_at == datetime.fromtimestamp(due_ms / 1000, UTC) + timedelta(seconds=next_pause)
        assert Reservation.objects.get().active
    assert len(venue.received) == 1


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("silent_seconds", [0, 3, 50])
def test_every_unknown_order_is_settled_within_a_minute_of_the_venue_answering_again(
    keeps: bool, silent_seconds: int
) -> None:
    """The steward's rounds, a second each: I9."""
    world, venue = open_world(), ScriptedVenue(keeps=keeps)
    order, now_ms = lost(world, venue)
    moment, answers_at = now_ms, now_ms + silent_seconds * 1000
    while moment <= answers_at + timeouts.ORDER_SETTLED_SECONDS * 1000 and order.status == "UNKNOWN":
        order.refresh_from_db()
        due = [] if order.ask_at is None else [int(order.ask_at.timestamp() * 1000) + 1]
        moment = max(moment + 1_000, *due)
        venue.answers = moment >= answers_at
        for order_id in rung(moment):
            sync_order(order_id=order_id, venue=venue, now_ms=moment)
        order.refresh_from_db()
    assert order.status == ("ACCEPTED" if keeps else "EXPIRED")
    assert moment <= answers_at + timeouts.ORDER_SETTLED_SECONDS * 1000
    assert len(venue.received) == keeps
    books_agree(world)


def test_an_order_that_stays_unknown_raises_one_alert_which_the_answer_settles() -> None:
    world, venue = open_world(), ScriptedVenue()
    order, now_ms = lost(world, venue)
    rung(now_ms + 29_000)
    assert not Alert.objects.exists()
    since_ms = int((Order.objects.get().unclear_since or order.created_at).timestamp() * 1000)
    for later_ms in (31_000, 32_000, 60_000):
        rung(since_ms + later_ms)
    alert = Alert.objects.get()
    assert (alert.kind, alert.subject, alert.count) == ("order_unknown", order.client_order_id, 1)
    assert "gives no clear answer after 1 questions" in alert.words
    venue.answers = True
    sync_order(order_id=order.pk, venue=venue, now_ms=since_ms + 61_000)
    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.reason) == ("system", "the venue has answered")


def test_no_trace_is_believed_only_when_it_is_said_again_later() -> None:
    world, venue = open_world(), ScriptedVenue(keeps=False)
    order, now_ms = lost(world, venue)
    venue.answers = True
    for later_ms, status in ((0, "UNKNOWN"), (4_999, "UNKNOWN"), (5_000, "EXPIRED")):
        sync_order(order_id=order.pk, venue=venue, now_ms=now_ms + 10_000 + later_ms)
        order.refresh_from_db()
        assert order.status == status
    assert order.reason == "the venue never received it"
    assert not Reservation.objects.get().active


def test_an_order_that_turns_up_after_it_was_given_up_is_booked_all_the_same() -> None:
    world, venue = open_world(), ScriptedVenue(keeps=False)
    order, now_ms = lost(world, venue)
    venue.answers = True
    for later_ms in (0, 5_000):
        sync_order(order_id=order.pk, venue=venue, now_ms=now_ms + later_ms)
    venue.fill("t1", "BUY", "1500")
    sync_order(order_id=order.pk, venue=venue, now_ms=now_ms + 9_000)
    order.refresh_from_db()
    assert (order.status, order.filled_qty) == ("EXPIRED", D(1_500))
    assert Position.objects.get().quantity == 1_500
    books_agree(world)


def test_an_answer_that_comes_after_the_fill_changes_nothing() -> None:
    world, venue = open_world(), ScriptedVenue()
    order, now_ms = lost(world, venue)
    venue.answers = True
    venue.fill("t1", "BUY", "1000")
    sync_order(order_id=order.pk, venue=venue, now_ms=now_ms)
    order.refresh_from_db()
    assert (order.status, order.asks, order.ask_at) == ("PARTIALLY_FILLED", 0, None)


# --- resting too long, and trading with ourselves ---------------------------------------------------------------------


def working(world: World, venue: ScriptedVenue, intent: OrderIntent) -> Order:
    now_ms = int(intent.created_at.timestamp() * 1000)
    submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
    return Order.objects.get(intent=intent)


@pytest.mark.parametrize(("rested_ms", "status"), [(60_000, "ACCEPTED"), (60_001, "CANCELED")])
def test_an_entry_that_rests_longer_than_a_minute_of_event_time_is_canceled(rested_ms: int, status: str) -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue, world.approved(world.entry_signal()))
    world.reach(order.ts_event + rested_ms)
    sync_order(order_id=order.pk, venue=venue)
    order.refresh_from_db()
    assert order.status == status
    assert Reservation.objects.get().active is (status == "ACCEPTED")
    books_agree(world)


def test_an_exit_that_rests_too_long_is_canceled_and_raised_again() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue, world.approved(world.entry_signal()))
    venue.fill("t1", "BUY", "4000")
    venue.status = VenueStatus.FILLED
    sync_order(order_id=order.pk, venue=venue)
    position, leaving = Position.objects.get(), ScriptedVenue()
    out = working(world, leaving, world.approved(world.exit_signal(position)))
    world.reach(out.ts_event + 60_001)
    sync_order(order_id=out.pk, venue=leaving)
    position.refresh_from_db()
    assert (Order.objects.get(pk=out.pk).status, position.exit_attempts) == ("CANCELED", 1)
    world.approved(world.exit_signal(position))
    books_agree(world)


def test_an_exit_cancels_the_entry_of_ours_that_rests_in_its_way() -> None:
    world, venue = open_world(), ScriptedVenue()
    first = working(world, venue, world.approved(world.entry_signal()))
    venue.fill("t1", "BUY", "1000")
    sync_order(order_id=first.pk, venue=venue)
    position = Position.objects.get()
    intent = world.approved(world.exit_signal(position))
    out = working(world, venue, intent)
    first.refresh_from_db()
    assert (first.status, first.cancel_ts) == ("CANCELED", intent.ts_event)
    assert venue.canceled == [first.client_order_id]
    assert f"system: exit {out.client_order_id} replaces it" in first.events.values_list("detail", flat=True)


def test_a_fill_of_an_entry_that_comes_after_its_exit_is_held_again() -> None:
    world, venue = open_world(), ScriptedVenue()
    first = working(world, venue, world.approved(world.entry_signal()))
    venue.fill("t1", "BUY", "1000")
    cancel_order(order_id=first.pk, reason="enough", by="mara", venue=venue)
    leaving = ScriptedVenue()
    out = working(world, leaving, world.approved(world.exit_signal(Position.objects.get())))
    leaving.fill("t2", "SELL", "1000")
    leaving.status = VenueStatus.FILLED
    sync_order(order_id=out.pk, venue=leaving)
    assert Position.objects.get().status == "closed"
    venue.fill("t3", "BUY", "500")
    sync_order(order_id=first.pk, venue=venue)
    position = Position.objects.get()
    assert (position.status, position.quantity, position.exit_attempts) == ("open", D(500), 1)
    world.approved(world.exit_signal(position))
    books_agree(world)


# --- the same intent in several processes -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_one_intent_executed_by_two_processes_at_once_is_one_order_at_the_venue() -> None:
    """Two processes of their own, forked without a connection and let go together."""
    world = open_world()
    intent = world.approved(world.entry_signal())
    now_ms = int(intent.created_at.timestamp() * 1000)
    connection.close()
    processes = multiprocessing.get_context("fork")
    barrier, sent = processes.Barrier(2), processes.SimpleQueue()

    def send() -> None:
        barrier.wait(timeout=30)
        sent.put(submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh) is not None)
        connection.close()

    both = [processes.Process(target=send) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(timeout=60)
        assert one.exitcode == 0
    assert sorted([sent.get(), sent.get()]) == [False, True]
    assert VenueOrder.objects.count() == Order.objects.count() == 1
    assert Order.objects.get().status == "ACCEPTED"
