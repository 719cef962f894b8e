"""Entries that had left before a state opened nothing any more are taken back; what reduces goes on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import redis

from apps.execution.models import Order
from apps.execution.services import settle_stuck, sync_order
from apps.outbox.services import Payload
from apps.portfolio.models import Position, Reservation
from apps.risk.models import OrderIntent
from tests.execution.venues import ScriptedVenue
from tests.risk.stating import ACTIVE, HALTED, REDUCING, held, send, set_state, trading_world
from tests.worlds import TRIGGER_MS, World, open_world, quotes, trades, watermark

D = Decimal
T = TRIGGER_MS
pytestmark = pytest.mark.django_db


def working(world: World, intent: OrderIntent, venue: ScriptedVenue) -> Order:
    """Sent, and at work at the venue."""
    send(world, intent, venue)
    return Order.objects.get(intent=intent)


def rung(world: World) -> list[int]:
    """Orders that one look of the sweep wakes a worker for, before any of them is quiet enough to be asked about."""
    calls: list[int] = []

    def sender(event_type: str, payload: Payload) -> None:
        if event_type == "ExecutionReported":
            calls.append(int(payload["order_id"]))

    newest = max(int(order.updated_at.timestamp() * 1000) for order in Order.objects.filter(account=world.account))
    settle_stuck(now_ms=newest + 1_000, sender=sender)
    return calls


@pytest.mark.parametrize(
    ("state", "scope", "subject", "status"),
    [
        (REDUCING, "account", "", "ACCEPTED"),
        (HALTED, "account", "", "PARTIALLY_FILLED"),
        (REDUCING, "strategy", "momentum", "UNKNOWN"),
        (HALTED, "symbol", "XRPUSDT", "SUBMITTED"),
    ],
)
def test_an_entry_at_work_is_taken_back_once_nothing_may_be_opened(
    state: str, scope: str, subject: str, status: str
) -> None:
    world, venue = trading_world(), ScriptedVenue()
    order = working(world, world.approved(world.entry_signal()), venue)
    Order.objects.update(status=status)
    assert rung(world) == []
    set_state(world, state, scope, subject)
    assert rung(world) == [order.pk]
    assert rung(world) == []
    sync_order(order_id=order.pk, venue=venue)
    order.refresh_from_db()
    assert (order.status, venue.canceled) == ("CANCELED", [order.client_order_id])
    assert not Reservation.objects.get().active
    noted = order.events.get(event="ASK_CANCEL").detail
    assert noted.startswith("system: trading is halted" if state == HALTED else "system: only reducing orders")


@pytest.mark.parametrize("state", [REDUCING, HALTED])
def test_an_exit_at_work_is_left_alone(state: str) -> None:
    world, venue = trading_world(), ScriptedVenue()
    working(world, world.approved(world.exit_signal(held(world))), venue)
    set_state(world, state)
    assert (rung(world), venue.canceled) == ([], [])


def test_only_the_entries_of_the_scope_are_taken_back() -> None:
    world = trading_world("XRPUSDT", "ADAUSDT")
    here, other = (
        working(world, world.approved(world.entry_signal(symbol)), ScriptedVenue()) for symbol in ("XRPUSDT", "ADAUSDT")
    )
    set_state(world, REDUCING, "symbol", "XRPUSDT")
    assert rung(world) == [here.pk]
    set_state(world, ACTIVE, "symbol", "XRPUSDT")
    assert rung(world) == []
    assert Order.objects.get(pk=other.pk).cancel_asked_at is None


def test_what_rested_in_the_book_when_trading_was_halted_is_never_filled(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    """The market comes back to the order's limit a second after the halt."""
    world = open_world(paper={"book": {"interval_ms": 1_000, "rest_ms": 60_000}})
    away, back = (T + 10, 6_000, 10**9, 6_001, 10**9), (T + 2_000, 4_990, 10**9, 5_000, 10**9)
    entry = world.publish(redis_client, quotes(away), trades((T, 5_000)))
    world.send(world.approved(world.entry_signal(ts_event=T, entry_id=entry)))
    order = Order.objects.get()
    world.publish(redis_client, watermark(T + 1_000))
    world.reach(T + 1_000)
    world.match(redis_client, tmp_path)
    set_state(world, HALTED)
    assert rung(world) == [order.pk]
    sync_order(order_id=order.pk)
    world.publish(redis_client, quotes(back), watermark(T + 10_000))
    world.reach(T + 10_000)
    world.match(redis_client, tmp_path)
    sync_order(order_id=order.pk)
    order.refresh_from_db()
    assert (order.status, order.filled_qty) == ("CANCELED", D(0))
    assert not Position.objects.exists()
    assert world.state.exposure == 0
