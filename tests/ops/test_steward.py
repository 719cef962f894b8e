"""The steward makes up for every wake-up that was lost, and keeps what only passes by."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import redis
from celery import current_app
from django.conf import settings

from apps.bus import clients, streams
from apps.bus.orders import read_orders, write_outcome
from apps.bus.streams import Appender
from apps.market.models import Coverage, FeedConnection, FeedTransition, IngestRun
from apps.ops.steward.chores import RETENTION_MS, Duties, now_ms
from apps.ops.steward.loop import Chore, Loop
from apps.ops.steward.pauses import REMEMBERED_MAX, Pauses
from apps.portfolio.models import EquityPoint
from tests import factories
from tests.factories import START_MINUTE
from tests.market.ledger import answer, hole, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def duties(redis_client: redis.Redis) -> Duties:
    return Duties(reader=clients.reader(settings.REDIS_URL), writer=clients.writer(settings.REDIS_URL))


def waiting(client: redis.Redis, queue: str) -> list[dict[str, Any]]:
    """The keyword arguments of the tasks on a queue."""
    messages: Any = client.lrange(queue, 0, -1)
    return [json.loads(base64.b64decode(json.loads(message)["body"]))[1] for message in messages]


def test_a_shard_that_nobody_reads_is_rung_at_the_second_look(duties: Duties, redis_client: redis.Redis) -> None:
    epoch = factories.FeedEpochFactory.create(shard_count=1)
    factories.ShardCursorFactory.create(epoch=epoch, shard=0)
    Appender(duties.writer, epoch.pk, 1).append(0, "5-0", b"x")
    duties.ring_unread()
    assert waiting(redis_client, "shard.0") == []
    duties.ring_unread()
    assert waiting(redis_client, "shard.0") == [{"epoch": epoch.pk, "shard": 0}]


def test_a_shard_that_is_being_read_is_left_alone(duties: Duties, redis_client: redis.Redis) -> None:
    epoch = factories.FeedEpochFactory.create(shard_count=1)
    cursor = factories.ShardCursorFactory.create(epoch=epoch, shard=0)
    appender = Appender(duties.writer, epoch.pk, 1)
    for number in range(1, 5):
        appender.append(0, f"{number}-0", b"x")
        duties.ring_unread()
        cursor.seen_through = f"{number}-0"
        cursor.save()
    assert waiting(redis_client, "shard.0") == []


def test_the_report_of_the_ingest_becomes_rows(duties: Duties) -> None:
    epoch = factories.FeedEpochFactory.create()
    connection: dict[str, Any] = {
        "name": "feed-0", "state": "STREAMING", "reason": None, "since_ms": 1_000, "last_frame_ms": 2_000,
        "last_pong_ms": None, "subscriptions": 4, "refused": {}, "reconnects": 1, "symbols": [],
    }  # fmt: skip
    report = {
        "token": 7, "written_ms": 3_000, "counts": {"received": 9, "decoded": 8, "published": 7},
        "dropped": {"bad_price": 1}, "connections": [connection],
    }  # fmt: skip
    duties.writer.set(streams.feed_state_key(epoch.pk), json.dumps(report))
    duties.note_feed()
    duties.note_feed()
    run = IngestRun.objects.get(epoch=epoch, token=7)
    assert (run.received, run.decoded, run.published, run.dropped) == (9, 8, 7, {"bad_price": 1})
    row = FeedConnection.objects.get(epoch=epoch)
    assert (row.state, row.subscriptions, row.reconnects, row.last_pong_at) == ("STREAMING", 4, 1, None)


def test_the_wish_of_the_running_feed_is_written_and_its_answers_are_taken(
    duties: Duties, redis_client: redis.Redis
) -> None:
    duties.pass_orders()  # no feed: nothing to ask for
    assert redis_client.dbsize() == 0
    epoch = factories.FeedEpochFactory.create()
    xrp = member(epoch, "XRPUSDT")
    hole(xrp, 0, due_ms=now_ms() - 1)
    duties.pass_orders()
    written = read_orders(duties.reader, epoch.pk)
    assert written is not None
    assert (len(written.symbols), len(written.repairs)) == (1, 1)
    write_outcome(duties.writer, epoch.pk, answer(xrp, 0))
    duties.pass_orders()
    assert Coverage.objects.get().attempts == 1
    written = read_orders(duties.reader, epoch.pk)
    assert written is not None
    assert written.repairs == []


def test_changes_of_state_are_kept(duties: Duties) -> None:
    duties.keep_transitions()
    epoch = factories.FeedEpochFactory.create()
    change = {"token": 7, "connection": "feed-0", "at_ms": 5, "from": None, "to": "CONNECTING", "category": "started"}
    duties.writer.xadd(streams.transitions_key(epoch.pk), {"b": json.dumps(change)})
    duties.keep_transitions()
    duties.keep_transitions()
    assert FeedTransition.objects.get().to_state == "CONNECTING"


def test_equity_is_recorded_once_per_minute_that_every_shard_has_closed(duties: Duties) -> None:
    session = factories.TradingSessionFactory.create()
    factories.AccountFactory.create(session=session)
    member = factories.EpochInstrumentFactory.create(epoch=session.epoch)
    cursor = factories.ShardCursorFactory.create(epoch=session.epoch, shard=member.shard, closed_minute=None)
    duties.record_equity()
    assert not EquityPoint.objects.exists()
    cursor.closed_minute = START_MINUTE
    cursor.save()
    duties.record_equity()
    duties.record_equity()
    assert EquityPoint.objects.get().minute == START_MINUTE


def test_a_stream_is_trimmed_only_behind_every_reader(duties: Duties) -> None:
    epoch = factories.FeedEpochFactory.create(shard_count=1)
    member = factories.EpochInstrumentFactory.create(epoch=epoch, shard=0)
    now = now_ms()
    old, kept, read = now - 3 * RETENTION_MS, now - 2 * RETENTION_MS + 1, now
    cursor = factories.ShardCursorFactory.create(epoch=epoch, shard=0, replay_from=f"{read}-0")
    appender = Appender(duties.writer, epoch.pk, 1)
    for at in (old, kept, read):
        appender.append(0, f"{at}-0", b"x")
    session = factories.TradingSessionFactory.create(epoch=epoch)
    position = factories.PositionFactory.create(
        account=factories.AccountFactory.create(session=session),
        instrument=member.instrument,
        trigger_entry=f"{old + RETENTION_MS}-0",
    )

    def left() -> list[str]:
        return [row[0] for row in streams.read(duties.reader, epoch.pk, cursor.shard, after="0-0", count=9)]

    duties.trim()
    assert left() == [f"{old}-0", f"{kept}-0", f"{read}-0"]  # the position's exit is searched from its trigger on
    factories.ExitWatchFactory.create(position=position, scanned_to=f"{read}-0")
    duties.trim()
    assert left() == [f"{read}-0"]


def test_a_signal_whose_bells_wait_to_be_heard_is_rung_ever_more_rarely(
    duties: Duties, redis_client: redis.Redis
) -> None:
    """Bells that piled up behind a slow worker once kept it from ever catching up: 6,017 for 74 signals."""
    now = [0.0]
    duties.pauses = Pauses(duties.reader, clock=lambda: now[0])
    for second in range(120):
        now[0] = float(second)
        for signal_id in range(50):
            duties.ring("SignalRaised", {"signal_id": signal_id})
        if second == 0:
            assert len(waiting(redis_client, "trade")) == 50
    assert len(waiting(redis_client, "trade")) == 50 * 8  # after 0, 1, 3, 7, 15, 31, 61 and 91 s
    redis_client.delete("trade")
    duties.ring("SignalRaised", {"signal_id": 7})  # nothing waits: what was rung for was lost
    assert waiting(redis_client, "trade") == [{"signal_id": 7}]


def test_bells_are_bounded_however_much_is_stuck(duties: Duties, redis_client: redis.Redis) -> None:
    duties.pauses = Pauses(duties.reader, clock=lambda: 5.0)
    for signal_id in range(REMEMBERED_MAX + 100):
        duties.ring("SignalRaised", {"signal_id": signal_id})
    assert redis_client.llen("trade") == REMEMBERED_MAX


def test_every_stuck_thing_is_rung_for_by_itself(duties: Duties, redis_client: redis.Redis) -> None:
    """One that was lost does not wait for the pause of another, nor do the queues for each other."""
    duties.pauses = Pauses(duties.reader, clock=lambda: 5.0)
    for _ in range(2):
        duties.ring("SignalRaised", {"signal_id": 1})
        duties.ring("IntentApproved", {"intent_id": 1})
        duties.ring("WatermarkAdvanced", {"epoch": 1, "shard": 0})
    assert waiting(redis_client, "trade") == [{"intent_id": 1}, {"signal_id": 1}]
    assert waiting(redis_client, "misc") == [{"epoch": 1, "shard": 0}]


def test_a_chore_that_fails_does_not_stop_the_others_and_is_tried_again() -> None:
    done: list[str] = []
    now = [0.0]

    def broken() -> None:
        done.append("broken")
        raise OSError("the disk is full")

    loop = Loop([Chore("broken", 1, broken), Chore("sound", 2, lambda: done.append("sound"))], clock=lambda: now[0])
    for at in (0.0, 0.5, 1.0, 2.0):
        now[0] = at
        loop.turn()
    assert done == ["broken", "sound", "broken", "broken", "sound"]
    assert loop.chores[0].failures == 3


def test_a_fault_of_ours_ends_the_steward_visibly() -> None:
    def wrong() -> None:
        raise TypeError("a mistake")

    with pytest.raises(TypeError):
        Loop([Chore("wrong", 1, wrong)]).turn()


def test_the_tasks_it_rings_exist() -> None:
    current_app.autodiscover_tasks(force=True)
    assert settings.PIPELINE_ROUTES["MarketDataPublished"] in current_app.tasks
