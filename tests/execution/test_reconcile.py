"""Comparing our books with a venue's: what is a difference, and what is only under way."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from apps.engine.portfolio import Fill, Side
from apps.execution.models import Order, ReconcileDifference, ReconcileRun, Trade
from apps.execution.services import sync_order
from apps.execution.services.reconciling import reconcile
from apps.execution.venues.base import Balance, VenueFill, VenueOrderView, VenueStatus
from apps.risk.models import BreakerTrip
from tests.execution.reconciling import ALL, FULL, IN_FLIGHT_MS, NARROW, ORDERS, WIDE, Desk, only, stranger, wrong_side
from tests.execution.venues import TS_FILL

D = Decimal
pytestmark = pytest.mark.django_db


def test_equal_books_are_clean_and_say_how_much_was_compared() -> None:
    desk = Desk()
    desk.filled()
    run = desk.run(ALL)
    assert (run.outcome, run.compared) == ("clean", {"orders": 0, "trades": 1, "balances": 2})
    assert not ReconcileDifference.objects.exists()


def test_a_run_that_compares_nothing_has_shown_nothing() -> None:
    run = Desk().run(ORDERS)
    assert (run.outcome, run.compared_in_all) == ("empty", 0)
    assert run.detail.startswith("compared 0")


def test_a_venue_that_does_not_answer_is_no_difference_and_no_clean_run() -> None:
    desk = Desk()
    desk.order()
    desk.venue.answers = False
    run = desk.run()
    assert (run.outcome, run.detail) == ("unclear", "timed out after 5 s")
    assert desk.state == "ACTIVE"


# --- what is under way ------------------------------------------------------------------------------------------------
def test_what_differs_at_one_look_only_is_no_difference() -> None:
    desk = Desk()
    order = desk.order()
    desk.venue.status = VenueStatus.CANCELED
    run = desk.run()
    assert list(run.suspects) == [f"STATUS:{order.client_order_id}"]
    sync_order(order_id=order.pk, venue=desk.venue)
    assert desk.run().outcome == "clean"
    assert not ReconcileDifference.objects.exists()


def test_two_looks_in_quick_succession_are_one() -> None:
    desk = Desk()
    desk.order()
    desk.venue.status = VenueStatus.CANCELED
    desk.run()
    desk.run(after_ms=IN_FLIGHT_MS - 1)
    assert not ReconcileDifference.objects.exists()
    desk.run(after_ms=1)
    assert only().kind == "STATUS"


def test_an_order_that_moved_a_moment_ago_is_left_out() -> None:
    desk = Desk()
    desk.order()
    desk.venue.status = VenueStatus.CANCELED
    desk.now_ms -= IN_FLIGHT_MS
    run = desk.run(after_ms=IN_FLIGHT_MS - 1)
    assert (run.compared["orders"], run.suspects) == (0, {})


def test_a_run_that_may_wait_looks_again_by_itself() -> None:
    desk = Desk()
    desk.order()
    desk.venue.status = VenueStatus.CANCELED
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        desk.now_ms += round(seconds * 1000)

    account = desk.world.account.pk
    reconcile(
        account_id=account, scope=FULL, clock=lambda: desk.now_ms, bounds=NARROW, venue=desk.venue, wait=wait
    )  # fmt: skip
    assert waited == [(IN_FLIGHT_MS + 100) / 1000]
    assert only().kind == "STATUS"


# --- each class -------------------------------------------------------------------------------------------------------
def never_received(desk: Desk, _order: Order) -> None:
    desk.venue.received.clear()


def ended_there(desk: Desk, _order: Order) -> None:
    desk.venue.status = VenueStatus.EXPIRED


def filled_there(desk: Desk, order: Order) -> None:
    view = desk.venue.open_orders()[0]
    filled = VenueOrderView(
        order.client_order_id, "v1", "XRPUSDT", Side.BUY, view.quantity, D(1_000), view.limit_price
    )  # fmt: skip
    desk.venue.open_orders = lambda: [filled]  # type: ignore[method-assign]


def another_order(desk: Desk, order: Order) -> None:
    other = VenueOrderView(order.client_order_id, "v1", "XRPUSDT", Side.SELL, D(4_000), D(0), D("0.51"))
    desk.venue.open_orders = lambda: [other]  # type: ignore[method-assign]


def missing_fill(desk: Desk, _order: Order) -> None:
    desk.venue.fill("t1", "BUY", "1000")


def far_price(desk: Desk, _order: Order) -> None:
    desk.venue.fill("t1", "BUY", "10", price="50")


def wrong_symbol(desk: Desk, _order: Order) -> None:
    one = Fill(Side.BUY, D("0.5"), D(10), D(0), "USDT", TS_FILL)
    desk.venue.fills.append(VenueFill("t1", one, symbol="BTCUSDT"))


def fill_of_a_stranger(desk: Desk, _order: Order) -> None:
    one = Fill(Side.BUY, D("0.5"), D(10), D(0), "USDT", TS_FILL)
    desk.venue.fills_since = lambda ts_ms: [("x-1", VenueFill("t9", one))][: ts_ms + 1]  # type: ignore[method-assign]


CLASSES: list[tuple[Callable[[Desk, Order], None], str, str, str, str, str]] = [
    (never_received, "ORDER_MISSING_AT_VENUE", "ACCEPTED", "never received", "end_here", "2040"),
    (stranger, "ORDER_UNKNOWN_TO_US", "unknown", "BUY 100 XRPUSDT open", "cancel_at_venue", "50"),
    (ended_there, "STATUS", "ACCEPTED", "expired", "ask", "2040"),
    (another_order, "STATUS", "BUY 4000 XRPUSDT", "SELL 4000 XRPUSDT", "none", "2040"),
    (filled_there, "FILLED_QUANTITY", "0", "1000", "ask", "510"),
    (missing_fill, "TRADE_MISSING_HERE", "none", "BUY 1000 XRPUSDT at 0.5, fee 0.1 USDT", "ask", "500"),
    (wrong_side, "TRADE_MISSING_HERE", "none", "SELL 1000 XRPUSDT at 0.5, fee 0.1 USDT", "none", "500"),
    (far_price, "TRADE_MISSING_HERE", "none", "BUY 10 XRPUSDT at 50, fee 0.1 USDT", "none", "500"),
    (wrong_symbol, "TRADE_MISSING_HERE", "none", "BUY 10 BTCUSDT at 0.5, fee 0 USDT", "none", "5"),
    (fill_of_a_stranger, "TRADE_MISSING_HERE", "none", "BUY 10  at 0.5, fee 0 USDT", "none", "5"),
]


@pytest.mark.parametrize(("change", "kind", "ours", "venue", "correction", "size"), CLASSES)
def test_what_differs_in_orders_and_fills_is_a_row_and_stops_opening(
    change: Callable[[Desk, Order], None], kind: str, ours: str, venue: str, correction: str, size: str
) -> None:
    desk = Desk()
    order = desk.order()
    change(desk, order)
    run = desk.twice()
    row = ReconcileDifference.objects.get(kind=kind)
    assert (row.ours, row.venue, row.correction, row.size) == (ours, venue, correction, D(size))
    assert (run.outcome, run.differences, row.state) == ("different", ReconcileDifference.objects.count(), "open")
    assert (desk.state, BreakerTrip.objects.get().cause) == ("REDUCING", "RECON")
    assert Trade.objects.count() == 0


def test_a_fill_that_we_have_and_the_venue_has_not_is_a_difference_that_nothing_books() -> None:
    desk = Desk(bounds=WIDE)
    desk.filled()
    desk.venue.fills.clear()
    desk.venue.held = {"USDT": Balance(D(100_000), D(0))}
    desk.twice(ALL)
    row = only()
    assert (row.kind, row.subject, row.correction, row.state) == ("TRADE_UNKNOWN_AT_VENUE", "t1", "none", "open")
    assert Trade.objects.count() == 1


def test_a_fill_that_is_another_one_at_the_venue_is_a_difference_that_nothing_books() -> None:
    desk = Desk(bounds=WIDE)
    desk.filled()
    desk.venue.fills.clear()
    desk.venue.fill("t1", "BUY", "4000", price="0.505")
    desk.twice(ALL)
    row = only()
    assert (row.kind, row.ours, row.venue, row.correction) == (
        "TRADE_DIFFERS", "BUY 4000 XRPUSDT at 0.5, fee 0.1 USDT", "BUY 4000 XRPUSDT at 0.505, fee 0.1 USDT", "none",
    )  # fmt: skip


def test_balances_are_compared_only_where_orders_and_fills_agree() -> None:
    desk = Desk()
    desk.order()
    desk.venue.fill("t1", "BUY", "1000")
    desk.venue.held = {"USDT": Balance(D("99499.9"), D(0)), "XRP": Balance(D(1_000), D(0))}
    run = desk.twice()
    assert only().kind == "TRADE_MISSING_HERE"
    assert "balances" not in run.compared


def test_runs_without_a_difference_are_kept_for_a_week_and_the_others_for_ever() -> None:
    desk = Desk()
    clean = desk.run()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    different = desk.twice()
    desk.run(after_ms=8 * 86_400_000)
    kept = set(ReconcileRun.objects.values_list("pk", flat=True))
    assert (clean.pk in kept, different.pk in kept) == (False, True)
