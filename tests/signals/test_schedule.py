"""Changes of a version while shards are drained: no minute is judged by two versions, whoever is faster."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections, transaction

from apps.engine.events import Watermark
from apps.engine.plans import Stage
from apps.engine.shard import Effects, ShardEngine, StrategySpec
from apps.market.models import ShardCursor
from apps.outbox.transactions import retry_tx
from apps.signals.models import EvaluatedMinute, ParameterSchedule, SessionStrategy, Signal, StrategyVersion
from apps.signals.services import drain
from apps.signals.services.schedules import (
    ScheduleRefused,
    change_version,
    untouched_minute,
    version_in_force,
    versions_of,
)
from tests import factories
from tests.engine.market_stream import PARAMETERS, SCALE, START_MS, Entry
from tests.signals.shards import EXITS, SYMBOLS, ShardWorld, market, open_shards

pytestmark = pytest.mark.django_db(transaction=True)

BUSY_SEED = 4
MINUTE = START_MS // 60_000
WAIT_SECONDS = 60


def eager(number: int = 1) -> StrategyVersion:
    """A version that fires more often than the one that worlds begin with."""
    parameters = {**PARAMETERS, **EXITS, "threshold_pct": 1.0 / number, "rsi_min": 30, "cooldown_minutes": 1}
    return factories.StrategyVersionFactory.create(parameters=parameters, engine_hash=settings.ENGINE_HASH)


def binding_of(world: ShardWorld) -> SessionStrategy:
    return SessionStrategy.objects.select_related("session", "version__strategy").get(session=world.session)


def change(world: ShardWorld, version: StrategyVersion) -> ParameterSchedule:
    binding = binding_of(world)
    return retry_tx(lambda: change_version(binding=binding, version=version, set_by="tester", reason="a test"))


def stored(world: ShardWorld) -> list[tuple[Any, ...]]:
    rows = Signal.objects.filter(session=world.session).order_by("ts_event", "instrument__symbol")
    return list(rows.values_list("instrument__symbol", "ts_event", "trade_id", "change", "strategy_version_id"))


def derived(world: ShardWorld, entries: list[Entry]) -> list[tuple[Any, ...]]:
    """What the schedule as it ended says, by an engine that knew it from the start."""
    binding = binding_of(world)
    stages = [
        Stage(row.from_minute, row.version_id, row.version.parameters)
        for row in ParameterSchedule.objects.filter(session=world.session).order_by("id").select_related("version")
    ]
    spec = StrategySpec(binding.version_id, "momentum", binding.version.parameters, tuple(stages))
    engine, effects = ShardEngine(dict.fromkeys(SYMBOLS, SCALE), [spec]), Effects()
    for entry_id, events in entries:
        effects.extend(engine.apply(entry_id, events))
    rows = [(row.symbol, row.ts_event, row.trade_id, row.change, row.version_id) for row in effects.signals]
    return sorted(rows, key=lambda row: (row[1], row[0]))


# --- one after the other ----------------------------------------------------------------------------------------------


def test_a_change_is_from_the_minute_after_the_newest_that_any_shard_has_evaluated(tools: drain.Tools) -> None:
    world = open_shards(tools)
    entries = market(BUSY_SEED)
    world.publish(entries[:200])
    drain.drain_shard(epoch=world.epoch.pk, shard=0, tools=tools)
    ahead = EvaluatedMinute.objects.get(cursor__shard=0).minute
    assert ahead == max(event.ts_event for event in entries[199][1] if isinstance(event, Watermark)) // 60_000
    assert not EvaluatedMinute.objects.filter(cursor__shard=1).exists()
    row = change(world, eager())
    assert row.from_minute == ahead + 1
    assert version_in_force(binding_of(world)) == row.version
    assert versions_of(binding_of(world)) == [binding_of(world).version_id, row.version_id]


def test_before_anything_was_read_a_change_is_in_force_from_the_first_trade_on(tools: drain.Tools) -> None:
    world = open_shards(tools)
    row = change(world, eager())
    world.publish(market(BUSY_SEED))
    world.drain_all()
    assert {version for *_, version in stored(world)} == {row.version_id}
    assert stored(world) == derived(world, market(BUSY_SEED))


@pytest.mark.parametrize("seed", range(3))
def test_every_cut_and_every_death_gives_what_the_schedule_says(tools: drain.Tools, seed: int) -> None:
    """Shards are drained unevenly, processes vanish, and twice somebody changes the version in between."""
    dice = random.Random(seed)
    world = open_shards(tools)
    entries, waiting = market(BUSY_SEED), market(BUSY_SEED)
    changes = [(0.4, eager(2)), (0.8, eager(1))]  # with how much of the market still to come
    while waiting:
        count = dice.randrange(1, 10)
        world.publish(waiting[:count])
        waiting = waiting[count:]
        if changes and len(waiting) < len(entries) * changes[-1][0]:
            change(world, changes.pop()[1])
        for shard in dice.sample(range(world.shard_count), dice.randrange(world.shard_count + 1)):
            if dice.random() < 0.3:
                drain.forget()
            if dice.random() < 0.3:
                with transaction.atomic():
                    drain.drain_once(epoch=world.epoch.pk, shard=shard, tools=tools)
                    transaction.set_rollback(True)
            drain.drain_once(epoch=world.epoch.pk, shard=shard, tools=tools)
    world.drain_all()
    assert stored(world) == derived(world, entries)
    assert len({version for *_, version in stored(world)}) > 1


# --- at the same time -------------------------------------------------------------------------------------------------


@contextmanager
def helper() -> Iterator[Callable[[Callable[[], Any]], Future[Any]]]:
    """Runs functions in a thread with database connections of its own."""
    with ThreadPoolExecutor(1) as pool:

        def closing(function: Callable[[], Any]) -> Any:
            try:
                return function()
            finally:
                connections.close_all()

        yield lambda function: pool.submit(closing, function)


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition of other connections; the database is asked at a rate that leaves them room."""
    pause = threading.Event()
    for _ in range(WAIT_SECONDS * 20):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("it never came")


@pytest.mark.parametrize("dies", [False, True])
def test_a_change_waits_for_a_drain_in_its_transaction_and_begins_after_what_that_evaluated(
    tools: drain.Tools, dies: bool
) -> None:
    world = open_shards(tools, shard_count=1)
    entries = market(BUSY_SEED)
    version = eager()
    world.publish(entries[:30])
    world.drain_all()
    before = EvaluatedMinute.objects.get().minute
    world.publish(entries[30:200])
    with helper() as start:
        with transaction.atomic():
            while drain.drain_once(epoch=world.epoch.pk, shard=0, tools=tools).more:
                pass
            inside = EvaluatedMinute.objects.get().minute
            changed = start(lambda: change(world, version))
            until(waits_for_a_lock)
            assert not changed.done()
            transaction.set_rollback(dies)
        row = changed.result(timeout=WAIT_SECONDS)
    assert inside > before + 1
    assert row.from_minute == (before if dies else inside) + 1
    world.publish(entries[200:])
    world.drain_all()
    assert stored(world) == derived(world, entries)


def test_a_drain_that_meets_a_change_leaves_and_knows_it_when_it_comes_back(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    entries = market(BUSY_SEED)
    binding, version = binding_of(world), eager()
    world.publish(entries[:100])
    world.drain_all()
    world.publish(entries[100:])
    with helper() as start, transaction.atomic():
        row = change_version(binding=binding, version=version, set_by="tester", reason="a test")
        met = start(lambda: drain.drain_once(epoch=world.epoch.pk, shard=0, tools=tools)).result(timeout=WAIT_SECONDS)
        assert met == drain.Drained(locked=True)
    world.drain_all()
    after = [version_id for _, ts, *_, version_id in stored(world) if ts // 60_000 >= row.from_minute]
    assert set(after) == {version.pk}
    assert stored(world) == derived(world, entries)


def test_whoever_is_faster_every_trade_is_judged_as_the_schedule_says(tools: drain.Tools) -> None:
    """A thread drains as fast as it can while the version is changed again and again."""
    world = open_shards(tools)
    entries = market(BUSY_SEED)
    versions = [eager(1), eager(2), eager(3)] * 3
    world.publish(entries)
    over = threading.Event()

    def drain_on() -> None:
        pause = threading.Event()
        while not all(drain_empty(world, shard) for shard in range(world.shard_count)):
            pause.wait(0.001)
        over.set()

    with helper() as start:
        draining = start(drain_on)
        for version in versions:
            change(world, version)
            if over.is_set():
                break
        draining.result(timeout=WAIT_SECONDS)
    assert stored(world) == derived(world, entries)
    minutes = list(ParameterSchedule.objects.order_by("id").values_list("from_minute", flat=True))
    assert minutes == sorted(minutes)


def drain_empty(world: ShardWorld, shard: int) -> bool:
    """One small step; whether the shard has nothing left."""
    found = drain.drain_once(epoch=world.epoch.pk, shard=shard, tools=world.tools)
    return not found.locked and not found.more and not found.entries


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_version_of_another_strategy_or_other_sources_is_refused(tools: drain.Tools) -> None:
    world = open_shards(tools)
    other = factories.StrategyVersionFactory.create(strategy=factories.StrategyFactory.create(name="other"))
    with pytest.raises(ScheduleRefused, match="no version of momentum"):
        change(world, other)
    with pytest.raises(ScheduleRefused, match="other engine sources"):
        change(world, factories.StrategyVersionFactory.create(engine_hash="f" * 64))


def test_a_feed_that_an_older_program_has_read_is_refused(tools: drain.Tools) -> None:
    world = open_shards(tools)
    ShardCursor.objects.filter(epoch=world.epoch, shard=1).update(seen_through="7-0")
    with pytest.raises(ScheduleRefused, match="does not say which minute"), transaction.atomic():
        untouched_minute(list(ShardCursor.objects.filter(epoch=world.epoch)))


def test_two_sessions_that_share_an_evaluation_cannot_have_two_schedules(tools: drain.Tools) -> None:
    world = open_shards(tools)
    other = factories.TradingSessionFactory.create(epoch=world.epoch, name="the other one")
    factories.SessionStrategyFactory.create(session=other, version=binding_of(world).version)
    with pytest.raises(ScheduleRefused, match="the other one runs"):
        change(world, eager())
