"""The road with the exchange's venue at its end: from an intent to position, ledger and a clean reconciliation."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apps.execution.models import Order, OrderAnomaly, ReconcileRun, Trade
from apps.execution.services import Bounds, cancel_order, reconcile, submit_order, sync_order
from apps.portfolio.models import LedgerEntry, Position, Reservation
from tests.execution.books import books_agree
from tests.execution.exchange_desks import ExchangeDesk, exchange_desk
from tests.execution.exchange_venue import received
from tests.worlds import fresh

D = Decimal
pytestmark = pytest.mark.django_db
NARROW = Bounds(book=D(0), balance=D(0))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ExchangeDesk]:
    with exchange_desk(tmp_path) as one:
        yield one


def send(desk: ExchangeDesk) -> Order:
    now_ms = int(desk.intent.created_at.timestamp() * 1000)
    submit_order(intent_id=desk.intent.pk, now_ms=now_ms, feed=fresh, venue=desk.venue)
    return Order.objects.get(intent=desk.intent)


def ask(desk: ExchangeDesk, order: Order, later_ms: int = 0) -> Order:
    now_ms = int(order.created_at.timestamp() * 1000) + later_ms
    sync_order(order_id=order.pk, venue=desk.venue, now_ms=now_ms)
    order.refresh_from_db()
    return order


def test_an_intent_becomes_a_position_and_both_books_agree(desk: ExchangeDesk) -> None:
    order = send(desk)
    assert (order.status, order.venue, Reservation.objects.get().active) == ("ACCEPTED", "mexc", True)
    desk.meet(1_000)
    assert ask(desk, order).status == "PARTIALLY_FILLED"
    desk.meet(3_000)
    assert ask(desk, order).status == "FILLED"
    assert not Reservation.objects.get().active
    assert Position.objects.get().quantity == 4_000
    cash = LedgerEntry.objects.filter(account=desk.world.account, kind=LedgerEntry.Kind.CASH)
    assert sum(row.amount for row in cash) == desk.world.cash() == 100_000 - D(4_000) * D("0.51")
    assert desk.exchange.balances() == {"USDT": ("97960", "0"), "XRP": ("4000", "0")}
    books_agree(desk.world)
    now_ms = int(order.updated_at.timestamp() * 1000)
    for later_ms in (6_000, 12_000):
        run = reconcile(
            account_id=desk.world.account.pk,
            scope=ReconcileRun.Scope.FULL,
            clock=lambda at=now_ms + later_ms: at,  # type: ignore[misc]
            bounds=NARROW,
            venue=desk.venue,
        )
    assert (run.outcome, run.differences, run.detail) == (ReconcileRun.Outcome.CLEAN, 0, "")
    assert run.compared_in_all > 0
    assert received(desk.exchange, order.client_order_id) == 1


LOST: list[dict[str, Any]] = [
    {"mode": "reset"},
    {"mode": "status", "status": 503},
    {"mode": "html"},
    {"mode": "error", "status": 400, "code": 700003},
]


@pytest.mark.parametrize("options", LOST)
def test_a_reply_that_is_lost_after_acceptance_leaves_one_order_which_is_settled(
    desk: ExchangeDesk, options: dict[str, Any]
) -> None:
    desk.exchange.command("rest", path="/order", method="POST", after=True, **options)
    order = send(desk)
    assert (order.status, Reservation.objects.get().active) == ("UNKNOWN", True)
    assert ask(desk, order, 2_000).status == "ACCEPTED"
    desk.meet(4_000)
    assert ask(desk, order, 3_000).status == "FILLED"
    assert received(desk.exchange, order.client_order_id) == 1
    assert Trade.objects.count() == 1
    books_agree(desk.world)


def test_a_request_that_never_arrived_frees_its_money_when_that_is_said_twice(desk: ExchangeDesk) -> None:
    desk.exchange.command("rest", path="/order", method="POST", mode="reset")
    order = send(desk)
    assert order.status == "UNKNOWN"
    assert ask(desk, order, 2_000).status == "UNKNOWN"
    assert ask(desk, order, 8_000).status == "EXPIRED"
    assert not Reservation.objects.get().active
    assert received(desk.exchange, order.client_order_id) == 0


def test_a_fill_that_is_counted_and_not_shown_yet_settles_nothing(desk: ExchangeDesk) -> None:
    order = send(desk)
    desk.exchange.command("rest_lag", ms=3_600_000)
    desk.meet(4_000)
    assert ask(desk, order).status == "ACCEPTED"
    assert Reservation.objects.get().active
    desk.exchange.command("rest_lag", ms=0)
    assert ask(desk, order).status == "FILLED"
    books_agree(desk.world)


def test_a_part_that_is_canceled_keeps_what_was_filled(desk: ExchangeDesk) -> None:
    order = send(desk)
    desk.meet(1_000)
    cancel_order(order_id=order.pk, reason="a test", by="tester", venue=desk.venue)
    order.refresh_from_db()
    assert (order.status, order.filled_qty) == ("CANCELED", D(1_000))
    assert Position.objects.get().quantity == 1_000
    assert not Reservation.objects.get().active
    assert not OrderAnomaly.objects.exists()
    books_agree(desk.world)
