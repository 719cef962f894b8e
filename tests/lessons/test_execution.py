"""That a fill has the market's price, that a part is a part, and that nobody sleeps on the road."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from apps.engine.orders import Status
from apps.execution.models import Order, Trade
from apps.execution.services import submit_order, sync_order
from apps.execution.venues.base import VenueStatus
from apps.portfolio.models import Position
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
    """Simulated latency is event time. Pauses are those between two tries of a transaction, and before a call of REST
    whose turn in the shared budget has not come; neither lies on a signal's way to its order."""
    road = ("bus", "outbox", "market", "portfolio", "signals", "risk", "execution", "engine")
    sleepers = {
        source.name
        for source in python_files(*(f"apps/{app}" for app in road))
        if any(name.endswith("sleep") for name, _ in source.dotted)
    }
    assert sleepers == {"apps/outbox/transactions.py", "apps/market/rest.py"}
