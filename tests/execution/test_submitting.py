"""From an approved intent to an order at the venue: sent once, or not at all and with its reason."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.execution.models import Order, OrderEvent, VenueOrder
from apps.execution.services import submit_order, sync_order
from apps.execution.venues.base import OrderRequest, Report, VenueStatus
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Reservation
from apps.risk.models import OrderIntent, RiskState, TradingState
from apps.risk.services import set_trading_state
from tests.execution.venues import ScriptedVenue
from tests.factories import PositionFactory
from tests.worlds import NOW_MS, World, fresh, open_world, stale, unknown

pytestmark = pytest.mark.django_db


def events(order: Order) -> list[str]:
    return list(OrderEvent.objects.filter(order=order).order_by("number").values_list("event", flat=True))


def only_order() -> Order:
    return Order.objects.get()


def exit_intent(world: World) -> OrderIntent:
    position = PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    RiskState.objects.update(exposure=50, marks={"minute": 1, "prices": {"XRPUSDT": "0.5"}})
    return world.approved(world.exit_signal(position))


def set_state(world: World, state: str) -> None:
    set_trading_state(account_id=world.account.pk, to_state=TradingState(state), set_by="mara", reason="odd")


def test_an_approved_order_reaches_the_paper_venue() -> None:
    world = open_world()
    signal = world.entry_signal(entry_id="1799999990000-3")
    intent = world.approved(signal)
    world.send(intent)
    order, at_venue = only_order(), VenueOrder.objects.get()
    assert (order.status, order.venue, order.venue_order_id) == ("ACCEPTED", "paper", str(at_venue.pk))
    assert events(order) == ["SUBMIT", "ACCEPT"]
    assert at_venue.client_order_id == intent.client_order_id
    assert (at_venue.ts_trigger, at_venue.ts_mature) == (signal.ts_event, signal.ts_event + 150)
    assert (at_venue.scan_from, at_venue.shard) == ("1799999990000-3", world.shard())
    assert at_venue.known_quote == {
        "ts_event": signal.ts_event, "bid": "0.4999", "bid_quantity": "10000", "ask": "0.5001", "ask_quantity": "10000",
    }  # fmt: skip
    woken = OutboxEvent.objects.get(event_type="OrderSubmitted")
    assert woken.payload == {"epoch": world.epoch.pk, "shard": world.shard()}


def test_the_latency_is_the_sessions() -> None:
    world = open_world(latency_ms=700)
    signal = world.entry_signal()
    world.send(world.approved(signal))
    assert VenueOrder.objects.get().ts_mature == signal.ts_event + 700


def test_a_second_call_sends_nothing() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    assert world.send(intent) is not None
    assert world.send(intent) is None
    assert VenueOrder.objects.count() == Order.objects.count() == 1
    assert events(only_order()) == ["SUBMIT", "ACCEPT"]


def test_an_intent_that_does_not_exist_is_no_error() -> None:
    assert submit_order(intent_id=4711, now_ms=NOW_MS, feed=fresh) is None


@pytest.mark.parametrize(
    ("age_ms", "status"),
    [(2_000, "ACCEPTED"), (2_001, "EXPIRED")],
)
def test_an_opening_intent_older_than_two_seconds_expires_unsent(age_ms: int, status: str) -> None:
    world = open_world()
    world.send(world.approved(world.entry_signal()), age_ms=age_ms)
    order = only_order()
    assert order.status == status
    assert VenueOrder.objects.exists() is (status == "ACCEPTED")
    assert Reservation.objects.get().active is (status == "ACCEPTED")
    if status == "EXPIRED":
        assert order.reason == "unsent: the intent was 2.1\u202fs old (limit 2\u202fs)"
        assert world.state.exposure == 0


def test_an_exit_is_sent_however_old_its_intent_is() -> None:
    world = open_world()
    world.send(exit_intent(world), age_ms=600_000)
    assert only_order().status == "ACCEPTED"


@pytest.mark.parametrize("reducing", [False, True])
def test_nothing_is_sent_while_halted(reducing: bool) -> None:
    world = open_world()
    intent = exit_intent(world) if reducing else world.approved(world.entry_signal())
    set_state(world, "HALTED")
    world.send(intent)
    order = only_order()
    assert (order.status, events(order)) == ("DENIED", ["DENY"])
    assert "trading is halted since" in order.reason
    assert not VenueOrder.objects.exists()
    assert not Reservation.objects.filter(active=True).exists()


def test_while_reducing_an_entry_is_not_sent_and_an_exit_is() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    other = world.approved(world.entry_signal("XRPUSDT"))
    set_state(world, "REDUCING")
    world.send(other)
    assert Order.objects.get(intent=other).status == "DENIED"
    position = PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    leaving = world.approved(world.exit_signal(position))
    world.send(leaving)
    assert Order.objects.get(intent=leaving).status == "ACCEPTED"


@pytest.mark.parametrize("feed", [stale, unknown])
def test_an_entry_is_not_sent_on_a_stale_feed(feed: object) -> None:
    world = open_world()
    world.send(world.approved(world.entry_signal()), feed=feed)
    order = only_order()
    assert order.status == "DENIED"
    assert order.reason.startswith("stale feed: ")
    assert not Reservation.objects.filter(active=True).exists()


def test_an_exit_waits_for_a_fresh_feed_and_is_then_sent() -> None:
    world = open_world()
    intent = exit_intent(world)
    assert world.send(intent, feed=stale) is None
    assert only_order().status == "INITIALIZED"
    assert Reservation.objects.get().active
    world.send(intent, age_ms=30_000)
    assert only_order().status == "ACCEPTED"


def test_an_exit_that_was_not_sent_may_be_raised_again() -> None:
    world = open_world()
    intent = exit_intent(world)
    world.account.refresh_from_db()
    epoch = world.account.portfolio_epoch
    set_state(world, "HALTED")
    world.send(intent)
    assert intent.position is not None
    intent.position.refresh_from_db()
    world.account.refresh_from_db()
    assert intent.position.exit_attempts == 1
    assert world.account.portfolio_epoch > epoch


# --- no clear answer --------------------------------------------------------------------------------------------------


def submit(world: World, venue: ScriptedVenue) -> Order:
    intent = world.approved(world.entry_signal())
    now_ms = int(intent.created_at.timestamp() * 1000)
    submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
    return only_order()


def test_without_a_clear_answer_an_order_is_unknown_and_keeps_its_reservation() -> None:
    world, venue = open_world(), ScriptedVenue(answers=False)
    order = submit(world, venue)
    assert (order.status, events(order)) == ("UNKNOWN", ["SUBMIT", "LOSE"])
    assert order.reason == "timed out after 5 s"
    assert Reservation.objects.get().active


def test_an_unknown_order_is_never_sent_again() -> None:
    world, venue = open_world(), ScriptedVenue(answers=False)
    order = submit(world, venue)
    submit_order(intent_id=order.intent_id, now_ms=NOW_MS, feed=fresh, venue=venue)
    sync_order(order_id=order.pk, venue=venue)
    assert len(venue.received) == 1
    assert only_order().status == "UNKNOWN"


@pytest.mark.parametrize(("keeps", "status", "reserved"), [(True, "ACCEPTED", True), (False, "EXPIRED", False)])
def test_an_unknown_order_is_settled_by_asking(keeps: bool, status: str, reserved: bool) -> None:
    world, venue = open_world(), ScriptedVenue(answers=False, keeps=keeps)
    order = submit(world, venue)
    venue.answers = True
    ask_twice(order, venue)
    order.refresh_from_db()
    assert order.status == status
    assert Reservation.objects.get().active is reserved
    if not keeps:
        assert order.reason == "the venue never received it"


def ask_twice(order: Order, venue: ScriptedVenue) -> None:
    """Ask now, and again when a venue's "no such order" is believed."""
    now_ms = int(order.created_at.timestamp() * 1000)
    for later_ms in (0, 5_000):
        sync_order(order_id=order.pk, venue=venue, now_ms=now_ms + later_ms)


class Killed(BaseException):
    """The process ends here."""


class KilledVenue(ScriptedVenue):
    """The process dies right after the request has left."""

    def submit(self, request: OrderRequest) -> Report:
        if self.keeps:
            self.received.append(request)
        raise Killed


@pytest.mark.parametrize(("keeps", "status"), [(True, "ACCEPTED"), (False, "EXPIRED")])
def test_a_process_that_dies_while_sending_leaves_an_order_that_asking_settles(keeps: bool, status: str) -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    now_ms = int(intent.created_at.timestamp() * 1000)
    venue = KilledVenue(keeps=keeps)
    with pytest.raises(Killed):
        submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
    order = only_order()
    assert order.status == "SUBMITTING"
    assert submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue) is None
    ask_twice(order, venue)
    order.refresh_from_db()
    assert order.status == status


def test_a_rejected_order_gives_its_reservation_back() -> None:
    world, venue = open_world(), ScriptedVenue(status=VenueStatus.REJECTED, reason="insufficient balance")
    order = submit(world, venue)
    assert (order.status, order.reason) == ("REJECTED", "insufficient balance")
    assert not Reservation.objects.get().active
    assert world.state.exposure == 0


def test_sending_an_order_takes_few_queries() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    with CaptureQueriesContext(connection) as queries:
        world.send(intent)
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert len(statements) <= 22, "\n".join(statements)  # three of them are the last look
