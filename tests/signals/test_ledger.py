"""The coverage ledger on real servers: what is lost is a gap, what is repaired is replaced, a refusal says why."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from apps.bus import codec, streams
from apps.engine.events import Backfill, CoverageStart, Event, Loss, Watermark
from apps.market.models import Bar, Coverage, DeadEntry, Gap, ShardCursor
from apps.market.selectors import closed_minute, reached_ms
from apps.ops.verify.derived import derive
from apps.ops.verify.stream_checks import check_cursors, check_derivation, check_trades
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Account, Position
from apps.signals.models import EngineState, Signal, SignalRefusal
from apps.signals.services import drain
from tests import factories
from tests.engine.damage import DamagedFeed, lost, passed, repair
from tests.engine.market_stream import START_MS, Entry, Print, block_of, make_prints, to_entries
from tests.engine.test_shard import MINUTE, started, trade
from tests.signals.shards import SYMBOLS, ShardWorld, open_shards

pytestmark = pytest.mark.django_db(transaction=True)

SIGNALS = ("trigger_key", "price", "change", "rsi", "turnover")


@pytest.fixture
def world(tools: drain.Tools) -> ShardWorld:
    """One shard; minute 0 of AAAUSDT has a trade of 5 steps at 100 ticks, minutes 1 to 4 are empty, 5 is open."""
    made = open_shards(tools, shard_count=1)
    put(made, started(), block_of([trade(0, 1)], 1), passed(5))
    return made


def put(world: ShardWorld, *events: Event, token: int = 1) -> None:
    """One more entry, drained at once."""
    last = streams.entry_order(streams.last_id(world.tools.reader, world.epoch.pk, 0))
    world.publish([(f"{last[0] + 1}-0", list(events))], token=token)
    world.drain_all()


def coverage(**fields: Any) -> Coverage:
    return Coverage.objects.get(**fields)


def bar(minute: int) -> Bar:
    return Bar.objects.get(minute=MINUTE + minute, instrument__symbol="AAAUSDT")


# --- any damage, any order of drains ----------------------------------------------------------------------------------


def picture(world: ShardWorld) -> list[Any]:
    bars = Bar.objects.filter(epoch=world.epoch).order_by("instrument__symbol", "minute")
    ledger = Coverage.objects.filter(epoch=world.epoch).order_by("instrument__symbol", "minute")
    names = [field.name for field in Bar._meta.fields if field.name not in ("id", "epoch", "instrument")]
    signals = Signal.objects.filter(session=world.session).order_by("trigger_key")
    refused = SignalRefusal.objects.filter(session=world.session).order_by("trigger_key")
    return [
        list(bars.values_list("instrument__symbol", *names)),
        list(ledger.values_list("instrument__symbol", "minute", "status", "reason", "detail")),
        # trigger keys begin with the version's number, which differs between two worlds
        [(row.trigger_key.split(":")[2:], row.price, row.change, row.rsi) for row in signals],
        [(row.trigger_key.split(":")[2:], row.price, row.change, row.reason) for row in refused],
    ]


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_stream_is_stored_the_same_however_it_was_drained_and_can_be_derived_again(
    tools: drain.Tools, seed: int
) -> None:
    dice = random.Random(seed)
    entries = DamagedFeed(make_prints(seed, symbols=SYMBOLS, minutes=60), seed, seed % 2 == 0).entries_of_all()
    calm, hasty = open_shards(tools), open_shards(tools)
    _publish(calm, entries)
    calm.drain_all()
    while entries:
        count = dice.randrange(1, 30)
        _publish(hasty, entries[:count])
        entries = entries[count:]
        for shard in range(hasty.shard_count):
            if dice.random() < 0.3:
                drain.forget()
            drain.drain_once(epoch=hasty.epoch.pk, shard=shard, tools=tools)
    hasty.drain_all()
    assert picture(hasty) == picture(calm)
    assert Coverage.objects.filter(status="backfilled").exists()
    for world in (hasty, calm):
        bindings = list(world.session.strategies.select_related("version__strategy"))
        shards = derive(epoch_id=world.epoch.pk, segments=tools.segments, bindings=bindings)
        for check in (check_cursors(shards), check_trades(shards, None), check_derivation(shards, world.session)):
            assert check.ok, check.row()
    for gap in Gap.objects.all():
        unproven = gap.minutes.filter(status=Coverage.Status.UNPROVEN).exists()
        assert (gap.status == Gap.Status.OPEN) == unproven


def _publish(world: ShardWorld, entries: list[Entry]) -> None:
    """Each entry under the token of its events."""
    for entry_id, events in entries:
        world.publish([(entry_id, events)], token=max(getattr(event, "token", 1) for event in events))


# --- gaps and repairs -------------------------------------------------------------------------------------------------


def test_neighbouring_minutes_lost_for_one_reason_are_one_gap_to_be_repaired_at_once(world: ShardWorld) -> None:
    put(world, lost(1, 3))
    gap = Gap.objects.get()
    assert (gap.first_minute, gap.last_minute, gap.reason) == (MINUTE + 1, MINUTE + 3, "a test lost it")
    rows = list(Coverage.objects.order_by("minute"))
    assert [(row.minute - MINUTE, row.gap_id, row.attempts) for row in rows] == [(n, gap.pk, 0) for n in (1, 2, 3)]
    assert all(row.next_attempt_at is not None and row.next_attempt_at <= timezone.now() for row in rows)


def test_a_gap_that_goes_on_in_a_later_drain_grows_and_another_reason_is_another_gap(world: ShardWorld) -> None:
    put(world, lost(1, 2))
    put(world, lost(3))
    put(world, Loss(1, (MINUTE + 4) * 60_000, (MINUTE + 4) * 60_000, 0, ["AAAUSDT"], "the ring overflowed"))
    gaps = Gap.objects.order_by("first_minute").values_list("first_minute", "last_minute", "reason")
    assert list(gaps) == [
        (MINUTE + 1, MINUTE + 3, "a test lost it"),
        (MINUTE + 4, MINUTE + 4, "the ring overflowed"),
    ]


def test_a_gap_is_filled_when_its_last_minute_is(world: ShardWorld) -> None:
    put(world, lost(1, 2))
    put(world, repair(2, (120, 3), (110, 1)))
    gap = Gap.objects.get()
    assert (gap.status, gap.rows, gap.closed_at) == ("open", 2, None)
    put(world, repair(1))
    gap = Gap.objects.get()
    assert (gap.status, gap.rows) == ("filled", 2)
    assert gap.closed_at is not None
    row = coverage(minute=MINUTE + 2)
    assert (row.status, row.reason, row.detail) == ("backfilled", "a test lost it", "trades, 2 rows")
    assert row.next_attempt_at is None


def test_a_repaired_minute_has_a_bar_of_its_own_source_and_the_empty_ones_after_it_close_where_it_does(
    world: ShardWorld,
) -> None:
    put(world, lost(0), repair(0, (100, 5), (130, 2), (90, 1)))
    row = bar(0)
    assert (row.source, row.revision, row.count, row.hash_sum, row.first_trade_id) == ("backfill", 1, 3, 0, "")
    assert (row.open, row.high, row.low, row.close) == tuple(Decimal(n) / 10**4 for n in (100, 130, 90, 90))
    assert (row.volume, row.turnover) == (Decimal("0.08"), Decimal(850) / 10**6)
    assert [(bar(n).close, bar(n).source, bar(n).revision) for n in (1, 4)] == [(Decimal("0.009"), "trades", 1)] * 2


def test_a_lost_minute_without_a_bar_gets_one_from_its_repair(world: ShardWorld) -> None:
    Bar.objects.filter(minute=MINUTE + 1).delete()
    put(world, lost(1), repair(1, (120, 3)))
    assert (bar(1).source, bar(1).volume) == ("backfill", Decimal("0.03"))


def test_a_repair_that_tells_less_leaves_the_bar_and_says_so_with_both_volumes(world: ShardWorld) -> None:
    put(world, lost(0))
    put(world, repair(0, (100, 4)))
    row = coverage(minute=MINUTE)
    assert (row.status, row.detail) == ("unproven", "REST tells less than was received: 0.04 there, 0.05 here")
    assert (bar(0).source, bar(0).revision, bar(0).volume) == ("trades", 0, Decimal("0.05"))
    assert row.next_attempt_at is not None
    assert Gap.objects.get().status == "open"


def test_a_repaired_minute_that_is_lost_again_is_unproven_again_with_a_gap_of_its_own(world: ShardWorld) -> None:
    put(world, lost(1))
    Coverage.objects.update(attempts=3)
    put(world, repair(1))
    put(world, lost(1))
    row = coverage(minute=MINUTE + 1)
    assert (row.status, row.attempts, row.detail) == ("unproven", 0, "")
    assert row.next_attempt_at is not None
    assert row.gap is not None
    assert sorted(Gap.objects.values_list("status", flat=True)) == ["filled", "open"]
    assert row.gap.status == "open"


def test_a_minute_lost_and_repaired_again_within_one_batch_leaves_no_gap_open(world: ShardWorld) -> None:
    put(world, lost(1))
    put(world, repair(1))
    put(world, lost(1), repair(1, (100, 2)))
    assert list(Gap.objects.order_by("pk").values_list("status", "rows")) == [("filled", 0), ("filled", 1)]


@pytest.mark.parametrize("source", [Bar.Source.BACKFILL, Bar.Source.KLINES])
def test_a_trade_so_late_that_the_engine_has_forgotten_its_minute_is_not_added_to_the_exchanges_own_sums(
    world: ShardWorld, source: str
) -> None:
    Bar.objects.filter(minute=MINUTE).update(source=source)
    put(world, passed(800))
    put(world, block_of([trade(0, 2)], 2))
    assert (bar(0).volume, bar(0).count, bar(0).revision) == (Decimal("0.05"), 1, 0)


def test_many_minutes_cost_no_more_statements_than_one(
    tools: drain.Tools, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    world = open_shards(tools, shard_count=1)
    put(world, started(), block_of([trade(0, 1)], 1), passed(100))
    with django_assert_max_num_queries(30):
        put(world, lost(1, 90))
    with django_assert_max_num_queries(30):
        put(world, *[repair(minute, (100 + minute, 1)) for minute in range(1, 91)])
    assert Coverage.objects.filter(status="backfilled").count() == 90
    assert Gap.objects.get().status == "filled"


# --- the fence, after Redis was emptied -------------------------------------------------------------------------------


def test_an_emptied_redis_lets_no_replaced_ingest_in(world: ShardWorld, redis_client: redis.Redis) -> None:
    put(world, started(2, START_MS + 300_001), block_of([trade(5, 2)], 1, token=2), token=2)
    before = (list(Bar.objects.order_by("pk").values()), list(Coverage.objects.order_by("pk").values()))
    redis_client.flushall()
    old: list[Event] = [block_of([trade(5, 3, price=1)], 2), lost(3), repair(1, (1, 1)), passed(30)]
    appender = streams.Appender(world.tools.writer, world.epoch.pk, 1)
    appender.append(0, "500-0", codec.encode(old))
    drain.forget()
    world.drain_all()
    dead = DeadEntry.objects.get()
    assert (dead.entry_id, dead.reason[:47]) == ("500-0", "written by an ingest that 2 has replaced; written"[:47])
    put(world, watermark_of_two(), token=2)
    assert bar(5).close == Decimal("0.01")
    Bar.objects.filter(minute=MINUTE + 5).delete()
    assert (list(Bar.objects.order_by("pk").values()), list(Coverage.objects.order_by("pk").values())) == before


def watermark_of_two() -> Watermark:
    return Watermark(2, START_MS + 360_000, 0, {"AAAUSDT": 1})


def fallen(second: int) -> list[Print]:
    """As many trades as it takes to believe so deep a fall."""
    return [trade(5, number, price=1, second=second) for number in (3, 4, 5)]


def test_a_price_of_a_replaced_ingest_closes_no_position(world: ShardWorld, redis_client: redis.Redis) -> None:
    put(world, started(2, START_MS + 300_001), token=2)
    instrument = world.epoch.members.get(instrument__symbol="AAAUSDT").instrument
    position = factories.PositionFactory.create(
        account=world.account,
        instrument=instrument,
        entry_price=Decimal("0.01"),
        opened_ts=START_MS + 300_001,
        trigger_entry="1-0",
        strategy_version_id=world.session.strategies.get().version_id,
    )
    Account.objects.update(portfolio_epoch=1)
    redis_client.flushall()
    appender = streams.Appender(world.tools.writer, world.epoch.pk, 1)
    appender.append(0, "500-0", codec.encode([block_of(fallen(second=1), 2)]))
    world.drain_all()
    assert not Signal.objects.filter(position=position).exists()
    put(world, block_of(fallen(second=2), 1, token=2), token=2)
    assert Signal.objects.filter(position=position).count() == 1
    assert Position.objects.get(pk=position.pk).status == "open"


# --- symbols that come and go -----------------------------------------------------------------------------------------


def test_a_symbol_that_comes_while_running_is_followed_by_the_warm_engine(world: ShardWorld) -> None:
    instrument = factories.InstrumentFactory.create(symbol="CCCUSDT", base_asset="CCC")
    factories.EpochInstrumentFactory.create(epoch=world.epoch, instrument=instrument)
    minute_ms = START_MS + 5 * 60_000
    row = Print(minute_ms, "CCCUSDT", 700, 3, 1, "c1")
    put(world, CoverageStart(1, minute_ms, 0, ["CCCUSDT"], "subscribed"), block_of([row], 1))
    put(world, Watermark(1, minute_ms + 60_000, 0, {"AAAUSDT": 1, "CCCUSDT": 1}))
    assert not DeadEntry.objects.exists()
    assert Bar.objects.get(instrument=instrument).volume == Decimal("0.03")
    assert EngineState.objects.filter(instrument=instrument).exists()


def test_a_symbol_that_nobody_follows_is_set_aside_and_holds_nobody_up(world: ShardWorld) -> None:
    row = Print(START_MS + 300_000, "ZZZUSDT", 700, 3, 1, "z1")
    put(world, block_of([row], 1), block_of([trade(5, 2)], 2))
    assert DeadEntry.objects.get().reason == "ZZZUSDT is not followed by this shard"
    assert world.cursor(0).processed == 2


def test_what_every_shard_has_reached_leaves_out_shards_that_nothing_covers(tools: drain.Tools) -> None:
    world = open_shards(tools)
    assert reached_ms(epoch_id=world.epoch.pk) is None
    own = streams.shard_of("AAAUSDT", 2)
    ShardCursor.objects.filter(shard=own).update(watermark_ms=START_MS, closed_minute=MINUTE - 1)
    assert (reached_ms(epoch_id=world.epoch.pk), closed_minute(epoch_id=world.epoch.pk)) == (START_MS, MINUTE - 1)
    ShardCursor.objects.exclude(shard=own).update(watermark_ms=START_MS - 5, closed_minute=MINUTE - 2)
    assert (reached_ms(epoch_id=world.epoch.pk), closed_minute(epoch_id=world.epoch.pk)) == (START_MS - 5, MINUTE - 2)


# --- signals over holes -----------------------------------------------------------------------------------------------


def test_a_signal_over_an_unproven_minute_is_not_raised_and_its_refusal_is_a_row(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    rows = [trade(n, n, price=10_000 + 200 * n) for n in range(18)]
    entries = to_entries(rows, 1, frame_ms=(60_000,))
    entries[6][1].append(lost(2))
    world.publish(entries)
    assert world.drain_all() == 0
    assert not Signal.objects.exists()
    assert not OutboxEvent.objects.exists()
    refusal = SignalRefusal.objects.get()
    assert (refusal.unproven_minutes, refusal.reason) == (1, "a test lost it")
    assert (refusal.instrument.symbol, refusal.trade_id, refusal.session) == ("AAAUSDT", "16", world.session)
    assert refusal.change is not None
    assert refusal.change > 0.02
    drain.forget()
    ShardCursor.objects.update(replay_from="0-0", replay_entries=0, seen_through="0-0")
    EngineState.objects.all().delete()
    Bar.objects.all().delete()
    world.drain_all()
    assert SignalRefusal.objects.count() == 1


def test_the_same_signal_is_raised_once_its_window_was_repaired(tools: drain.Tools) -> None:
    world = open_shards(tools, shard_count=1)
    entries = to_entries([trade(n, n, price=10_000 + 200 * n) for n in range(18)], 1, frame_ms=(60_000,))
    entries[6][1].append(lost(2))
    told: Backfill = repair(2, (10_400, 5))
    entries[9][1].append(told)
    world.publish(entries)
    assert world.drain_all() == 1
    assert not SignalRefusal.objects.exists()
