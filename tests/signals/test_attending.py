"""Staying at the door: what comes while a drain attends is drained without a bell, and nothing is left unread."""

from __future__ import annotations

import threading
from typing import Any, Self

import pytest
from django.db import connection

from apps.bus import codec, failpoints, streams
from apps.bus.streams import Appender
from apps.signals.services import attending, drain
from tests.signals.shards import ShardWorld, market, narrowed, open_shards
from tests.signals.test_drain import BUSY_SEED, picture

pytestmark = pytest.mark.django_db(transaction=True)

QUIET_MS = 20_000  # longer than any machine takes between two entries: here the end is told, not waited for


class Street:
    """Entries that another thread appends, one after the other, and what each append says of the bell."""

    def __init__(self, world: ShardWorld, entries: list[Any]) -> None:
        self.rings = 0
        self.over = False
        self._world, self._entries = world, entries
        self._thread = threading.Thread(target=self._walk)

    def _walk(self) -> None:
        appender = Appender(self._world.tools.writer, self._world.epoch.pk, 1)
        for place, (entry_id, events) in enumerate(self._entries):
            self.over = place == len(self._entries) - 1  # the last one ends the visit
            for shard in range(self._world.shard_count):
                own = [part for event in events if (part := narrowed(event, shard, self._world.shard_count))]
                if own:
                    self.rings += appender.append(shard, entry_id, codec.encode(own))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def clock(self) -> float:
        return float(self.over)


def flags(world: ShardWorld) -> list[bool]:
    client = world.tools.reader
    return [bool(client.exists(streams.dirty_key(world.epoch.pk, shard))) for shard in range(world.shard_count)]


@pytest.mark.parametrize("shard_count", [1, 2])
def test_what_comes_meanwhile_is_drained_without_a_bell_on_every_warm_shard(
    tools: drain.Tools, shard_count: int
) -> None:
    world, calm = (open_shards(tools, shard_count=shard_count) for _ in range(2))
    entries = market(BUSY_SEED)
    calm.publish(entries)
    calm.drain_all()
    world.publish(entries[:40])
    world.drain_all()
    for shard in range(shard_count):  # set before the street begins, so that not even its first entry rings
        tools.writer.set(streams.dirty_key(world.epoch.pk, shard), 1)
    with Street(world, entries[40:]) as street:
        left = attending.attend(
            epoch=world.epoch.pk, tools=tools, orders_wait=lambda _: None, seconds=1, quiet_ms=QUIET_MS,
            clock=street.clock,
        )  # fmt: skip
    rung = street.rings
    assert left == []
    world.drain_all()
    assert [list(part) for part in picture(world)] == [list(part) for part in picture(calm)]
    assert rung <= shard_count  # the last entry may come after the last look
    assert not any(flags(world))


def test_every_warm_shard_wakes_it(tools: drain.Tools) -> None:
    world = open_shards(tools)
    world.publish(market(BUSY_SEED)[:40])
    world.drain_all()
    seen: dict[int, set[str]] = {0: set(), 1: set()}
    with Street(world, market(BUSY_SEED)[40:]) as street:

        def clock() -> float:
            for shard, position in drain.positions(world.epoch.pk).items():
                seen[shard].add(position)
            return street.clock()

        attending.attend(
            epoch=world.epoch.pk, tools=tools, orders_wait=lambda _: None, seconds=1, quiet_ms=QUIET_MS, clock=clock
        )
    assert all(len(positions) > 3 for positions in seen.values())


def test_after_a_quiet_while_it_leaves_and_the_bell_rings_again(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    world.publish(market(BUSY_SEED)[:40])
    world.drain_all()
    assert attending.attend(epoch=world.epoch.pk, tools=tools, orders_wait=lambda _: None, quiet_ms=1) == []
    appender = Appender(tools.writer, world.epoch.pk, 1)
    assert appender.append(0, "900-0", codec.encode([]))


def test_an_error_gives_the_bells_back(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    world.publish(market(BUSY_SEED)[:40])
    world.drain_all()
    world.publish(market(BUSY_SEED)[40:50])
    failpoints.arm("drain.after_read:1:raise")
    try:
        with pytest.raises(failpoints.FailpointReached):
            attending.attend(epoch=world.epoch.pk, tools=tools, orders_wait=lambda _: None)
    finally:
        failpoints.arm("")
    assert flags(world) == [False]


def test_a_shard_that_somebody_else_holds_is_left_to_him_with_its_flag(tools: drain.Tools) -> None:
    world = open_shards(tools)
    world.publish(market(BUSY_SEED)[:40])
    world.drain_all()
    world.publish(market(BUSY_SEED)[40:])
    times = iter(range(1_000))
    with connection.copy().cursor() as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM market_shardcursor WHERE epoch_id = %s AND shard = 0 FOR UPDATE", [world.epoch.pk])
        left = attending.attend(
            epoch=world.epoch.pk, tools=tools, orders_wait=lambda _: None, seconds=500, quiet_ms=QUIET_MS,
            clock=lambda: next(times),
        )  # fmt: skip
        other.execute("ROLLBACK")
        other.connection.close()
    assert left == []
    assert flags(world) == [True, False]  # whoever holds it looks at the flag after his commit
    assert next(times) < 5  # it left at once, although the other shard flows


def test_nothing_warm_is_nothing_to_attend(tools: drain.Tools) -> None:
    drain.forget()
    assert attending.attend(epoch=1, tools=tools, orders_wait=lambda _: None) == []
