"""The private stream only rings; what is late, twice, missing or silent there changes nothing of an order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from apps.execution.models import Order, Trade
from apps.execution.services import submit_order, sync_order
from apps.execution.services.ringing import ring_open_orders, ring_order
from apps.execution.venues.base import VenueUnclear
from apps.outbox.models import OutboxEvent
from proto.gen.push_pb2 import PushDataV3ApiWrapper
from tests.exchange.helpers import PrivateExchange
from tests.execution.books import books_agree
from tests.execution.exchange_desks import ExchangeDesk, exchange_desk
from tests.execution.exchange_venue import keys_of
from tests.worlds import fresh
from workers.ingest.clock import Clock
from workers.private_stream.decoder import NoPrivateFrame, order_of
from workers.private_stream.listener import Listener

pytestmark = pytest.mark.django_db
PATIENCE_SECONDS = 20.0


@dataclass
class Heard:
    """What a listener has rung for. Its thread only notes: rows are this thread's business."""

    listener: Listener
    rings: list[str] = field(default_factory=list)
    beginnings: list[bool] = field(default_factory=list)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def listening(exchange: PrivateExchange, rate: float = 1.0) -> Iterator[Heard]:
    """A listener in a thread of its own that has begun."""
    rings: list[str] = []
    beginnings: list[bool] = []
    listener = Listener(
        exchange.ws_url,
        keys_of(exchange),
        ring=rings.append,
        ring_all=lambda: beginnings.append(True),
        trouble=VenueUnclear,
        clock=Clock(rate),
        dice=random.Random(1),
    )
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        until(lambda: bool(beginnings))
        yield Heard(listener, rings, beginnings)
    finally:
        listener.stop()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ExchangeDesk]:
    with exchange_desk(tmp_path) as one:
        yield one


def send(desk: ExchangeDesk) -> Order:
    now_ms = int(desk.intent.created_at.timestamp() * 1000)
    submit_order(intent_id=desk.intent.pk, now_ms=now_ms, feed=fresh, venue=desk.venue)
    return Order.objects.get(intent=desk.intent)


def follow(desk: ExchangeDesk, heard: Heard, already: int) -> int:
    """Ask for whatever was rung for since; how much has been heard now."""
    for client_order_id in heard.rings[already:]:
        assert ring_order(account_id=desk.world.account.pk, client_order_id=client_order_id)
        sync_order(order_id=Order.objects.get(client_order_id=client_order_id).pk, venue=desk.venue)
    return len(heard.rings)


@pytest.mark.parametrize("mode", ["", "duplicate", "reorder", "late"])
def test_whatever_order_frames_come_in_the_order_is_asked_for_and_booked_once(desk: ExchangeDesk, mode: str) -> None:
    with listening(desk.exchange) as heard:
        if mode:
            stall = {"stall": 0.2} if mode == "late" else {}
            desk.exchange.command("private", mode=mode, times=3, **stall)
        order = send(desk)
        desk.meet(1_000)
        desk.meet(3_000)
        until(lambda: len(heard.rings) >= 4)
        assert set(heard.rings) == {order.client_order_id}
        follow(desk, heard, 0)
    order.refresh_from_db()
    assert (order.status, Trade.objects.count()) == ("FILLED", 2)
    assert OutboxEvent.objects.filter(event_type="ExecutionReported", payload__order_id=order.pk).exists()
    assert desk.exchange.account()["listen_keys"] == 0
    books_agree(desk.world)


def test_a_silent_stream_delays_and_breaks_nothing(desk: ExchangeDesk) -> None:
    with listening(desk.exchange) as heard:
        desk.exchange.command("private", mode="silence", seconds=60)
        order = send(desk)
        desk.meet(4_000)
        sync_order(order_id=order.pk, venue=desk.venue)
        assert heard.rings == []
    order.refresh_from_db()
    assert order.status == "FILLED"


def test_a_key_that_is_over_is_noticed_although_its_socket_is_open_and_answers(desk: ExchangeDesk) -> None:
    """A minute of the listener passes within a second or so."""
    with listening(desk.exchange, rate=60.0) as heard:
        desk.exchange.command("expire_listen_keys")
        until(lambda: len(heard.beginnings) >= 2)
        assert "the listen key is over" in heard.listener.counts.ended
        order = send(desk)
        until(lambda: order.client_order_id in heard.rings)


def test_a_socket_that_is_cut_is_opened_again_and_every_open_order_is_rung_for(desk: ExchangeDesk) -> None:
    order = send(desk)
    with listening(desk.exchange) as heard:
        desk.exchange.command("reset")
        until(lambda: len(heard.beginnings) >= 2)
    assert ring_open_orders(account_id=desk.world.account.pk) == 1
    assert not ring_order(account_id=desk.world.account.pk, client_order_id="somebody-elses")
    rung = OutboxEvent.objects.filter(event_type="ExecutionReported").values_list("payload__order_id", flat=True)
    assert list(rung) == [order.pk]


def test_a_key_lives_as_long_as_it_is_extended_and_can_be_given_back(desk: ExchangeDesk) -> None:
    keys = keys_of(desk.exchange)
    key = keys.make()
    assert keys.alive(key)
    assert keys.extend(key)
    keys.close(key)
    assert not keys.alive(key)
    assert not keys.extend(key)
    keys.close(key)
    desk.exchange.command("rest", path="/userDataStream", mode="status", status=503)
    with pytest.raises(VenueUnclear, match="userDataStream: HTTP 503"):
        keys.make()


def test_only_the_orders_id_is_read_from_a_frame() -> None:
    order = PushDataV3ApiWrapper(channel="spot@private.orders.v3.api.pb")
    order.privateOrders.clientId = "own-1"
    deal = PushDataV3ApiWrapper(channel="spot@private.deals.v3.api.pb")
    deal.privateDeals.clientOrderId = "own-2"
    balance = PushDataV3ApiWrapper(channel="spot@private.account.v3.api.pb")
    balance.privateAccount.vcoinName = "USDT"
    found = [order_of(one.SerializeToString()) for one in (order, deal, balance)]
    assert found == ["own-1", "own-2", None]


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"", b"\x9a\x13\xff"])
def test_what_is_no_private_frame_rings_for_nothing(payload: bytes) -> None:
    with pytest.raises(NoPrivateFrame):
        order_of(payload)


def test_an_order_without_an_id_of_ours_rings_for_nothing() -> None:
    for client_id in ("", "a b", "x" * 33):
        one = PushDataV3ApiWrapper(channel="c")
        one.privateOrders.clientId = client_id
        with pytest.raises(NoPrivateFrame):
            order_of(one.SerializeToString())
