"""The paper venue told to make trouble: each outcome through the real road, and what our books say at its end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from apps.execution.models import Order, OrderAnomaly, OrderEvent, Trade, VenueOrder
from apps.execution.selectors import venue_of
from apps.execution.services import cancel_order, collect_fills, match_orders, sync_order
from apps.execution.services.submitting import request_of
from apps.execution.venues.base import VenueStatus
from apps.execution.venues.outcomes import Outcome, PaperFaults
from apps.execution.venues.paper import PaperVenue
from apps.execution.venues.quotes import Reader
from apps.portfolio.models import LedgerEntry, Position, Reservation
from apps.risk.models import BreakerTrip
from tests.execution.books import books_agree
from tests.worlds import TRIGGER_MS, World, open_world, quotes, trades, watermark

D = Decimal
T = TRIGGER_MS
MATURE = T + 150
LATER_MS = (0, 5_000, 10_000, 15_000)
WIDE = (5_000, 1_000_000, 5_002, 1_000_000)  # bid 0.5000, ask 0.5002, 10 000 on each side
pytestmark = pytest.mark.django_db


def troubled(outcome: str = "", **paper: Any) -> World:
    """A world whose paper venue makes one kind of trouble with every order."""
    if outcome:
        paper["outcomes"] = {"seed": 1, "chances": {outcome: "1"}}
    return open_world(paper=paper)


class Road:
    """One buy of 4 000 at 0.51 or better, triggered at T, in a market at 0.5000 / 0.5002."""

    def __init__(self, world: World, client: redis.Redis, segments: Path) -> None:
        self.world, self.client, self.segments = world, client, segments
        entry = world.publish(client, quotes((T + 10, *WIDE)), trades((T, 5_000)))
        self.intent = world.approved(world.entry_signal(ts_event=T, entry_id=entry))
        world.send(self.intent)

    @property
    def order(self) -> Order:
        return Order.objects.get(intent=self.intent)

    def reach(self, ts_event: int, *rows: tuple[int, int, int, int, int]) -> None:
        events = [quotes(*rows)] if rows else []
        self.world.publish(self.client, *events, watermark(ts_event))
        self.world.reach(ts_event)

    def match(self) -> int:
        shard, epoch = self.world.shard(), self.world.epoch.pk
        return match_orders(epoch=epoch, shard=shard, reader=Reader(self.client, self.segments, epoch, shard))

    def ask(self, times: int = 4) -> Order:
        now_ms = int(self.order.created_at.timestamp() * 1000)
        for later_ms in LATER_MS[:times]:
            sync_order(order_id=self.order.pk, now_ms=now_ms + later_ms)
        return self.order


@pytest.fixture
def road(redis_client: redis.Redis, tmp_path: Path) -> Callable[..., Road]:
    return lambda outcome="", **paper: Road(troubled(outcome, **paper), redis_client, tmp_path)


def steps(order: Order) -> str:
    return " ".join(OrderEvent.objects.filter(order=order).order_by("number").values_list("event", flat=True))


# outcome, status and filled quantity after sending, then at the end, and the steps in between
ENDS = [
    ("", "ACCEPTED", "FILLED", 4_000, "SUBMIT ACCEPT COMPLETE"),
    ("reply_lost", "UNKNOWN", "FILLED", 4_000, "SUBMIT LOSE COMPLETE"),
    ("never_received", "UNKNOWN", "EXPIRED", 0, "SUBMIT LOSE LOSE EXPIRE"),
    ("on_its_way", "UNKNOWN", "FILLED", 4_000, "SUBMIT LOSE COMPLETE"),
    ("reject", "REJECTED", "REJECTED", 0, "SUBMIT REJECT"),
    ("partial_cancel", "ACCEPTED", "CANCELED", 2_000, "SUBMIT ACCEPT FILL CANCEL"),
    ("partial_expire", "ACCEPTED", "EXPIRED", 2_000, "SUBMIT ACCEPT FILL EXPIRE"),
    ("late_fill", "ACCEPTED", "CANCELED", 2_000, "SUBMIT ACCEPT CANCEL FILL"),
    ("duplicate_fill", "ACCEPTED", "FILLED", 4_000, "SUBMIT ACCEPT COMPLETE"),
    ("out_of_order", "ACCEPTED", "FILLED", 4_000, "SUBMIT ACCEPT FILL COMPLETE"),
    ("fill_before_ack", "UNKNOWN", "FILLED", 4_000, "SUBMIT LOSE COMPLETE"),
    ("unknown_fill", "ACCEPTED", "FILLED", 4_000, "SUBMIT ACCEPT COMPLETE"),
    ("fee_coin", "ACCEPTED", "FILLED", 4_000, "SUBMIT ACCEPT COMPLETE"),
    ("wrong_symbol", "ACCEPTED", "FILLED", 4_000, "SUBMIT ACCEPT COMPLETE"),
    ("wrong_price", "ACCEPTED", "FILLED", 4_000, "SUBMIT ACCEPT COMPLETE"),
    ("cancel_lost", "ACCEPTED", "FILLED", 4_000, "SUBMIT ACCEPT COMPLETE"),
]


def test_the_table_has_every_outcome() -> None:
    assert {row[0] for row in ENDS} == {outcome.value for outcome in Outcome}


@pytest.mark.parametrize(("outcome", "sent", "ended", "filled", "path"), ENDS)
def test_every_outcome_ends_as_it_must_and_the_books_agree(
    road: Callable[..., Road], outcome: str, sent: str, ended: str, filled: int, path: str
) -> None:
    one = road(outcome)
    assert one.order.status == sent
    assert Reservation.objects.get().active is (sent != "REJECTED")
    one.reach(T + 1_000)
    one.match()
    order = one.ask()
    assert (order.status, order.filled_qty, steps(order)) == (ended, D(filled), path)
    assert not Reservation.objects.get().active
    assert VenueOrder.objects.filter(client_order_id=order.client_order_id).count() == (outcome != "never_received")
    books_agree(one.world)


def test_an_order_that_was_only_late_is_not_given_up_after_one_answer(road: Callable[..., Road]) -> None:
    one = road("on_its_way")
    order = one.ask(times=1)
    assert (order.status, order.reason) == ("UNKNOWN", "the venue has no trace of it yet")
    assert Reservation.objects.get().active
    order = one.ask(times=2)
    assert (order.status, order.missing_since, order.asks) == ("ACCEPTED", None, 0)


def test_a_fill_that_shows_twice_is_booked_once_and_noted(road: Callable[..., Road]) -> None:
    one = road("duplicate_fill")
    one.reach(T + 1_000)
    one.match()
    assert Trade.objects.count() == 1
    anomaly = OrderAnomaly.objects.get()
    assert (anomaly.kind, anomaly.times) == ("twice", 1)
    assert not BreakerTrip.objects.exists()
    one.ask(times=1)
    anomaly.refresh_from_db()
    assert anomaly.times == 2


@pytest.mark.parametrize(("outcome", "kind"), [("wrong_symbol", "wrong_symbol"), ("wrong_price", "price_off")])
def test_a_distorted_fill_is_refused_trips_and_is_booked_when_it_is_told_right(
    road: Callable[..., Road], outcome: str, kind: str
) -> None:
    one = road(outcome)
    one.reach(T + 1_000)
    one.match()
    assert not Trade.objects.exists()
    assert Reservation.objects.get().active
    anomaly = OrderAnomaly.objects.get()
    assert (anomaly.kind, anomaly.order, anomaly.payload["quantity"]) == (kind, one.order, "4000.000000000000")
    trip = BreakerTrip.objects.get()
    assert (trip.cause, trip.to_state) == ("UNKNOWN_FILL", "REDUCING")
    assert one.world.state.trading_state == "REDUCING"
    assert one.ask(times=1).status == "FILLED"
    books_agree(one.world)


def test_a_fill_of_an_order_that_nobody_sent_moves_nothing_and_stops_opening(road: Callable[..., Road]) -> None:
    one = road("unknown_fill")
    one.reach(T + 1_000)
    one.match()
    world, cash = one.world, one.world.cash()
    assert len(venue_of(world.session).fills_since(T)) == 2
    for _ in range(2):
        assert collect_fills(account_id=world.account.pk) == 0
    anomaly = OrderAnomaly.objects.get()
    assert (anomaly.kind, anomaly.order, anomaly.times) == ("unknown_order", None, 2)
    assert anomaly.words == "BUY of 2000 XRPUSDT at 0.5003 for an order that nobody here sent"
    assert (world.cash(), Trade.objects.count(), world.state.trading_state) == (cash, 1, "REDUCING")


def test_a_list_of_all_fills_books_what_was_missed(road: Callable[..., Road]) -> None:
    one = road("late_fill")
    one.reach(T + 1_000)
    one.match()
    assert (one.order.status, one.order.filled_qty) == ("CANCELED", D(0))
    assert collect_fills(account_id=one.world.account.pk) == 1
    assert collect_fills(account_id=one.world.account.pk) == 0
    assert (one.order.status, one.order.filled_qty) == ("CANCELED", D(2_000))
    books_agree(one.world)


def test_a_fee_in_the_venues_own_coin_is_counted_in_that_coin(road: Callable[..., Road]) -> None:
    one = road(fee_coin={"currency": "MX", "price": "2"})
    one.reach(T + 1_000)
    one.match()
    trade = Trade.objects.get()
    assert (trade.fee, trade.fee_currency) == (D("0.5003"), "MX")  # 1.0006 USDT at 2
    legs = LedgerEntry.objects.filter(currency="MX").order_by("leg")
    assert list(legs.values_list("kind", "amount")) == [("asset", D("-0.5003")), ("fee", D("0.5003"))]
    assert one.world.cash() == D(100_000) - 4_000 * D("0.5003")
    balances = venue_of(one.world.session).balances()
    assert (balances["XRP"].total, balances["MX"].total) == (D(4_000), D("-0.5003"))
    assert balances["USDT"].total == one.world.cash()


def test_latency_slippage_and_liquidity_are_recorded_on_both_sides(road: Callable[..., Road]) -> None:
    one = road()
    one.reach(T + 1_000)
    one.match()
    ours, theirs = Trade.objects.get(), VenueOrder.objects.get().trades.get()
    # ours against the quote known at the trigger (ask 0.5001), theirs against the one in force at maturity (0.5002)
    assert (ours.liquidity, ours.latency_ms, ours.reference_price) == ("taker", 150, D("0.5001"))
    assert ours.slippage_bps == D("3.999200")
    assert (theirs.liquidity, theirs.latency_ms, theirs.reference_price) == ("taker", 150, D("0.5002"))
    assert theirs.slippage_bps == D("1.999200")


# --- a book: parts, makers, time --------------------------------------------------------------------------------------

BOOK = {"interval_ms": 1_000, "rest_ms": 3_000}


def test_an_order_beyond_the_top_of_the_book_fills_in_parts(road: Callable[..., Road]) -> None:
    one = road(book=BOOK)
    one.reach(T + 1_000, (MATURE, 5_000, 1, 5_002, 150_000))
    assert one.match() == 1
    order = one.order
    assert (order.status, order.filled_qty, order.leaves_qty) == ("PARTIALLY_FILLED", D(1_500), D(2_500))
    assert VenueOrder.objects.get().filled_quantity == 1_500
    one.reach(T + 2_000, (MATURE + 900, 5_000, 1, 5_004, 900_000))
    one.match()
    order = one.order
    assert (order.status, order.filled_qty) == ("FILLED", D(4_000))
    prices = list(Trade.objects.order_by("sequence").values_list("quantity", "price", "ts_event"))
    assert prices == [(D(1_500), D("0.5003"), MATURE), (D(2_500), D("0.5005"), MATURE + 1_000)]
    assert Position.objects.get().opened_ts == MATURE
    books_agree(one.world)


def test_the_same_quote_is_taken_once(road: Callable[..., Road]) -> None:
    one = road(book=BOOK)
    one.reach(T + 10_000, (MATURE, 5_000, 1, 5_002, 150_000))
    one.match()
    assert (one.order.status, one.order.filled_qty) == ("EXPIRED", D(1_500))
    assert one.order.reason.startswith("TIME: ")
    assert not Reservation.objects.get().active
    books_agree(one.world)


def test_an_order_that_waited_in_the_book_is_met_at_its_limit_as_a_maker(road: Callable[..., Road]) -> None:
    one = road(book=BOOK)
    one.reach(T + 1_000, (MATURE, 5_100, 1, 5_120, 900_000))
    assert one.match() == 0
    assert one.order.status == "ACCEPTED"
    one.reach(T + 2_000, (MATURE + 500, 5_080, 1, 5_090, 900_000))
    one.match()
    trade = Trade.objects.get()
    assert (trade.price, trade.liquidity, trade.fee) == (D("0.51"), "maker", D(0))
    books_agree(one.world)


# --- canceling --------------------------------------------------------------------------------------------------------


def test_a_cancel_that_is_in_time_frees_the_money(road: Callable[..., Road]) -> None:
    one = road()
    order = cancel_order(order_id=one.order.pk, reason="changed my mind", by="mara")
    assert (order.status, order.filled_qty, steps(order)) == ("CANCELED", D(0), "SUBMIT ACCEPT ASK_CANCEL CANCEL")
    assert OrderEvent.objects.get(event="ASK_CANCEL").detail == "mara: changed my mind"
    assert not Reservation.objects.get().active
    books_agree(one.world)


def test_a_fill_that_was_faster_than_the_cancel_holds(road: Callable[..., Road]) -> None:
    """The market has passed the order's maturity: it has met its quote, even if the matching has not come to it."""
    one = road()
    one.reach(T + 1_000)
    order = cancel_order(order_id=one.order.pk, reason="too late", by="mara")
    assert (order.status, order.cancel_asked_at is not None) == ("ACCEPTED", True)
    one.match()
    assert (one.order.status, one.order.filled_qty) == ("FILLED", D(4_000))
    books_agree(one.world)


def test_a_cancel_of_the_rest_keeps_the_parts(road: Callable[..., Road]) -> None:
    one = road(book=BOOK)
    one.reach(MATURE + 10, (MATURE, 5_000, 1, 5_002, 150_000))
    one.match()
    order = cancel_order(order_id=one.order.pk, reason="enough", by="mara")
    assert (order.status, order.filled_qty) == ("CANCELED", D(1_500))
    assert not Reservation.objects.get().active
    books_agree(one.world)


def test_a_cancel_whose_answer_is_lost_is_asked_for_again(road: Callable[..., Road]) -> None:
    one = road("cancel_lost")
    order = cancel_order(order_id=one.order.pk, reason="enough", by="mara")
    assert (order.status, order.asks) == ("ACCEPTED", 1)
    assert Reservation.objects.get().active
    order = one.ask(times=2)
    assert (order.status, order.asks) == ("CANCELED", 0)
    assert not Reservation.objects.get().active


# --- the venue's own books --------------------------------------------------------------------------------------------


def test_the_paper_venue_tells_its_open_orders_balances_and_fills(road: Callable[..., Road]) -> None:
    one = road()
    venue = venue_of(one.world.session)
    view = venue.open_orders()[0]
    assert (view.client_order_id, view.symbol, view.quantity, view.filled_quantity) == (
        one.order.client_order_id, "XRPUSDT", D(4_000), D(0),
    )  # fmt: skip
    assert venue.balances()["USDT"].locked == Reservation.objects.get().amount
    one.reach(T + 1_000)
    one.match()
    assert (venue.open_orders(), venue.balances()["USDT"].locked) == ([], D(0))
    assert venue.balances()["USDT"].total == one.world.cash()
    assert venue.balances()["XRP"].total == 4_000
    assert [name for name, _ in venue.fills_since(MATURE)] == [one.order.client_order_id]
    assert venue.fills_since(MATURE + 1) == []


def test_the_paper_venue_of_another_session_sees_none_of_it(road: Callable[..., Road]) -> None:
    one = road()
    other = open_world(("ADAUSDT",))
    venue = venue_of(other.session)
    assert (venue.open_orders(), venue.fills_since(0)) == ([], [])
    assert venue.balances()["USDT"].total == 100_000
    assert one.order.status == "ACCEPTED"


def test_an_order_sent_twice_is_one_order_whatever_was_drawn_for_it(road: Callable[..., Road]) -> None:
    one = road("reply_lost")
    venue = venue_of(one.world.session)
    report = venue.submit(request_of(one.intent))
    assert report.status is VenueStatus.OPEN
    assert VenueOrder.objects.count() == 1


# --- drawing ----------------------------------------------------------------------------------------------------------

PLAIN = {"latency_ms": 150, "base_bps": "1", "impact_bps": "10"}


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ({"chances": {"explode": "0.1"}}, "unknown outcome 'explode'"),
        ({"chances": {"reject": "0.6", "late_fill": "0.5"}}, "add up to more than 1"),
        ({"chances": {"reject": "-0.1"}}, "not a fraction from 0 to 1"),
        ({"chances": {"reject": "NaN"}}, "not a fraction from 0 to 1"),
        ({"chances": {"reject": "often"}}, "not a number"),
        ({"odds": {}}, "have a seed and chances"),
    ],
)
def test_outcomes_that_make_no_sense_are_refused_with_the_reason(outcomes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PaperVenue({**PLAIN, "outcomes": outcomes})


@given(seed=st.integers(0, 2**32), name=st.text("0123456789abcdef", min_size=8, max_size=24))
def test_what_is_drawn_depends_on_the_seed_and_the_id_alone(seed: int, name: str) -> None:
    faults = PaperFaults.of({"seed": seed, "chances": {"reject": "0.25", "late_fill": "0.25"}})
    assert faults.draw(name) is PaperFaults.of({"seed": seed, "chances": dict(faults.chances)}).draw(name)


def test_outcomes_come_as_often_as_they_are_asked_for() -> None:
    faults = PaperFaults.of({"seed": 5, "chances": {"reject": "0.25", "late_fill": "0.5"}})
    drawn = [faults.draw(f"c{number:024x}") for number in range(4_000)]
    assert 0.22 < drawn.count(Outcome.REJECT) / 4_000 < 0.28
    assert 0.47 < drawn.count(Outcome.LATE_FILL) / 4_000 < 0.53


def test_an_order_that_was_filled_long_ago_in_event_time_is_not_taken_for_one_that_rests(
    road: Callable[..., Road],
) -> None:
    """A fast replay passes minutes while a worker is busy."""
    one = road()
    one.reach(T + 600_000)
    one.match()
    assert (one.order.status, steps(one.order)) == ("FILLED", "SUBMIT ACCEPT COMPLETE")
