"""Longer bars as stored: what befalls a minute befalls them in the same transaction; `verify` says if not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apps.engine.bars_longer import LENGTHS, start_of
from apps.engine.events import WarmupBar
from apps.market.models import LongerBar
from apps.ops.verify.derived import derive
from apps.ops.verify.result import Check
from apps.ops.verify.stream_checks import check_derivation
from apps.signals.services import drain
from tests.engine.damage import lost, passed, repair
from tests.engine.market_stream import block_of
from tests.engine.test_shard import MINUTE, started, trade
from tests.signals.shards import ShardWorld, open_shards
from tests.signals.test_ledger import put

pytestmark = pytest.mark.django_db(transaction=True)

MINUTES_SEEN = 2 * 60 + 5
FIRST = (60 - MINUTE % 60) % 60  # of the first whole hour, in minutes after the market's beginning


@pytest.fixture
def world(tools: drain.Tools) -> ShardWorld:
    """5 steps at 100 ticks in the first minute and in the first of a whole hour, no trade after; two hours on."""
    made = open_shards(tools, shard_count=1)
    put(made, started(), block_of([trade(0, 1), trade(FIRST, 2)], 1), passed(MINUTES_SEEN, 2))
    return made


def around(minute: int) -> list[LongerBar]:
    """The bars of each length that hold the n-th minute of the market."""
    return [
        LongerBar.objects.get(
            instrument__symbol="AAAUSDT", length=length, minute=start_of(MINUTE + minute, length)
        )
        for length in LENGTHS
    ]  # fmt: skip


def values(rows: list[LongerBar], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(row, name) for name in names) for row in rows]


def verified(world: ShardWorld) -> Check:
    bindings = list(world.session.strategies.select_related("version__strategy"))
    shards = derive(epoch_id=world.epoch.pk, segments=world.tools.segments, bindings=bindings)
    return check_derivation(shards, world.session)


def test_a_late_trade_revises_longer_bars_too(world: ShardWorld) -> None:
    before = values(around(FIRST), "volume", "count", "revision", "close")
    put(world, block_of([trade(FIRST + 1, 3, price=900)], 3))
    assert values(around(FIRST), "volume", "count", "revision", "close") == [
        (volume + Decimal("0.05"), count + 1, revision + 1, close) for volume, count, revision, close in before
    ]
    assert values(around(FIRST), "high") == [(Decimal("0.09"),)] * 3
    assert verified(world).ok


def test_a_loss_and_its_repair_are_counted_in_every_longer_bar_of_the_minute(world: ShardWorld) -> None:
    assert values(around(FIRST), "proven", "backfilled", "unproven") == [(n, 0, 0) for n in LENGTHS]
    put(world, lost(FIRST, FIRST + 1))
    assert values(around(FIRST), "proven", "backfilled", "unproven") == [(n - 2, 0, 2) for n in LENGTHS]
    put(world, repair(FIRST, (100, 5), (200, 5)))
    assert values(around(FIRST), "proven", "backfilled", "unproven") == [(n - 2, 1, 1) for n in LENGTHS]
    assert values(around(FIRST), "high", "close", "volume") == [
        (Decimal("0.02"), Decimal("0.02"), Decimal("0.1"))
    ] * 3  # fmt: skip
    assert verified(world).ok


def test_history_from_klines_is_backfilled_in_longer_bars(tools: drain.Tools) -> None:
    made = open_shards(tools, shard_count=1)
    start = start_of(MINUTE, 60) - 60
    put(made, *[WarmupBar("AAAUSDT", start + n, 100, 120, 90, 110, 7, 700, 0) for n in range(60)])
    rows = LongerBar.objects.filter(minute=start).order_by("length")
    assert values(list(rows), "length", "backfilled", "proven", "volume") == [
        (length, length, 0, Decimal("0.07") * length) for length in LENGTHS
    ]
    assert verified(made).ok


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        ("a price", {"high": Decimal(7)}),
        ("its coverage", {"unproven": 1}),
        ("its beginning", {"minute": 3}),
    ],
)
def test_verify_finds_a_longer_bar_that_is_not_what_its_minutes_are(
    world: ShardWorld, what: str, damage: dict[str, Any]
) -> None:
    assert verified(world).ok
    LongerBar.objects.filter(pk=around(FIRST)[1].pk).update(**damage)
    found = verified(world)
    assert any("bar of 15 minutes" in fault for fault in found.faults), (what, found.faults)
