"""The age of a symbol's feed, as the ingest reports it. What cannot be known is unknown, never young."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from apps.bus import clients
from apps.bus.feed import FeedAge, feed_age
from apps.bus.streams import feed_state_key

NOW_MS = 1_800_000_000_000


def connection(**fields: Any) -> dict[str, Any]:
    default = {
        "name": "connection 1",
        "state": "STREAMING",
        "last_frame_ms": NOW_MS - 300,
        "last_pong_ms": NOW_MS - 9_000,
        "symbols": ["XRPUSDT"],
        "subscriptions": 2,
    }
    return {**default, **fields}


def age(client: redis.Redis, *connections: dict[str, Any], written_ms: int = NOW_MS - 100) -> FeedAge:
    state = {"token": 1, "written_ms": written_ms, "connections": list(connections)}
    client.set(feed_state_key(7), json.dumps(state))
    return feed_age(client, epoch=7, symbol="XRPUSDT", now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 300),
        ({"last_pong_ms": NOW_MS - 20}, 20),
        ({"last_frame_ms": None}, 9_000),
        ({"last_pong_ms": None}, 300),
        ({"last_frame_ms": NOW_MS + 50}, 0),
    ],
)
def test_the_age_is_the_time_since_the_last_frame_or_pong(
    redis_client: redis.Redis, fields: dict[str, Any], expected: int
) -> None:
    assert age(redis_client, connection(**fields)) == FeedAge(expected)


def test_a_report_that_is_old_itself_makes_the_feed_at_least_as_old(redis_client: redis.Redis) -> None:
    young = connection(last_frame_ms=NOW_MS - 10)
    assert age(redis_client, young, written_ms=NOW_MS - 2_000) == FeedAge(10)
    assert age(redis_client, young, written_ms=NOW_MS - 2_001) == FeedAge(2_001)


def test_only_the_connection_that_owns_the_symbol_counts(redis_client: redis.Redis) -> None:
    other = connection(name="connection 2", symbols=["ADAUSDT"], last_frame_ms=NOW_MS)
    assert age(redis_client, other, connection()) == FeedAge(300)
    assert age(redis_client, other).words == "no connection owns XRPUSDT"


@pytest.mark.parametrize("state", ["CONNECTING", "SUBSCRIBING", "STALE", "BLOCKED", "CLOSED"])
def test_a_connection_that_does_not_stream_has_no_age(redis_client: redis.Redis, state: str) -> None:
    assert age(redis_client, connection(state=state)) == FeedAge(None, f"connection 1 is {state}")


def test_a_connection_whose_successor_is_being_tried_still_delivers(redis_client: redis.Redis) -> None:
    assert age(redis_client, connection(state="ROTATING")) == FeedAge(300)


def test_a_refused_symbol_has_no_age_and_the_others_of_its_connection_have(redis_client: redis.Redis) -> None:
    refused = {"spot@public.aggre.deals.v3.api.pb@100ms@ABCUSDT": "Blocked!"}
    shared = connection(symbols=["XRPUSDT", "ABCUSDT"], refused=refused)
    assert age(redis_client, shared) == FeedAge(300)
    found = feed_age(redis_client, epoch=7, symbol="ABCUSDT", now_ms=NOW_MS)
    assert found == FeedAge(None, "the exchange refuses ABCUSDT")


def test_a_connection_that_has_received_nothing_has_no_age(redis_client: redis.Redis) -> None:
    found = age(redis_client, connection(last_frame_ms=None, last_pong_ms=None))
    assert found == FeedAge(None, "nothing was received from connection 1 yet")


def test_without_a_report_the_age_is_unknown(redis_client: redis.Redis) -> None:
    assert feed_age(redis_client, epoch=7, symbol="XRPUSDT", now_ms=NOW_MS) == FeedAge(
        None, "the ingest has not reported"
    )


@pytest.mark.parametrize("payload", ["", "{", "[]", '{"written_ms": "x", "connections": []}', '{"connections": []}'])
def test_a_report_that_cannot_be_read_is_unknown(redis_client: redis.Redis, payload: str) -> None:
    redis_client.set(feed_state_key(7), payload)
    found = feed_age(redis_client, epoch=7, symbol="XRPUSDT", now_ms=NOW_MS)
    assert found.age_ms is None
    assert "not readable" in found.words


def test_a_redis_that_does_not_answer_is_unknown() -> None:
    with clients.glance("redis://127.0.0.1:1/0") as nowhere:
        found = feed_age(nowhere, epoch=7, symbol="XRPUSDT", now_ms=NOW_MS)
    assert found == FeedAge(None, "Redis does not answer (ConnectionError)")
