"""Right before an order leaves the state is read once more, and what cannot be read lets nothing leave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from apps.alerts.models import Alert
from apps.bus import clients
from apps.bus.feed import feed_age
from apps.execution.models import Order, OrderEvent
from apps.execution.services import submit_order
from apps.execution.venues.base import OrderRequest, Report
from apps.portfolio.models import Reservation
from apps.risk.models import (
    OrderIntent,
    RiskLimits,
    RiskState,
    TradingState,
)
from apps.risk.scopes import MISSING_WORDS, effective_state
from apps.risk.services import gate
from apps.risk.services.gate import senders_are_through
from apps.risk.services.states import MISSING
from tests.execution.venues import ScriptedVenue
from tests.risk.stating import HALTED, REDUCING, held, send, set_state, trading_world
from tests.worlds import World, open_world

pytestmark = pytest.mark.django_db
IN_THREADS = pytest.mark.django_db(transaction=True)


# --- what cannot be read forbids --------------------------------------------------------------------------------------


def test_a_missing_state_halts_the_decision_and_says_so() -> None:
    world = open_world()
    signal = world.entry_signal()
    RiskState.objects.all().delete()
    assert effective_state(world.account.pk, "momentum", "XRPUSDT") == (HALTED, MISSING_WORDS)
    decision = world.decide(signal)
    assert decision is not None
    assert "HALTED" in decision.reasons
    assert not Reservation.objects.exists()
    assert (world.state.trading_state, world.state.asked_state, world.state.state_reason) == (HALTED, HALTED, MISSING)
    assert Alert.objects.get(kind=Alert.Kind.BREAKER_TRIPPED).words == MISSING


def test_a_missing_state_lets_no_approved_order_leave() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    RiskState.objects.all().delete()
    venue = ScriptedVenue()
    send(world, intent, venue)
    assert venue.received == []
    assert Order.objects.get().status == "DENIED"


def test_nothing_is_sent_while_redis_cannot_be_asked() -> None:
    world = open_world()
    entry, out = world.approved(world.entry_signal()), None
    reader = clients.glance("redis://127.0.0.1:1/0")
    venue = ScriptedVenue()

    def feed(epoch: int, symbol: str) -> Any:
        return feed_age(reader, epoch=epoch, symbol=symbol, now_ms=1)

    out = submit_order(intent_id=entry.pk, now_ms=int(entry.created_at.timestamp() * 1000), feed=feed, venue=venue)
    assert (out, venue.received) == (None, [])
    assert "stale feed" in Order.objects.get().reason


@contextmanager
def postgres_refuses() -> Iterator[None]:
    """New connections of this thread go to a port where nobody listens."""
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = "1"
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["PORT"] = port


@IN_THREADS
def test_nothing_is_sent_while_postgresql_refuses_connections() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    venue = ScriptedVenue()
    with postgres_refuses(), pytest.raises(OperationalError):
        send(world, intent, venue)
    assert venue.received == []
    assert not Order.objects.exists()


# --- the last look ----------------------------------------------------------------------------------------------------


def in_a_thread(pool: ThreadPoolExecutor, work: Any) -> Any:
    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return pool.submit(run)


def wait_for_submitting(intent: OrderIntent) -> None:
    """Until the order is noted as SUBMITTING and its sender waits for its last look."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = %s"
    pause = threading.Event()
    for _ in range(2_000):
        with connection.cursor() as cursor:
            cursor.execute(waiting, [gate.LOCKS])
            (count,) = cursor.fetchone()
        if count and Order.objects.filter(intent=intent, status="SUBMITTING").exists():
            return
        pause.wait(0.005)
    raise AssertionError("no sender came to its last look")


@contextmanager
def nobody_may_send(world: World) -> Iterator[None]:
    """Senders come as far as their last look, and wait there."""
    keys = [gate.LOCKS, world.account.pk]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", keys)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", keys)


@IN_THREADS
@pytest.mark.parametrize(
    ("state", "scope", "subject", "leaves"),
    [
        ("HALTED", "account", "", []),
        ("REDUCING", "account", "", ["exit"]),
        ("HALTED", "symbol", "XRPUSDT", []),
        ("REDUCING", "strategy", "momentum", ["exit"]),
    ],
)
@pytest.mark.parametrize("kind", ["entry", "exit"])
def test_an_order_noted_as_submitting_before_the_state_changed_is_looked_at_again_before_it_leaves(
    kind: str, state: str, scope: str, subject: str, leaves: list[str]
) -> None:
    world = trading_world()
    position = held(world)
    intent = world.approved(world.exit_signal(position) if kind == "exit" else world.entry_signal())
    venue = ScriptedVenue()
    with ThreadPoolExecutor(1) as pool:
        with nobody_may_send(world):
            sending = in_a_thread(pool, lambda: send(world, intent, venue))
            wait_for_submitting(intent)
            set_state(world, state, scope, subject)  # our own connection holds the lock, so it does not wait for itself
        sending.result(timeout=20)
    assert [row.client_order_id for row in venue.received] == [intent.client_order_id] * (kind in leaves)
    order = Order.objects.get()
    position.refresh_from_db()
    if kind in leaves:
        assert order.status == "ACCEPTED"
        return
    assert (order.status, order.reason[:7]) == ("EXPIRED", "unsent:")
    assert [row.event for row in OrderEvent.objects.order_by("number")] == ["SUBMIT", "EXPIRE"]
    assert not Reservation.objects.filter(active=True).exists()
    assert position.exit_attempts == (1 if kind == "exit" else 0)


@IN_THREADS
def test_a_sender_whose_connection_dies_before_its_last_look_sends_nothing() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    venue = ScriptedVenue()
    with ThreadPoolExecutor(1) as pool, nobody_may_send(world):
        sending = in_a_thread(pool, lambda: send(world, intent, venue))
        wait_for_submitting(intent)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        with pytest.raises(OperationalError):
            sending.result(timeout=20)
    assert venue.received == []
    assert Order.objects.get().status == "SUBMITTING"  # asked about later: the venue never received it


class Crossing(ScriptedVenue):
    """Says when the first orders have come, and notes whether any came after the halt was over."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.enough = enough
        self.begun = threading.Event()
        self.halted = threading.Event()
        self.late: list[str] = []

    def submit(self, request: OrderRequest) -> Report:
        if self.halted.is_set():
            self.late.append(request.client_order_id)
        report = super().submit(request)
        if len(self.received) >= self.enough:
            self.begun.set()
        return report


@IN_THREADS
@pytest.mark.parametrize("state", [HALTED, REDUCING])
def test_once_a_halt_has_returned_no_order_leaves_however_many_are_on_their_way(state: TradingState) -> None:
    symbols = [f"{letter * 3}USDT" for letter in "ABCDEFGH"]
    world = open_world(symbols)
    RiskLimits.objects.update(orders_per_second_max=100, open_orders_max=100)
    intents = [world.approved(world.entry_signal(symbol)) for symbol in symbols]
    venue = Crossing(enough=1)
    with ThreadPoolExecutor(len(intents)) as pool:
        sending = [in_a_thread(pool, lambda intent=intent: send(world, intent, venue)) for intent in intents]
        assert venue.begun.wait(20)
        done = set_state(world, state)
        venue.halted.set()
        assert done.all_left
        for future in sending:
            future.result(timeout=20)
    assert venue.late == []
    assert len(venue.received) + Order.objects.filter(status__in=["DENIED", "EXPIRED"]).count() == len(intents)


class Hanging(ScriptedVenue):
    """Takes an order and does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def submit(self, request: OrderRequest) -> Report:
        self.asked.set()
        assert self.go_on.wait(20)
        return super().submit(request)


@IN_THREADS
def test_a_halt_says_so_if_an_order_is_still_being_answered() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    venue = Hanging()
    with ThreadPoolExecutor(1) as pool:
        sending = in_a_thread(pool, lambda: send(world, intent, venue))
        assert venue.asked.wait(20)
        try:
            assert not set_state(world, "HALTED").all_left
            assert world.state.trading_state == HALTED  # it holds all the same
        finally:
            venue.go_on.set()
        sending.result(timeout=20)
    assert senders_are_through(world.account.pk)
