"""What becomes of a difference: corrected by itself or by a person; and what trading does meanwhile."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from apps.engine import timeouts
from apps.execution.models import Order, OrderStatus, ReconcileDifference, Trade
from apps.execution.services.reconciling import Bounds, DifferenceRefused
from apps.execution.venues.base import Balance, VenueStatus
from apps.portfolio.models import LedgerEntry
from apps.risk.models import BreakerTrip, TradingState
from tests.execution.reconciling import ALL, IN_FLIGHT_MS, ORDERS, WIDE, Desk, only, stranger, wrong_side

D = Decimal
pytestmark = pytest.mark.django_db


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
    desk.dismiss(only().pk, by="kim", reason="known")
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


def test_what_was_dismissed_hides_no_balance_and_lets_trading_go_on() -> None:
    """A fill that the venue does not show: once it is dismissed, the money that it moved here is what differs."""
    desk = Desk()
    desk.filled()
    desk.venue.fills.clear()
    desk.twice(ALL)
    desk.dismiss(only().pk, by="kim", reason="the venue lost it")
    assert (desk.run(ALL).outcome, desk.state) == ("clean", "ACTIVE")
    desk.venue.held["USDT"] = Balance(D(100_000), D(0))
    desk.twice(ALL)
    row = ReconcileDifference.objects.get(state="open")
    assert (row.kind, row.amount) == ("BALANCE", D("2000.1"))


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
