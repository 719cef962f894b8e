"""The drain on real servers: every entry has its effect once, whatever breaks in between."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.db import connection, transaction

from apps.bus import streams
from apps.engine.bars import EngineError
from apps.market.models import Bar, Coverage, DeadEntry, ShardCursor
from apps.market.segments import read_segments
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Account
from apps.signals.models import EngineState, Signal
from apps.signals.services import drain, state
from tests import factories
from tests.engine.market_stream import block_of, make_prints
from tests.engine.test_shard import bars_straight_from, trade
from tests.signals.shards import SYMBOLS, ShardWorld, market, open_shards

pytestmark = pytest.mark.django_db(transaction=True)

BUSY_SEED = 4  # raises signals in both symbols


def stored_bars(world: ShardWorld, symbol: str) -> list[tuple[Any, ...]]:
    rows = Bar.objects.filter(epoch=world.epoch, instrument__symbol=symbol).order_by("minute")
    return [
        (
            row.minute, int(row.open * 10**4), int(row.high * 10**4), int(row.low * 10**4), int(row.close * 10**4),
            int(row.volume * 100), int(row.turnover * 10**6), row.count,
            row.first_trade_id, row.last_trade_id, row.hash_sum % 2**64,
        )
        for row in rows
    ]  # fmt: skip


def picture(world: ShardWorld) -> list[Any]:
    """Everything that must be equal however the stream was drained."""
    signals = Signal.objects.filter(session=world.session).order_by("ts_event", "trigger_key")
    return [
        *(stored_bars(world, symbol) for symbol in SYMBOLS),
        list(Coverage.objects.values_list("instrument__symbol", "minute", "status", "reason").order_by("id")),
        [
            (row.instrument.symbol, row.ts_event, row.trade_id, row.price, row.change, row.rsi, row.median_price)
            for row in signals.select_related("instrument")
        ],
        ShardCursor.objects.filter(epoch=world.epoch).values_list("processed", flat=True).order_by("shard"),
    ]


def test_a_drained_market_gives_the_bars_of_its_trades_and_signals_with_their_wake_ups(tools: drain.Tools) -> None:
    world = open_shards(tools)
    world.publish(market(BUSY_SEED))
    assert world.drain_all() == Signal.objects.count() > 0
    prints = make_prints(BUSY_SEED, symbols=SYMBOLS, minutes=90)
    for symbol in SYMBOLS:
        expected = bars_straight_from(prints, symbol)
        assert stored_bars(world, symbol)[: len(expected)] == expected
    woken = OutboxEvent.objects.filter(event_type="SignalRaised").values_list("payload", flat=True)
    assert {row["signal_id"] for row in woken} == set(Signal.objects.values_list("pk", flat=True))
    assert sum(ShardCursor.objects.values_list("processed", flat=True)) == len(prints)


@pytest.mark.parametrize("seed", range(6))
def test_processes_that_die_at_any_commit_change_nothing(tools: drain.Tools, seed: int) -> None:
    """Between two commits any process may vanish: its memory is gone, or its transaction rolls back."""
    dice = random.Random(seed)
    world = open_shards(tools)
    entries = market(BUSY_SEED)
    while entries:
        count = dice.randrange(1, 60)
        world.publish(entries[:count])
        entries = entries[count:]
        for shard in dice.sample(range(world.shard_count), world.shard_count):
            if dice.random() < 0.5:
                drain.forget()
            if dice.random() < 0.5:
                _die_before_commit(world, shard)
            drain.drain_once(epoch=world.epoch.pk, shard=shard, tools=tools)
    world.drain_all()
    died = picture(world)
    calm = open_shards(tools)
    calm.publish(market(BUSY_SEED))
    calm.drain_all()
    assert [list(part) for part in died[:2]] == [list(part) for part in picture(calm)[:2]]
    assert list(died[3]) == list(picture(calm)[3])
    assert [row[:3] for row in died[3]]
    assert list(died[4]) == list(picture(calm)[4])


def _die_before_commit(world: ShardWorld, shard: int) -> None:
    with transaction.atomic():
        drain.drain_once(epoch=world.epoch.pk, shard=shard, tools=world.tools)
        transaction.set_rollback(True)


def test_replay_from_never_goes_back_and_moves_only_with_the_state(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    last = (0, 0)
    for start in range(0, 200, 10):
        world.publish(market(BUSY_SEED)[start : start + 10])
        world.drain_all()
        cursor = world.cursor(0)
        assert streams.entry_order(cursor.replay_from) >= last
        last = streams.entry_order(cursor.replay_from)
        assert last <= streams.entry_order(cursor.seen_through)
        positions = set(EngineState.objects.filter(cursor=cursor).values_list("position", flat=True))
        assert positions <= {cursor.replay_from}
    assert last > (0, 0)


def test_whoever_does_not_get_the_lock_leaves_at_once(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    with connection.copy().cursor() as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM market_shardcursor WHERE epoch_id = %s FOR UPDATE", [world.epoch.pk])
        assert drain.drain_once(epoch=world.epoch.pk, shard=0, tools=tools) == drain.Drained(locked=True)
        other.execute("ROLLBACK")
        other.connection.close()
    assert not drain.drain_once(epoch=world.epoch.pk, shard=0, tools=tools).locked


def test_an_entry_that_cannot_be_read_is_set_aside_and_the_rest_goes_on(
    tools: drain.Tools, redis_client: redis.Redis
) -> None:
    world = open_shards(tools, shard_count=1)
    entries = market(BUSY_SEED)
    world.publish(entries[:5])
    redis_client.xadd(streams.stream_key(world.epoch.pk, 0), {"b": b"\xc1 no msgpack"}, id="5-1")
    redis_client.xadd(streams.stream_key(world.epoch.pk, 0), {"other": b"field"}, id="5-2")
    world.publish(entries[5:])
    world.drain_all()
    assert set(DeadEntry.objects.values_list("entry_id", flat=True)) == {"5-1", "5-2"}
    expected = bars_straight_from(make_prints(BUSY_SEED, symbols=SYMBOLS, minutes=90), "AAAUSDT")
    assert stored_bars(world, "AAAUSDT")[: len(expected)] == expected


def test_a_stream_lost_with_redis_can_be_read_again_from_the_segments(
    tools: drain.Tools, redis_client: redis.Redis
) -> None:
    world = open_shards(tools, shard_count=1)
    world.publish(market(BUSY_SEED))
    written = streams.read(tools.reader, world.epoch.pk, 0, after="0-0", count=10_000)
    world.drain_all()
    drain.forget()
    redis_client.flushdb()
    assert list(read_segments(tools.segments, world.epoch.pk, 0)) == written


@pytest.mark.parametrize("kept", [0, 5, 40, 41])
@pytest.mark.parametrize("counted", [True, False], ids=["committed", "rolled back after the segment"])
def test_what_was_read_before_redis_lost_it_is_read_again_from_the_segments(
    tools: drain.Tools, redis_client: redis.Redis, kept: int, counted: bool
) -> None:
    """Emptied, or rolled back to the first `kept` entries; memory is gone too, so the checkpoint is where it begins."""
    world, calm = (open_shards(replace(tools, entries_per_read=2), shard_count=1) for _ in range(2))
    entries = market(BUSY_SEED, frame_ms=(5_000, 15_000))[:200]  # some of them in every minute
    calm.publish(entries)
    calm.drain_all()
    world.publish(entries[:40])
    world.drain_all()
    world.publish(entries[40:87])
    if counted:
        world.drain_all()
        cursor = world.cursor(0)
        assert cursor.replay_from != cursor.seen_through
    else:
        _die_before_commit(world, 0)
    drain.forget()
    stream = streams.stream_key(world.epoch.pk, 0)
    ids = [entry_id for entry_id, _ in streams.read(redis_client, world.epoch.pk, 0, after="0-0", count=1_000)]
    on_disk = {entry_id for entry_id, _ in read_segments(tools.segments, world.epoch.pk, 0)}
    redis_client.xdel(stream, *(entry_id for entry_id in ids[kept:] if entry_id in on_disk))
    world.publish(entries[87:])
    world.drain_all()
    assert [list(part) for part in picture(world)] == [list(part) for part in picture(calm)]
    read, undisturbed = (list(read_segments(tools.segments, one.epoch.pk, 0)) for one in (world, calm))
    assert read == undisturbed


def test_trades_lost_with_an_emptied_redis_become_unproven_minutes(
    tools: drain.Tools, redis_client: redis.Redis
) -> None:
    world = open_shards(tools, shard_count=1)
    entries = market(BUSY_SEED)
    world.publish(entries[:60])
    world.drain_all()
    world.publish(entries[60:90])
    redis_client.flushdb()
    world.publish(entries[90:])
    world.drain_all()
    reasons = set(Coverage.objects.values_list("status", "reason"))
    assert reasons == {("unproven", "trades lost on the stream")}


def test_a_late_trade_revises_the_stored_bar(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    world.publish(market(BUSY_SEED))
    world.drain_all()
    bar = Bar.objects.filter(epoch=world.epoch, instrument__symbol="AAAUSDT", count__gt=0).earliest("minute")
    late = trade(bar.minute - trade(0, 0).ts_event // 60_000, 1, price=99_999)
    ordinal = sum(1 for row in make_prints(BUSY_SEED, symbols=SYMBOLS, minutes=90) if row.symbol == "AAAUSDT") + 1
    world.publish([("999999-0", [block_of([late], ordinal)])])
    world.drain_all()
    revised = Bar.objects.get(pk=bar.pk)
    assert (revised.count, revised.revision, int(revised.high * 10**4)) == (bar.count + 1, 1, 99_999)
    assert revised.close == bar.close


def test_an_open_position_gets_one_exit_signal_whenever_its_fill_becomes_known(
    tools: drain.Tools, redis_client: redis.Redis
) -> None:
    """The last case: Redis was rolled back meanwhile and has the trigger, but not the entries read last."""
    exits = set()
    for known_after, lost in ((20, 0), (60, 0), (120, 0), (120, 110)):
        Signal.objects.all().delete()
        world = open_shards(tools, shard_count=1)
        entries = market(BUSY_SEED)
        world.publish(entries[:known_after])
        world.drain_all()
        prints = [row for row in make_prints(BUSY_SEED, symbols=SYMBOLS, minutes=90) if row.symbol == "AAAUSDT"]
        opened = prints[3]
        price = Decimal(opened.price).scaleb(-4)
        position = factories.PositionFactory.create(
            account=world.account, instrument=world_instrument(world), entry_price=price, opened_ts=opened.ts_event,
            stop_price=price * Decimal("0.98"), target_price=price * Decimal("1.04"),
            trigger_entry="1-0", strategy_version_id=world.session.strategies.get().version_id,
        )  # fmt: skip
        newest = streams.read(redis_client, world.epoch.pk, 0, after="0-0", count=1_000)[
            known_after - lost : known_after
        ]
        for entry_id, _ in newest:
            redis_client.xdel(streams.stream_key(world.epoch.pk, 0), entry_id)
        Account.objects.update(portfolio_epoch=known_after)
        world.publish(entries[known_after:])
        world.drain_all()
        (found,) = Signal.objects.filter(kind=Signal.Kind.EXIT, position=position)
        exits.add((found.exit_reason, found.ts_event, found.trade_id, found.price))
        assert found.trigger_key == f"x:{position.pk}:0"
    assert len(exits) == 1


def world_instrument(world: ShardWorld) -> Any:
    return world.epoch.members.get(instrument__symbol="AAAUSDT").instrument


def test_other_engine_sources_than_the_sessions_stop_the_drain(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    world.publish(market(BUSY_SEED)[:3])
    others = replace(tools, engine_hash="f" * 64)
    with pytest.raises(state.EngineMismatch, match="other engine sources"):
        drain.drain_once(epoch=world.epoch.pk, shard=0, tools=others)


def test_a_stored_state_that_cannot_be_read_is_an_error(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    world.publish(market(BUSY_SEED))
    world.drain_all()
    drain.forget()
    EngineState.objects.filter(strategy_version=None).update(blob=b"\xc1")
    with pytest.raises(EngineError, match="not readable"):
        drain.drain_once(epoch=world.epoch.pk, shard=0, tools=tools)
