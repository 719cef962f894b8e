"""The start of trading: held until everything is proven, then as before; and what each failure leaves behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from apps.alerts.models import Alert
from apps.bus import clients, streams
from apps.bus.streams import Appender
from apps.execution.models import DatabaseIncarnation, ReconcileRun, TradingStart
from apps.execution.selectors import incarnation
from apps.market.models import FeedEpoch, IngestLease, ShardCursor
from apps.market.segments import SegmentWriter
from apps.ops.services.rebuilding import rebuild_redis
from apps.ops.services.starting import LOCK, StartFailed, Tools, begin_incarnation, start_trading
from apps.portfolio.models import Account
from apps.risk.models import BreakerTrip, RiskStateChange, TradingState, TripCause
from apps.risk.services import set_trading_state, trips
from tests import factories
from tests.worlds import World, open_world

D = Decimal
STEPS = ["versions", "leases", "halted", "redis", "drain", "reconcile", "invariants", "resume"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def tools(redis_client: redis.Redis, tmp_path: Path) -> Tools:
    ticks, looks = itertools.count(), itertools.count()
    return Tools(
        reader=clients.reader(settings.REDIS_URL),
        writer=clients.writer(settings.REDIS_URL),
        segments=tmp_path,
        engine_hash=settings.ENGINE_HASH,
        clock=lambda: 1_800_000_000_000 + 6_000 * next(looks),
        elapsed=lambda: float(next(ticks)),
        wait=lambda _seconds: None,
    )


@pytest.fixture
def world() -> World:
    return open_world()


def names(start: TradingStart) -> list[str]:
    return [step["name"] for step in start.steps]


def changes(world: World) -> list[tuple[str, str]]:
    rows = RiskStateChange.objects.filter(account=world.account).order_by("id")
    return [(row.to_state, row.set_by) for row in rows]


def test_a_start_goes_through_its_steps_held_and_paper_resumes_by_itself(tools: Tools, world: World) -> None:
    start = start_trading(tools=tools)
    assert (start.ok, names(start), start.reason) == (True, STEPS, "")
    assert changes(world) == [("HALTED", "start"), ("ACTIVE", "system")]
    assert world.state.trading_state == "ACTIVE"
    assert [step["seconds"] for step in start.steps] == [1.0] * len(STEPS)
    assert ReconcileRun.objects.get().scope == "all"
    assert not BreakerTrip.objects.exists()


def test_what_is_compared_is_said_in_every_step(tools: Tools, world: World) -> None:
    details = {step["name"]: step["detail"] for step in start_trading(tools=tools).steps}
    assert details["halted"] == "was ACTIVE"
    assert details["reconcile"] == "compared 0 orders, 0 trades, 1 balances; 0 differences open, 0 corrected"
    assert details["invariants"].startswith("I6 compared ")
    assert "migrations" in details["versions"]


@pytest.mark.parametrize("asked", [TradingState.REDUCING, TradingState.HALTED])
def test_what_a_person_asked_for_survives_the_start(tools: Tools, world: World, asked: TradingState) -> None:
    set_trading_state(account_id=world.account.pk, to_state=asked, set_by="kim", reason="news")
    start = start_trading(tools=tools)
    assert world.state.trading_state == asked
    assert "kim" in world.state.state_set_by + world.state.state_reason
    assert "news" in start.reason


def test_a_start_that_was_cut_off_is_made_up_for_by_the_next(tools: Tools, world: World) -> None:
    with pytest.raises(KeyboardInterrupt):
        start_trading(tools=_cut_off_at(tools, "invariants"))
    assert world.state.trading_state == "HALTED"
    assert TradingStart.objects.get().ok is None
    start_trading(tools=tools)
    assert world.state.trading_state == "ACTIVE"


def _cut_off_at(tools: Tools, name: str) -> Tools:
    @contextmanager
    def shown(step: str) -> Iterator[None]:
        if step == name:
            raise KeyboardInterrupt
        yield

    return replace(tools, shown=shown)


# --- what stops a start -----------------------------------------------------------------------------------------------
def other_engine(world: World) -> None:
    factories.SessionStrategyFactory.create(session=world.session, version=world.version)


def newer_schema(_world: World) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('risk', '9999_later', now())")


def older_schema(_world: World) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'execution' AND name = '0003_reconciliation'")


def money_off(world: World) -> None:
    Account.objects.filter(pk=world.account.pk).update(cash=D(1))


def exposure_off(world: World) -> None:
    state = world.state
    state.exposure = D(7)
    state.save()


FAILURES: list[tuple[Callable[[World], None], str, str, str]] = [
    (other_engine, "versions", "begun with other engine sources", "VERSION"),
    (newer_schema, "versions", "newer than this program: it has risk.9999_later", "VERSION"),
    (older_schema, "versions", "lacks 1 migrations, first execution.0003_reconciliation", "VERSION"),
    (money_off, "invariants", "I6: cash is 1", "EXPOSURE_DIFFERENCE"),
    (exposure_off, "invariants", "I7: exposure is stored as 7", "EXPOSURE_DIFFERENCE"),
]


@pytest.mark.parametrize(("damage", "step", "words", "cause"), FAILURES)
def test_a_step_that_fails_leaves_trading_halted_with_the_reason(
    tools: Tools, world: World, damage: Callable[[World], None], step: str, words: str, cause: str
) -> None:
    damage(world)
    with pytest.raises(StartFailed, match=f"{step}: .*{words}"):
        start_trading(tools=tools)
    assert world.state.trading_state == "HALTED"
    trip = BreakerTrip.objects.get()
    assert (trip.cause, trip.to_state, trip.evidence["step"]) == (cause, "HALTED", step)
    row = TradingStart.objects.get()
    assert (row.ok, row.steps[-1]["name"], row.steps[-1]["ok"]) == (False, step, False)
    assert row.reason.startswith(f"the start stopped at {step}: ")


@pytest.mark.parametrize(("damage", "repair"), [(money_off, D(100_000)), (other_engine, None)])
def test_the_next_start_that_goes_through_takes_its_own_trip_back(
    tools: Tools, world: World, damage: Callable[[World], None], repair: Decimal | None
) -> None:
    damage(world)
    with pytest.raises(StartFailed):
        start_trading(tools=tools)
    if repair is not None:
        Account.objects.filter(pk=world.account.pk).update(cash=repair)
    start_trading(tools=replace(tools, engine_hash=world.version.engine_hash))
    assert world.state.trading_state == "ACTIVE"
    assert BreakerTrip.objects.get().cleared_at is not None
    assert not Alert.objects.filter(acknowledged_at=None).exists()


def test_what_watches_the_order_path_does_not_let_go_what_a_start_has_not_proven(tools: Tools, world: World) -> None:
    money_off(world)
    with pytest.raises(StartFailed):
        start_trading(tools=tools)
    for cause in TripCause:
        trips.cause_gone(account_id=world.account.pk, cause=cause, words="all is well")
    assert world.state.trading_state == "HALTED"


def test_redis_that_does_not_answer_stops_the_start(tools: Tools, world: World) -> None:
    dead = clients.glance("redis://127.0.0.1:1/0")
    with pytest.raises(StartFailed, match="redis: "):
        start_trading(tools=replace(tools, reader=dead))
    assert (world.state.trading_state, BreakerTrip.objects.get().evidence["step"]) == ("HALTED", "redis")


def test_only_one_starts_trading_at_a_time(tools: Tools, world: World) -> None:
    place = connection.settings_dict
    with psycopg.connect(
        host=place["HOST"], port=place["PORT"], user=place["USER"], password=place["PASSWORD"], dbname=place["NAME"]
    ) as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", LOCK)
        with pytest.raises(StartFailed, match="another start of trading is at work"):
            start_trading(tools=tools)


def test_a_difference_at_the_start_lets_exits_go_and_nothing_be_opened(tools: Tools, world: World) -> None:
    """It is no reason to leave positions without protection."""
    order = factories.VenueOrderFactory.create(
        owner=f"session:{world.session.pk}", instrument_id=world.instruments["XRPUSDT"].pk, status="filled"
    )  # fmt: skip
    factories.VenueTradeFactory.create(order=order)
    start = start_trading(tools=tools)
    assert (start.ok, world.state.trading_state) == (True, "REDUCING")
    assert start.reason.startswith("REDUCING: ")
    assert BreakerTrip.objects.get().cause == "RECON"


def test_without_a_session_there_is_nothing_to_hold(tools: Tools) -> None:
    start = start_trading(tools=tools)
    assert (start.ok, names(start)) == (True, ["versions", "leases", "session"])


# --- Redis from PostgreSQL and segments -------------------------------------------------------------------------------
def token_of(epoch: FeedEpoch, token: int) -> None:
    IngestLease.objects.update_or_create(epoch=epoch, defaults={"token": token})


def detail(start: TradingStart, name: str) -> str:
    return str(next(step["detail"] for step in start.steps if step["name"] == name))


def test_an_empty_redis_gets_its_fence_back(tools: Tools, world: World, redis_client: redis.Redis) -> None:
    token_of(world.epoch, 7)
    start = start_trading(tools=tools)
    assert redis_client.get(streams.fence_key(world.epoch.pk)) == b"7"
    assert "the fence was 0: put back to 7" in detail(start, "redis")


def test_a_database_from_yesterday_gives_no_token_out_twice(
    tools: Tools, world: World, redis_client: redis.Redis
) -> None:
    redis_client.set(streams.fence_key(world.epoch.pk), 5_000)
    token_of(world.epoch, 7)
    start = start_trading(tools=tools)
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('market_ingest_token')")
        assert cursor.fetchone()[0] == 5_001
    assert "ingest tokens go on after 5000" in detail(start, "redis")
    assert redis_client.get(streams.fence_key(world.epoch.pk)) == b"5000"


@pytest.mark.parametrize("known_by", ["redis", "segments"])
def test_a_database_from_yesterday_gives_no_feed_epoch_out_twice(
    tools: Tools, world: World, redis_client: redis.Redis, known_by: str
) -> None:
    ahead = world.epoch.pk + 1_000
    if known_by == "redis":
        redis_client.xadd(streams.stream_key(ahead, 0), {"b": b"x"}, id="1-0")
    else:
        SegmentWriter(tools.segments, ahead, 0).append([("1-0", b"x")])
    start_trading(tools=tools)
    assert factories.FeedEpochFactory.create().pk == ahead + 1


def test_flags_of_doorbells_that_may_be_lost_are_cleared(tools: Tools, world: World, redis_client: redis.Redis) -> None:
    redis_client.set(streams.dirty_key(world.epoch.pk, 0), 1)
    start_trading(tools=tools)
    assert not redis_client.exists(streams.dirty_key(world.epoch.pk, 0))


def cursor_at(world: World, replay_from: str, seen_through: str) -> ShardCursor:
    ShardCursor.objects.filter(epoch=world.epoch).exclude(shard=world.shard()).delete()
    ShardCursor.objects.filter(epoch=world.epoch, shard=world.shard()).update(
        replay_from=replay_from, seen_through=seen_through
    )
    return ShardCursor.objects.get(epoch=world.epoch, shard=world.shard())


def rebuilt(tools: Tools, world: World) -> list[str]:
    """The entries on the shard's stream after it was rebuilt."""
    rebuild_redis(epoch=world.epoch, reader=tools.reader, writer=tools.writer, segments=tools.segments)
    return [entry for entry, _ in streams.scan(tools.reader, world.epoch.pk, world.shard(), start="0-0")]


ENTRIES = [(f"{number}-0", b"x") for number in range(10, 20)]


@pytest.mark.parametrize("left", [[], ENTRIES[:3], ENTRIES[:6]], ids=["emptied", "rolled back far", "rolled back"])
def test_a_stream_that_was_lost_comes_back_from_the_segments(
    tools: Tools, world: World, left: list[tuple[str, bytes]]
) -> None:
    cursor = cursor_at(world, "12-0", "17-0")
    SegmentWriter(tools.segments, world.epoch.pk, cursor.shard).append(ENTRIES[:8])
    for entry, payload in left:
        Appender(tools.writer, world.epoch.pk, 1).append(cursor.shard, entry, payload)
    assert rebuilt(tools, world) == [entry for entry, _ in left if entry < "13"] + [f"{n}-0" for n in range(13, 18)]


def test_a_database_from_yesterday_finds_behind_its_cursor_what_the_stream_has_dropped(
    tools: Tools, world: World
) -> None:
    cursor = cursor_at(world, "12-0", "13-0")
    SegmentWriter(tools.segments, world.epoch.pk, cursor.shard).append(ENTRIES[:8])
    for entry, payload in ENTRIES:
        Appender(tools.writer, world.epoch.pk, 1).append(cursor.shard, entry, payload)
    streams.trim_before(tools.writer, world.epoch.pk, cursor.shard, "16-0")
    assert rebuilt(tools, world) == [f"{number}-0" for number in range(13, 20)]


def test_what_was_lost_between_two_lives_of_redis_is_put_back(tools: Tools, world: World) -> None:
    """Emptied after the backup was made, and written since: nothing on the stream itself tells of the hole."""
    cursor = cursor_at(world, "12-0", "13-0")
    SegmentWriter(tools.segments, world.epoch.pk, cursor.shard).append(ENTRIES[:8])
    for entry, payload in ENTRIES[6:]:
        Appender(tools.writer, world.epoch.pk, 1).append(cursor.shard, entry, payload)
    assert rebuilt(tools, world) == [f"{number}-0" for number in range(13, 20)]


def test_a_sound_stream_is_left_alone(tools: Tools, world: World) -> None:
    cursor = cursor_at(world, "12-0", "15-0")
    SegmentWriter(tools.segments, world.epoch.pk, cursor.shard).append([("11-5", b"never"), *ENTRIES[2:6]])
    for entry, payload in ENTRIES:
        Appender(tools.writer, world.epoch.pk, 1).append(cursor.shard, entry, payload)
    streams.trim_before(tools.writer, world.epoch.pk, cursor.shard, "12-0")
    assert rebuilt(tools, world) == [f"{number}-0" for number in range(12, 20)]


class Appending:
    """A client under whose reads an ingest goes on writing."""

    def __init__(self, tools: Tools, world: World) -> None:
        self.tools, self.world, self.ids = tools, world, itertools.count(100)

    def __getattr__(self, name: str) -> Any:
        if name == "pipeline":
            appender = Appender(self.tools.writer, self.world.epoch.pk, 1)
            appender.append(self.world.shard(), f"{next(self.ids)}-0", b"x")
        return getattr(self.tools.writer, name)


def test_what_an_ingest_appends_while_its_stream_is_put_back_is_kept(tools: Tools, world: World) -> None:
    cursor = cursor_at(world, "12-0", "17-0")
    SegmentWriter(tools.segments, world.epoch.pk, cursor.shard).append(ENTRIES[:8])
    busy: Any = Appending(tools, world)
    assert rebuilt(replace(tools, writer=busy), world) == [*(f"{number}-0" for number in range(13, 18)), "100-0"]


def test_the_database_has_a_name_for_its_life_from_the_first_start_on(tools: Tools, world: World) -> None:
    start_trading(tools=tools)
    first = DatabaseIncarnation.objects.get()
    start_trading(tools=tools)
    assert (DatabaseIncarnation.objects.get(), incarnation()) == (first, first.token)
    second = begin_incarnation("restored")
    assert incarnation() == second != first.token
