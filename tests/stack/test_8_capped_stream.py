"""Finding 8: a stream with a cap drops entries that nobody has read yet, and no reader is told.

Ours has no cap; entries go only behind the reader. If the server loses some all the same, ordinals tell.
"""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
import redis

from apps.bus import clients, codec, streams
from apps.engine.events import BUY, CoverageStart, Event, TradeBlock, Watermark
from apps.engine.model import MINUTE_MS, Scale
from apps.engine.shard import Effects, ShardEngine
from tests.house.sources import python_files

pytestmark = pytest.mark.stack
EPOCH, SHARD, TOKEN, SYMBOL = 1, 0, 7, "AAAUSDT"
CAP = 1_000
MINUTES = 6


def trade(number: int, ts_event: int) -> TradeBlock:
    return TradeBlock(SYMBOL, TOKEN, number, ts_event, [ts_event], [100], [1], [BUY], [str(number)])


def market() -> list[tuple[str, list[Event]]]:
    """Six minutes with two trades each, every entry closed by its watermark."""
    entries: list[tuple[str, list[Event]]] = [("1-0", [CoverageStart(TOKEN, 0, 0, [SYMBOL], "ingest start")])]
    for number in range(1, 2 * MINUTES + 1):
        ts_event = (number - 1) * MINUTE_MS // 2
        entries.append((f"{number + 1}-0", [trade(number, ts_event), Watermark(TOKEN, ts_event, 0, {SYMBOL: number})]))
    return entries


def read_all(client: redis.Redis, engine: ShardEngine, after: str) -> Effects:
    effects = Effects()
    for entry_id, payload in streams.read(client, EPOCH, SHARD, after=after, count=CAP):
        effects.extend(engine.apply(entry_id, codec.decode(payload or b"")))
    return effects


def test_a_capped_stream_loses_unread_entries_without_a_word(redis_client: redis.Redis) -> None:
    redis_client.xgroup_create("capped", "readers", id="0", mkstream=True)
    for number in range(1, 10):
        redis_client.xadd("capped", {"n": number}, id=f"{number}-0", maxlen=CAP, approximate=False)
    redis_client.xreadgroup("readers", "one", {"capped": ">"}, count=9)
    for number in range(10, 3_001):
        redis_client.xadd("capped", {"n": number}, id=f"{number}-0", maxlen=CAP, approximate=False)
    answer = cast("list[Any]", redis_client.xreadgroup("readers", "one", {"capped": ">"}, count=1))
    assert answer[0][1][0][0] == b"2001-0", "the server keeps what a group has not read now"


def test_entries_lost_unread_become_unproven_minutes(servers: dict[str, str], redis_client: redis.Redis) -> None:
    """The server forgets minutes 1 to 3 between two looks of the reader, who has read minute 0."""
    with clients.writer(servers["REDIS_URL"]) as writer:
        appender = streams.Appender(writer, EPOCH, TOKEN)
        entries = market()
        engine = ShardEngine({SYMBOL: Scale(2, 0)}, [])
        for entry_id, events in entries[:3]:
            appender.append(SHARD, entry_id, codec.encode(events))
        assert read_all(redis_client, engine, "0-0").unproven == []
        for entry_id, events in entries[3:]:
            appender.append(SHARD, entry_id, codec.encode(events))
        redis_client.xtrim(streams.stream_key(EPOCH, SHARD), maxlen=4, approximate=False)
        effects = read_all(redis_client, engine, entries[2][0])
    assert {(mark.minute, mark.reason) for mark in effects.unproven} == {
        (minute, "trades lost on the stream") for minute in range(4 + 1)
    }
    assert effects.errors == []


def test_no_append_of_ours_names_a_cap() -> None:
    capped = [
        source.name
        for source in python_files("apps", "workers")
        if re.search(r"(?i)maxlen\s*=|'MAXLEN'|\"MAXLEN\"", source.text)
        and re.search(r"(?i)\bxadd|\bxtrim", source.text)
    ]
    assert not capped


def test_trimming_keeps_everything_from_the_given_entry_on(redis_client: redis.Redis) -> None:
    for number in range(1, 11):
        redis_client.xadd(streams.stream_key(EPOCH, SHARD), {"b": b""}, id=f"{number}-0")
    assert streams.trim_before(redis_client, EPOCH, SHARD, "7-0") == 6
    assert [entry_id for entry_id, _ in streams.read(redis_client, EPOCH, SHARD, after="0-0", count=20)] == [
        f"{number}-0" for number in range(7, 11)
    ]
