"""That a fill has the market's price, that a part is a part, that nobody sleeps on the road, and that a real venue's
requests and answers are what they must be."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import redis

from apps.engine.orders import Status
from apps.execution.models import Order, Trade
from apps.execution.services import submit_order, sync_order
from apps.execution.services.submitting import request_of
from apps.execution.venues.base import OrderRequest, Report, VenueStatus, VenueUnclear
from apps.portfolio.models import Position
from tests.execution.exchange_desks import ExchangeDesk, exchange_desk
from tests.execution.exchange_venue import received, recording, refusal_of
from tests.execution.venues import ScriptedVenue
from tests.factories import OrderFactory
from tests.house.sources import python_files
from tests.worlds import TRIGGER_MS, World, fresh, open_world, quotes, trades, watermark

D = Decimal
T = TRIGGER_MS


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("decimals", "ticks"),
    [(10, 70_031), (8, 1_234), (4, 5_000), (2, 9_563_926)],  # 0.0000070031, 0.00001234, 0.5, 95 639.26
)
def test_a_coin_of_any_price_is_bought_near_its_own_price(
    redis_client: redis.Redis, tmp_path: Path, decimals: int, ticks: int
) -> None:
    """The fill lies between the ask and the order's limit, at a tick of this coin: no constant, no whole cents."""
    world = open_world(price_decimals=decimals)
    ask = ticks + 1
    price, limit = D(ticks).scaleb(-decimals), D(ticks * 102 // 100).scaleb(-decimals)
    entry = world.publish(redis_client, quotes((T - 5, ticks - 1, 10**9, ask, 10**9)), trades((T, ticks)))
    quote: dict[str, Any] = {"bid": price, "ask": price, "quote_ts": T - 5}
    intent = world.approved(world.entry_signal(ts_event=T, entry_id=entry, price=price, median_price=price, **quote))
    assert intent.limit_price == limit
    world.send(intent)
    world.publish(redis_client, quotes((T + 100, ticks - 1, 10**12, ask, 10**12)), watermark(T + 1_000))
    world.reach(T + 1_000)
    assert world.match(redis_client, tmp_path) == 1
    trade = Trade.objects.get()
    assert D(ask).scaleb(-decimals) < trade.price <= limit
    assert trade.price < D(ask + 1).scaleb(-decimals) * D("1.0001")
    assert trade.price == trade.price.quantize(D(1).scaleb(-decimals))
    assert trade.fee >= trade.price * trade.quantity * D("0.0005") > 0


def held(world: World) -> Position:
    venue = ScriptedVenue()
    intent = world.approved(world.entry_signal())
    submit_order(intent_id=intent.pk, now_ms=int(intent.created_at.timestamp() * 1000), feed=fresh, venue=venue)
    venue.fill("t1", "BUY", "4000", "0.5")
    venue.status = VenueStatus.FILLED
    sync_order(order_id=Order.objects.get(intent=intent).pk, venue=venue)
    return Position.objects.get()


@pytest.mark.django_db
def test_a_sale_of_a_part_leaves_the_price_that_was_paid() -> None:
    world = open_world()
    position, venue = held(world), ScriptedVenue()
    paid, stop = position.entry_price, position.stop_price
    intent = world.approved(world.exit_signal(position))
    submit_order(intent_id=intent.pk, now_ms=0, feed=fresh, venue=venue)
    venue.fill("t2", "SELL", "1000", "0.6")
    sync_order(order_id=Order.objects.get(intent=intent).pk, venue=venue)
    position.refresh_from_db()
    assert (position.quantity, position.entry_price, position.stop_price) == (D(3_000), paid, stop)
    assert Order.objects.get(intent=intent).status == Status.PARTIALLY_FILLED


@pytest.mark.django_db
@pytest.mark.parametrize("status", list(Status))
def test_every_status_of_the_state_table_can_be_stored_and_found_in_its_own_spelling(status: Status) -> None:
    order = OrderFactory.create(status=status)
    order.full_clean(validate_unique=False)
    assert Order.objects.get(status=status.value) == order


def test_nobody_on_the_road_sleeps() -> None:
    """Simulated latency is event time. Pauses are those between two tries of a transaction, before a call of REST whose
    turn in the shared budget has not come, between two looks of a person's command, and at points of failure that a
    test has set; none lies on a signal's way to its order."""
    road = ("bus", "outbox", "market", "portfolio", "signals", "risk", "execution", "engine")
    sleepers = {
        source.name
        for source in python_files(*(f"apps/{app}" for app in road))
        if any(name.endswith("sleep") for name, _ in source.dotted)
    }
    assert sleepers == {
        "apps/outbox/transactions.py",
        "apps/market/rest.py",
        "apps/execution/management/commands/reconcile.py",
        "apps/bus/failpoints.py",
    }


# --- 26, 27, 28: a real venue -----------------------------------------------------------------------------------------
def sent(desk: ExchangeDesk) -> Order:
    now_ms = int(desk.intent.created_at.timestamp() * 1000)
    submit_order(intent_id=desk.intent.pk, now_ms=now_ms, feed=fresh, venue=desk.venue)
    return Order.objects.get(intent=desk.intent)


@pytest.mark.django_db
def test_an_acknowledgement_without_a_status_is_asked_about_and_no_error(tmp_path: Path) -> None:
    with exchange_desk(tmp_path) as desk:
        order = sent(desk)
        assert (order.status, bool(order.venue_order_id), order.reason) == ("ACCEPTED", True, "")


class Stumbling(ScriptedVenue):
    """Its order is received; then the code that reads the answer has a mistake."""

    def submit(self, request: OrderRequest) -> Report:
        super().submit(request)
        raise AttributeError("execution_price")


@pytest.mark.django_db
def test_a_mistake_of_ours_after_sending_is_no_rejection_of_a_live_order(tmp_path: Path) -> None:
    with exchange_desk(tmp_path) as desk:
        desk.exchange.command("rest", path="/order", method="POST", after=True, mode="wrong_json")
        assert sent(desk).status == "UNKNOWN"
    world, venue = open_world(), Stumbling()
    intent = world.approved(world.entry_signal())
    with pytest.raises(AttributeError):
        submit_order(intent_id=intent.pk, now_ms=int(intent.created_at.timestamp() * 1000), feed=fresh, venue=venue)
    order = Order.objects.get(intent=intent)
    assert order.status == "SUBMITTING"
    sync_order(order_id=order.pk, venue=venue)
    order.refresh_from_db()
    assert (order.status, len(venue.received)) == ("ACCEPTED", 1)


@pytest.mark.django_db
def test_a_request_carries_our_id_a_limit_in_whole_steps_and_nothing_made_up(tmp_path: Path) -> None:
    world = open_world()
    one = request_of(world.approved(world.entry_signal()))
    with recording("a secret", tmp_path) as (venue, requests), pytest.raises(VenueUnclear):
        venue.submit(one)
    [(method, path, _)] = requests
    values = dict(parse_qsl(path.partition("?")[2]))
    assert (method, path.partition("?")[0]) == ("POST", "/api/v3/order")
    assert set(values) == {
        "symbol", "side", "type", "quantity", "price", "newClientOrderId", "recvWindow", "timestamp", "signature",
    }  # fmt: skip
    assert (values["type"], values["newClientOrderId"]) == ("LIMIT", one.client_order_id)
    assert (values["quantity"], values["price"]) == ("4000", "0.51")


@pytest.mark.django_db
def test_after_a_timeout_the_order_is_looked_up_and_not_sent_again(tmp_path: Path) -> None:
    with exchange_desk(tmp_path) as desk:
        desk.exchange.command("rest", path="/order", method="POST", after=True, mode="reset")
        order = sent(desk)
        assert order.status == "UNKNOWN"
        sync_order(order_id=order.pk, venue=desk.venue)
        order.refresh_from_db()
        assert (order.status, received(desk.exchange, order.client_order_id)) == ("ACCEPTED", 1)


@pytest.mark.django_db
def test_what_is_signed_is_what_is_sent_byte_for_byte(tmp_path: Path) -> None:
    """An order's fields are not in the order of the alphabet, so that sorting one side only would show."""
    world = open_world()
    one = request_of(world.approved(world.entry_signal()))
    with recording("a secret", tmp_path) as (venue, requests):
        with pytest.raises(VenueUnclear):
            venue.submit(one)
        with pytest.raises(VenueUnclear):
            venue.cancel(one.client_order_id)
    names = [[name for name, _ in parse_qsl(path.partition("?")[2])] for _, path, _ in requests]
    assert (len(names), names[0] != sorted(names[0])) == (2, True)
    for _, path, headers in requests:
        payload, _, signature = path.partition("?")[2].rpartition("&signature=")
        assert signature == hmac.new(b"a secret", payload.encode(), hashlib.sha256).hexdigest()
        assert "a secret" not in str(headers)


@pytest.mark.parametrize(
    "url", ["https://api.example.com", "http://contract.example.com/ws", "http://testnet.example.org"]
)
def test_no_address_is_called_but_this_machines_whatever_it_is_named(url: str) -> None:
    assert "is not this machine" in refusal_of(url)
    assert refusal_of("http://127.0.0.1:8080") == ""
