"""A price that jumps over a stop: the sale meets the market as it is, found by the drain and filled by the venue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
import redis
from django.conf import settings

from apps.execution.models import Trade
from apps.portfolio.models import Position
from apps.signals.models import Signal
from apps.signals.services import drain
from tests import factories
from tests.signals.conftest import tools  # noqa: F401  (a fixture)
from tests.worlds import TRIGGER_MS, World, open_world, quotes, trades, watermark

D = Decimal
T = TRIGGER_MS
MATURE = T + 150
GAP = T + 60_000
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def held(redis_client: redis.Redis, tools: drain.Tools) -> Iterator[tuple[World, drain.Tools]]:  # noqa: F811
    """4,000 bought at 0.5002, so that the stop is at 0.490196; read by the drain of its shard."""
    world = open_world()
    version = factories.StrategyVersionFactory.create(engine_hash=settings.ENGINE_HASH)
    factories.SessionStrategyFactory.create(session=world.session, version=version)
    world.version = version
    world.publish(redis_client, quotes((T - 400, 4_999, 10**6, 5_002, 10**6)), trades((T - 300, 5_000)))
    entry = world.publish(redis_client, trades((T, 5_000), ordinal=2), watermark(T + 1_000))
    world.send(world.approved(world.entry_signal(ts_event=T, entry_id=entry)))
    world.reach(T + 1_000)
    world.match(redis_client, tools.segments)
    yield world, replace(tools, entries_per_read=64)
    drain.forget()


def sell(world: World, client: redis.Redis, tools: drain.Tools, *, bid: int) -> Signal:  # noqa: F811
    """The price is at `bid` at once, and three trades say so; the exit that the drain finds is decided, sent and
    filled."""
    prints = [(GAP - 2, bid), (GAP - 1, bid), (GAP, bid)]
    world.publish(
        client, quotes((GAP - 3, bid, 10**6, bid + 2, 10**6)), trades(*prints, ordinal=3), watermark(GAP + 500)
    )
    drain.drain_shard(epoch=world.epoch.pk, shard=world.shard(), tools=tools)
    found = Signal.objects.get(kind=Signal.Kind.EXIT)
    world.send(world.approved(found))
    world.reach(GAP + 500)
    world.match(client, tools.segments)
    return found


@pytest.mark.parametrize(
    ("what", "bid", "sold"),
    [
        ("just below the stop", 4_901, D("0.4900")),
        ("five per cent below it", 4_600, D("0.4599")),
        ("half of it", 2_500, D("0.2499")),
    ],
)
def test_a_gap_through_the_stop_fills_at_the_market_and_not_at_the_stop(
    held: tuple[World, drain.Tools], redis_client: redis.Redis, what: str, bid: int, sold: Decimal
) -> None:
    """One basis point below the bid in force when the order matures, down to the tick; no price between is made up."""
    world, used = held
    found = sell(world, redis_client, used, bid=bid)
    assert (found.exit_reason, found.price, found.bid) == ("stop_loss", D(bid).scaleb(-4), D(bid).scaleb(-4)), what
    position, trade = Position.objects.get(), Trade.objects.get(side="SELL")
    assert trade.price == sold < position.stop_price
    assert (position.status, position.realized) == ("closed", (sold - D("0.5002")) * 4_000)
