"""Comparing our books with a venue's: what is a difference, what becomes of it, and what trading does meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from apps.engine import timeouts
from apps.engine.portfolio import Fill, Side
from apps.execution.models import Order, OrderStatus, ReconcileDifference, ReconcileRun, Trade
from apps.execution.services import submit_order, sync_order
from apps.execution.services.reconciling import Bounds, DifferenceRefused, approve, dismiss, reconcile
from apps.execution.venues.base import Balance, VenueFill, VenueOrderView, VenueStatus
from apps.portfolio.models import LedgerEntry
from apps.risk.models import BreakerTrip, TradingState
from tests.execution.venues import TS_FILL, ScriptedVenue
from tests.worlds import World, fresh, open_world

D = Decimal
ORDERS, FULL, ALL = ReconcileRun.Scope.ORDERS, ReconcileRun.Scope.FULL, ReconcileRun.Scope.ALL
WIDE, NARROW = Bounds(book=D(5_000), balance=D(10)), Bounds(book=D(0), balance=D(0))
IN_FLIGHT_MS = timeouts.RECONCILE_IN_FLIGHT_MS
pytestmark = pytest.mark.django_db


@dataclass
class Desk:
    """One account at one scripted venue, and a wall clock that only moves when it is told to."""

    world: World = field(default_factory=open_world)
    venue: ScriptedVenue = field(default_factory=ScriptedVenue)
    bounds: Bounds = NARROW
    now_ms: int = 0

    def __post_init__(self) -> None:
        self.venue.held = {"USDT": Balance(D(100_000), D(0))}
        self.now_ms = int(self.world.session.started_at.timestamp() * 1000)

    def order(self) -> Order:
        """A buy of 4 000 at 0.51 or better that works at the venue."""
        intent = self.world.approved(self.world.entry_signal())
        now_ms = int(intent.created_at.timestamp() * 1000)
        submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=self.venue)
        order = Order.objects.get(intent=intent)
        self.now_ms = int(order.updated_at.timestamp() * 1000) + IN_FLIGHT_MS + 1
        return order

    def run(self, scope: str = FULL, *, after_ms: int = IN_FLIGHT_MS) -> ReconcileRun:
        self.now_ms += after_ms
        return reconcile(
            account_id=self.world.account.pk,
            scope=scope,
            clock=lambda: self.now_ms,
            bounds=self.bounds,
            venue=self.venue,
        )

    def twice(self, scope: str = FULL) -> ReconcileRun:
        """What is seen at two looks is a difference."""
        self.run(scope)
        return self.run(scope)

    def filled(self) -> Order:
        """An order of which both sides know that it was filled, at 0.5 with a fee of 0.1."""
        order = self.order()
        self.venue.fill("t1", "BUY", "4000")
        self.venue.status = VenueStatus.FILLED
        sync_order(order_id=order.pk, venue=self.venue)
        self.now_ms += IN_FLIGHT_MS
        self.venue.held = {"USDT": Balance(D("97999.9"), D(0)), "XRP": Balance(D(4_000), D(0))}
        return order

    def approve(self, pk: int, *, by: str, reason: str) -> None:
        now = datetime.fromtimestamp(self.now_ms / 1000, UTC)
        approve(difference_id=pk, by=by, reason=reason, now=now, venue=self.venue)

    def dismiss(self, pk: int, *, by: str, reason: str) -> None:
        dismiss(difference_id=pk, by=by, reason=reason, now=datetime.fromtimestamp(self.now_ms / 1000, UTC))

    @property
    def state(self) -> str:
        return self.world.state.trading_state


def only() -> ReconcileDifference:
    return ReconcileDifference.objects.get()


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
    assert waited == [IN_FLIGHT_MS / 1000 + 0.1]
    assert only().kind == "STATUS"


# --- each class -------------------------------------------------------------------------------------------------------
def never_received(desk: Desk, _order: Order) -> None:
    desk.venue.received.clear()


def stranger(desk: Desk, _order: Order) -> None:
    desk.venue.open_orders = lambda: [  # type: ignore[method-assign]
        VenueOrderView("x-1", "v9", "XRPUSDT", Side.BUY, D(100), D(0), D("0.5"))
    ]


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


def wrong_side(desk: Desk, _order: Order) -> None:
    desk.venue.fill("t1", "SELL", "1000")


def far_price(desk: Desk, _order: Order) -> None:
    desk.venue.fill("t1", "BUY", "10", price="50")


def wrong_symbol(desk: Desk, _order: Order) -> None:
    one = Fill(Side.BUY, D("0.5"), D(10), D(0), "USDT", TS_FILL)
    desk.venue.fills.append(VenueFill("t1", one, symbol="BTCUSDT"))


def fill_of_a_stranger(desk: Desk, _order: Order) -> None:
    one = Fill(Side.BUY, D("0.5"), D(10), D(0), "USDT", TS_FILL)
    desk.venue.fills_since = lambda _ts_ms: [("x-1", VenueFill("t9", one))]  # type: ignore[method-assign]


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


# --- corrections ------------------------------------------------------------------------------------------------------
def test_a_missing_fill_within_the_bound_is_booked_by_asking() -> None:
    desk = Desk(bounds=WIDE)
    order = desk.order()
    desk.venue.fill("t1", "BUY", "4000")
    desk.venue.status = VenueStatus.FILLED
    desk.venue.held = {"USDT": Balance(D("97999.9"), D(0)), "XRP": Balance(D(4_000), D(0))}
    run = desk.twice()
    order.refresh_from_db()
    assert (order.status, Trade.objects.count(), run.corrected) == ("FILLED", 1, 1)
    assert {row.state for row in ReconcileDifference.objects.all()} == {"applied"}
    assert desk.state == "ACTIVE"
    desk.now_ms += IN_FLIGHT_MS
    assert desk.run(ALL).outcome == "clean"


def test_an_order_that_the_venue_never_received_ends_here_and_gives_its_promise_back() -> None:
    desk = Desk(bounds=WIDE)
    order = desk.order()
    desk.venue.received.clear()
    desk.twice()
    order.refresh_from_db()
    assert (order.status, only().state) == (OrderStatus.EXPIRED, "applied")
    assert desk.world.state.exposure == 0


@pytest.mark.parametrize(
    ("off", "state"), [("9.99", "applied"), ("10", "applied"), ("10.01", "open"), ("-10", "applied")]
)
def test_cash_is_corrected_in_the_ledger_up_to_the_bound(off: str, state: str) -> None:
    desk = Desk(bounds=WIDE)
    desk.venue.held = {"USDT": Balance(D(100_000) + D(off), D(0))}
    desk.twice()
    row = only()
    assert (row.kind, row.correction, row.state, row.amount) == ("BALANCE", "ledger", state, D(off))
    assert desk.world.cash() == D(100_000) + (D(off) if state == "applied" else 0)
    legs = LedgerEntry.objects.exclude(reference="deposit").values_list("amount", flat=True)
    assert sum(legs) == 0


def test_a_balance_of_what_positions_hold_is_never_corrected_by_the_ledger() -> None:
    desk = Desk(bounds=Bounds(book=D(10**9), balance=D(10**9)))
    desk.filled()
    desk.venue.held["XRP"] = Balance(D(3_999), D(0))
    desk.twice(ALL)
    row = only()
    assert (row.subject, row.correction, row.state, row.size) == ("XRP", "none", "open", D("0.5"))


def test_an_order_of_somebody_else_is_never_cancelled_without_a_person() -> None:
    desk = Desk(bounds=Bounds(book=D(10**9), balance=D(10**9)))
    desk.order()
    stranger(desk, Order.objects.get())
    desk.twice()
    assert ReconcileDifference.objects.get(kind="ORDER_UNKNOWN_TO_US").state == "open"
    assert desk.venue.canceled == []


# --- how long it lasts, and the way back ------------------------------------------------------------------------------
def test_a_difference_that_lasts_halts_and_a_clean_run_lets_trading_go_on() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    assert desk.state == "REDUCING"
    desk.run(after_ms=timeouts.RECONCILE_HALT_SECONDS * 1000 - IN_FLIGHT_MS - 1)
    assert desk.state == "REDUCING"
    desk.run(after_ms=1)
    assert desk.state == "HALTED"
    assert set(BreakerTrip.objects.values_list("cause", "to_state")) == {("RECON", "REDUCING"), ("RECON", "HALTED")}
    desk.venue.held = {"USDT": Balance(D(100_000), D(0))}
    run = desk.run()
    assert (run.outcome, desk.state, only().state) == ("clean", "ACTIVE", "resolved")


def test_a_run_that_compared_nothing_is_no_way_back() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    row = only()
    desk.dismiss(row.pk, by="kim", reason="known")
    assert desk.run(ORDERS).outcome == "empty"
    assert desk.state == TradingState.REDUCING


def test_a_balance_that_a_narrow_run_did_not_look_at_stays_open() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    run = desk.run(ORDERS)
    assert (run.differences, run.outcome) == (1, "different")


# --- a person ---------------------------------------------------------------------------------------------------------
def test_a_person_approves_what_is_above_the_bound() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    desk.approve(only().pk, by="kim", reason="a withdrawal")
    row = only()
    assert (row.state, row.decided_by, row.reason, desk.world.cash()) == ("approved", "kim", "a withdrawal", D(99_000))
    run = desk.run()
    assert (run.outcome, desk.state) == ("clean", "ACTIVE")


def test_what_has_changed_since_a_person_saw_it_is_not_booked() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    desk.venue.held = {"USDT": Balance(D(90_000), D(0))}
    with pytest.raises(DifferenceRefused, match="has changed to ours 100000, venue 90000"):
        desk.approve(only().pk, by="kim", reason="a withdrawal")
    assert (only().state, desk.world.cash()) == ("open", D(100_000))


def test_what_is_not_there_any_more_is_not_booked() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    desk.venue.held = {"USDT": Balance(D(100_000), D(0))}
    with pytest.raises(DifferenceRefused, match="not there any more"):
        desk.approve(only().pk, by="kim", reason="a withdrawal")
    assert desk.world.cash() == D(100_000)


def test_what_nothing_can_be_booked_of_stays_open_when_it_is_approved() -> None:
    desk = Desk()
    order = desk.order()
    wrong_side(desk, order)
    desk.twice()
    row = ReconcileDifference.objects.get(kind="TRADE_MISSING_HERE")
    with pytest.raises(DifferenceRefused, match="nothing can be booked"):
        desk.approve(row.pk, by="kim", reason="why not")
    row.refresh_from_db()
    assert (row.state, row.decided_by, Trade.objects.count()) == ("open", "", 0)


def test_what_was_dismissed_stays_so_until_it_changes() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    desk.dismiss(only().pk, by="kim", reason="in transit")
    desk.twice()
    assert only().state == "dismissed"
    desk.venue.held = {"USDT": Balance(D(98_000), D(0))}
    desk.twice()
    assert set(ReconcileDifference.objects.values_list("state", "amount")) == {
        ("dismissed", D(-1_000)), ("open", D(-2_000)),
    }  # fmt: skip


@pytest.mark.parametrize(("by", "reason", "words"), [("", "why", "who decides"), ("kim", " ", "say why")])
def test_a_decision_needs_a_name_and_a_reason(by: str, reason: str, words: str) -> None:
    with pytest.raises(DifferenceRefused, match=words):
        Desk().dismiss(1, by=by, reason=reason)


def test_a_decision_is_taken_once() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    desk.dismiss(only().pk, by="kim", reason="in transit")
    for decide in (desk.dismiss, desk.approve):
        with pytest.raises(DifferenceRefused, match="is not open"):
            decide(only().pk, by="sam", reason="no")


def test_when_a_difference_was_seen_first_is_kept() -> None:
    desk = Desk()
    desk.venue.held = {"USDT": Balance(D(99_000), D(0))}
    desk.twice()
    row = only()
    desk.run()
    assert only().found_at == row.found_at
    assert row.run.finished_at - row.found_at == timedelta(milliseconds=IN_FLIGHT_MS)
