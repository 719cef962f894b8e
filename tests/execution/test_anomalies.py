"""Fills that cannot be ours: refused with the reason, kept as they came, opening stops, and nothing has moved."""

from __future__ import annotations

from decimal import Decimal

import pytest

from apps.alerts.models import Alert
from apps.engine.portfolio import Fill, Side
from apps.execution.models import Order, OrderAnomaly, Trade
from apps.execution.services import apply_report, submit_order, sync_order
from apps.execution.venues.base import Report, VenueFill, VenueStatus
from apps.portfolio.models import Account, LedgerEntry, Position, Reservation
from apps.risk.models import BreakerTrip
from tests.execution.books import books_agree
from tests.execution.venues import TS_FILL, ScriptedVenue
from tests.worlds import World, fresh, open_world

D = Decimal
pytestmark = pytest.mark.django_db


def fill(
    *, trade_id: str = "t1", side: str = "BUY", price: str = "0.5", quantity: str = "1000", symbol: str = "XRPUSDT",
    fee: str = "0.1",
) -> VenueFill:  # fmt: skip
    one = Fill(Side(side), D(price), D(quantity), D(fee), "USDT", TS_FILL)
    return VenueFill(trade_id, one, symbol=symbol)


def working(world: World, venue: ScriptedVenue) -> Order:
    """A buy of 4 000 at 0.51 or better that works at the venue."""
    intent = world.approved(world.entry_signal())
    now_ms = int(intent.created_at.timestamp() * 1000)
    submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
    return Order.objects.get(intent=intent)


BAD = [
    (fill(symbol="ADAUSDT"), "wrong_symbol", "a fill in ADAUSDT for an order in XRPUSDT"),
    (fill(side="SELL"), "wrong_side", "a fill of a SELL for an order to BUY"),
    (fill(price="50"), "price_off", "a fill at 50 for an order limited at 0.51"),
    (fill(price="0.005"), "price_off", "a fill at 0.005 for an order limited at 0.51"),
    (fill(price="1.0201"), "price_off", "a fill at 1.0201 for an order limited at 0.51"),
    (fill(price="0.2549"), "price_off", "a fill at 0.2549 for an order limited at 0.51"),
    (fill(price="0"), "impossible", "a fill of 1000 at 0 with a fee of 0.1"),
    (fill(price="NaN"), "impossible", "a fill of 1000 at NaN with a fee of 0.1"),
    (fill(price="Infinity"), "impossible", "a fill of 1000 at Infinity with a fee of 0.1"),
    (fill(quantity="-5"), "impossible", "a fill of -5 at 0.5 with a fee of 0.1"),
    (fill(fee="NaN"), "impossible", "a fill of 1000 at 0.5 with a fee of NaN"),
    (fill(quantity="4001"), "overfill", "a fill of 4001 where 4000 is left of the order"),
]


@pytest.mark.parametrize(("bad", "kind", "words"), BAD)
def test_a_fill_that_cannot_be_ours_is_refused_kept_and_said_and_moves_nothing(
    bad: VenueFill, kind: str, words: str
) -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    cash, legs = world.cash(), LedgerEntry.objects.count()
    venue.fills.append(bad)
    for _ in range(3):
        sync_order(order_id=order.pk, venue=venue)
    anomaly = OrderAnomaly.objects.get()
    assert (anomaly.kind, anomaly.words, anomaly.order, anomaly.times) == (kind, words, order, 3)
    assert (anomaly.payload["trade_id"], anomaly.payload["price"]) == ("t1", str(bad.fill.price))
    trip = BreakerTrip.objects.get()
    assert (trip.cause, trip.to_state, trip.evidence["kind"]) == ("UNKNOWN_FILL", "REDUCING", kind)
    assert Alert.objects.filter(kind="order_anomaly", count=1).count() == 1
    assert (world.cash(), LedgerEntry.objects.count(), Trade.objects.count()) == (cash, legs, 0)
    assert not Position.objects.exists()
    assert Reservation.objects.get().active
    books_agree(world)


@pytest.mark.parametrize("price", ["1.02", "0.255"])
def test_a_price_at_most_twice_off_the_limit_is_booked(price: str) -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fills.append(fill(price=price))
    sync_order(order_id=order.pk, venue=venue)
    assert Trade.objects.get().price == D(price)
    assert not OrderAnomaly.objects.exists()
    beyond = Alert.objects.filter(kind=Alert.Kind.ORDER_ANOMALY, severity=Alert.Severity.CRITICAL)
    assert beyond.count() == (D(price) > order.limit_price)


def test_one_bad_fill_does_not_keep_the_good_ones_away() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fills += [fill(trade_id="bad", price="50"), fill(trade_id="good")]
    sync_order(order_id=order.pk, venue=venue)
    assert Trade.objects.get().trade_id == "good"
    assert OrderAnomaly.objects.get().reference == "bad"
    books_agree(world)


def test_the_same_id_with_another_content_is_a_conflict_and_the_first_holds() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fills = [fill()]
    sync_order(order_id=order.pk, venue=venue)
    venue.fills = [fill(quantity="2000")]
    sync_order(order_id=order.pk, venue=venue)
    order.refresh_from_db()
    assert order.filled_qty == 1_000
    anomaly = OrderAnomaly.objects.get()
    assert (anomaly.kind, anomaly.words) == ("conflict", "fill t1 was 1000 at 0.5 and is now 2000 at 0.5")
    books_agree(world)


def test_a_fill_twice_in_one_report_moves_money_once_and_stops_nothing() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fills = [fill(), fill()]
    sync_order(order_id=order.pk, venue=venue)
    order.refresh_from_db()
    assert (order.filled_qty, Trade.objects.count(), OrderAnomaly.objects.get().kind) == (D(1_000), 1, "twice")
    assert world.state.trading_state == "ACTIVE"
    books_agree(world)


@pytest.mark.parametrize("status", ["REJECTED", "DENIED", "INITIALIZED"])
def test_a_fill_of_an_order_that_never_was_at_the_venue_is_impossible(status: str) -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    Order.objects.update(status=status)
    apply_report(order_id=order.pk, report=Report(order.client_order_id, "v1", VenueStatus.FILLED), fills=[fill()])
    assert OrderAnomaly.objects.get().words == f"a fill for an order that is {status}"
    assert not Trade.objects.exists()


def test_a_rejection_of_an_order_that_is_filled_in_part_is_impossible_and_holds_its_money() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    venue.fills = [fill()]
    venue.status = VenueStatus.REJECTED
    sync_order(order_id=order.pk, venue=venue)
    order.refresh_from_db()
    assert (order.status, OrderAnomaly.objects.get().reference) == ("PARTIALLY_FILLED", "REJECT")
    assert Reservation.objects.get().active
    books_agree(world)


def test_an_end_is_not_booked_before_the_fills_that_the_venue_counts_are_shown() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    counted = Report(order.client_order_id, "v1", VenueStatus.CANCELED, filled_quantity=D(1_000))
    apply_report(order_id=order.pk, report=counted, fills=[])
    order.refresh_from_db()
    assert (order.status, Reservation.objects.get().active) == ("ACCEPTED", True)
    apply_report(order_id=order.pk, report=counted, fills=[fill()])
    order.refresh_from_db()
    assert (order.status, order.filled_qty, Reservation.objects.get().active) == ("CANCELED", D(1_000), False)
    books_agree(world)


def test_fills_that_come_in_any_order_are_booked_in_the_order_of_their_time() -> None:
    world, venue = open_world(), ScriptedVenue()
    order = working(world, venue)
    later = VenueFill("t2", Fill(Side.BUY, D("0.504"), D(3_000), D("0.1"), "USDT", TS_FILL + 50))
    apply_report(order_id=order.pk, report=None, fills=[later, fill()])
    assert list(Trade.objects.order_by("sequence").values_list("trade_id", flat=True)) == ["t1", "t2"]
    assert Position.objects.get().opened_ts == TS_FILL
    assert Account.objects.get(pk=world.account.pk).sequence == 4  # deposit, decision, two fills


def test_a_fill_that_is_booked_for_another_order_is_a_conflict() -> None:
    world, venue, other = open_world(("XRPUSDT", "ADAUSDT")), ScriptedVenue(), ScriptedVenue()
    first = working(world, venue)
    intent = world.approved(world.entry_signal("ADAUSDT"))
    now_ms = int(intent.created_at.timestamp() * 1000)
    submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=other)
    venue.fills, other.fills = [fill()], [fill(symbol="ADAUSDT")]
    sync_order(order_id=first.pk, venue=venue)
    sync_order(order_id=Order.objects.get(intent=intent).pk, venue=other)
    assert OrderAnomaly.objects.get().words == "fill t1 is booked for another order"
    assert Trade.objects.count() == 1
    books_agree(world)
