"""Booking what a venue reports: parts, late and repeated fills, ends, and what must not happen."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.engine.desk.book import MarkSet
from apps.engine.money import to_money
from apps.execution.models import Order, OrderAnomaly, Trade
from apps.execution.services import apply_report, submit_order, sync_order
from apps.execution.venues.base import VenueStatus
from apps.portfolio.models import Account, LedgerEntry, Position, Reservation
from apps.portfolio.selectors import read_book
from apps.risk.models import RiskStateChange
from tests.execution.venues import TS_FILL, ScriptedVenue
from tests.worlds import World, fresh, open_world

D = Decimal
pytestmark = pytest.mark.django_db


def working(world: World, venue: ScriptedVenue) -> Order:
    """A buy of 4 000 at 0.51 or better that works at the venue."""
    intent = world.approved(world.entry_signal())
    now_ms = int(intent.created_at.timestamp() * 1000)
    submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
    return Order.objects.get(intent=intent)


def sync(order: Order, venue: ScriptedVenue) -> Order:
    sync_order(order_id=order.pk, venue=venue)
    return Order.objects.get(pk=order.pk)


def test_a_part_keeps_only_the_rest_reserved() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fill("t1", "BUY", "1000", "0.5")
    order = sync(order, venue)
    assert (order.status, order.filled_qty, order.leaves_qty) == ("PARTIALLY_FILLED", D(1_000), D(3_000))
    reservation = Reservation.objects.get()
    assert reservation.active
    assert (reservation.notional, reservation.amount) == (D(1_530), D("1530.765"))  # 3 000 at 0.51 and its fee
    assert world.state.exposure == D(500) + D(1_530)


def test_parts_add_up_to_one_position_at_the_average_price() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fill("t1", "BUY", "1000", "0.50")
    order = sync(order, venue)
    venue.fill("t2", "BUY", "3000", "0.504")
    venue.status = VenueStatus.FILLED
    order = sync(order, venue)
    position = Position.objects.get()
    assert (order.status, order.avg_px, order.leaves_qty) == ("FILLED", D("0.503"), D(0))
    assert (position.quantity, position.entry_price, position.opened_ts) == (D(4_000), D("0.503"), TS_FILL)
    assert position.stop_price == D("0.49294")
    assert not Reservation.objects.get().active
    assert world.cash() == D(100_000) - D(500) - D(1_512) - D("0.2")


def test_the_same_fill_reported_again_moves_nothing() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fill("t1", "BUY", "1000")
    sync(order, venue)
    cash, legs = world.cash(), LedgerEntry.objects.count()
    sequence = Account.objects.get(pk=world.account.pk).sequence
    for _ in range(3):
        sync(order, venue)
    assert (world.cash(), LedgerEntry.objects.count(), Trade.objects.count()) == (cash, legs, 1)
    assert Account.objects.get(pk=world.account.pk).sequence == sequence


@pytest.mark.parametrize(("status", "after"), [(VenueStatus.CANCELED, "CANCELED"), (VenueStatus.EXPIRED, "EXPIRED")])
def test_an_order_that_ends_in_part_keeps_its_fills_and_frees_the_rest(status: VenueStatus, after: str) -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fill("t1", "BUY", "1000")
    venue.status, venue.reason = status, "time in force is over"
    order = sync(order, venue)
    assert (order.status, order.filled_qty, order.reason) == (after, D(1_000), "time in force is over")
    assert Position.objects.get().quantity == 1_000
    assert not Reservation.objects.get().active
    assert world.state.exposure == D(500)


def test_a_fill_that_crosses_a_cancel_is_booked_and_the_order_stays_ended() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.status = VenueStatus.CANCELED
    sync(order, venue)
    venue.fill("t1", "BUY", "1000")
    order = sync(order, venue)
    assert (order.status, order.filled_qty) == ("CANCELED", D(1_000))
    assert Position.objects.get().quantity == 1_000
    assert not Reservation.objects.get().active
    assert world.state.exposure == D(500)


def test_a_fill_that_takes_more_cash_than_there_is_is_booked_and_stops_opening(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    Account.objects.update(cash=D(100))
    venue.fill("t1", "BUY", "4000")
    with caplog.at_level(logging.CRITICAL):
        order = sync(order, venue)
    assert (order.status, world.state.trading_state) == ("FILLED", "REDUCING")
    assert "cash of account" in caplog.text
    assert RiskStateChange.objects.get().reason == "cash is negative"
    assert world.cash() == D(100) - D(2_000) - D("0.1")


def test_a_venue_that_sold_more_than_we_hold_is_an_anomaly_and_books_nothing() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fill("t1", "BUY", "4000")
    venue.status = VenueStatus.FILLED
    sync(order, venue)
    position = Position.objects.get()
    intent = world.approved(world.exit_signal(position))
    second = ScriptedVenue()
    submit_order(intent_id=intent.pk, now_ms=0, feed=fresh, venue=second)
    second.fill("t2", "SELL", "4001")
    sync(Order.objects.get(intent=intent), second)
    assert OrderAnomaly.objects.get().kind == "overfill"
    assert Trade.objects.count() == 1
    assert Position.objects.get().quantity == 4_000


def test_an_exit_in_parts_closes_with_the_last_of_them() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fill("t1", "BUY", "4000", "0.5")
    venue.status = VenueStatus.FILLED
    sync(order, venue)
    position, leaving = Position.objects.get(), ScriptedVenue()
    intent = world.approved(world.exit_signal(position))
    submit_order(intent_id=intent.pk, now_ms=0, feed=fresh, venue=leaving)
    leaving.fill("t2", "SELL", "1000", "0.6")
    order = sync(Order.objects.get(intent=intent), leaving)
    position.refresh_from_db()
    assert (position.status, position.quantity, position.realized) == ("open", D(3_000), D(100))
    reservation = Reservation.objects.get(client_order_id=intent.client_order_id)
    assert (reservation.active, reservation.amount, reservation.currency) == (True, D(3_000), "XRP")
    leaving.status = VenueStatus.EXPIRED
    sync(order, leaving)
    position.refresh_from_db()
    assert (position.status, position.exit_attempts) == ("open", 1)
    again = world.approved(world.exit_signal(position))
    assert again.quantity == 3_000


def test_an_order_that_the_venue_has_forgotten_is_said_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    with caplog.at_level(logging.CRITICAL):
        apply_report(order_id=order.pk, report=None, fills=[])
    order.refresh_from_db()
    assert order.status == "ACCEPTED"
    assert "unknown at scripted" in caplog.text
    assert OrderAnomaly.objects.get().kind == "forgotten"
    assert Reservation.objects.get().active


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(1, 2_500), st.integers(4_800, 5_100)),
        st.tuples(st.just("repeat"), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["silent", "canceled", "expired", "open"]), st.just(0), st.just(0)),
    ),
    max_size=10,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_a_venue_reports_in_whatever_order_the_books_agree(steps: list[tuple[str, int, int]]) -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    left = 4_000
    for number, (what, quantity, ticks) in enumerate(steps):
        venue.answers = what != "silent"
        if what == "fill" and left:
            part = min(quantity, left)
            left -= part
            venue.fill(f"{world.session.pk}-{number}", "BUY", str(part), str(D(ticks).scaleb(-4)))
        elif what in ("canceled", "expired"):
            venue.status = VenueStatus(what)
        order = sync(order, venue)
        _books_agree(world, order)
    venue.answers = True
    order = sync(order, venue)
    assert order.filled_qty == 4_000 - left == sum(trade.quantity for trade in order.trades.all())


def _books_agree(world: World, order: Order) -> None:
    trades = list(order.trades.all())
    bought = sum((trade.quantity for trade in trades), D(0))
    paid = sum((trade.quantity * trade.price + trade.fee for trade in trades), D(0))
    assert order.filled_qty == bought
    assert order.leaves_qty == 4_000 - bought
    held = sum((row.quantity for row in Position.objects.filter(account=world.account)), D(0))
    assert held == bought
    assert world.cash() == 100_000 - paid
    ended = order.status in {"FILLED", "CANCELED", "EXPIRED"}
    assert Reservation.objects.get(client_order_id=order.client_order_id).active is not ended
    state, book = world.state, read_book(world.account.pk)
    assert state.exposure == to_money(book.exposure(MarkSet.from_json(state.marks).prices))
