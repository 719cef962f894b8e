"""Who is running, and with which code, as a decision is told: what is not known is never sound."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from apps.bus.workers import WORKERS_KEY, Heart, order_path, read_workers
from apps.engine.risk.values import OrderPath

NOW_MS = 1_800_000_000_000
OURS, OTHER = "a1b2c3", "d4e5f6"
EVERYBODY = ("steward", "trade", "drain-0", "drain-1", "misc", "study")


def beat(client: redis.Redis, ages: dict[str, Any], version: str = OURS) -> None:
    for name, age_ms in ages.items():
        Heart(client, name=name, version=version).beat(NOW_MS - age_ms)


def told(client: redis.Redis) -> OrderPath:
    return order_path(client, version=OURS, now_ms=NOW_MS)


def test_when_everybody_is_there_the_path_tells_whom_it_heard_of_longest_ago(redis_client: redis.Redis) -> None:
    beat(redis_client, {**dict.fromkeys(EVERYBODY, 100), "drain-1": 4_900, "study": 14_000})
    path = told(redis_client)
    assert (path.heartbeat_age_ms, path.heartbeat_words) == (4_900, "drain-1"), "nobody waits for a study"
    assert (path.strangers, path.version_words) == (0, "")
    assert (path.lease_age_ms, path.differences) == (None, None), "others know that"


@pytest.mark.parametrize("gone", ["steward", "trade"])
def test_who_has_left_is_not_heard_of(redis_client: redis.Redis, gone: str) -> None:
    beat(redis_client, dict.fromkeys(EVERYBODY, 100))
    Heart(redis_client, name=gone, version=OURS).leave()
    path = told(redis_client)
    assert (path.heartbeat_age_ms, path.heartbeat_words) == (None, f"{gone} has not been heard of")


def test_after_redis_was_emptied_nothing_is_known_until_everybody_has_spoken(redis_client: redis.Redis) -> None:
    assert told(redis_client).heartbeat_age_ms is None
    beat(redis_client, dict.fromkeys(EVERYBODY, 0))
    assert told(redis_client).heartbeat_age_ms == 0


def test_a_killed_worker_grows_old_and_is_forgotten_when_the_steward_starts(redis_client: redis.Redis) -> None:
    beat(redis_client, {**dict.fromkeys(EVERYBODY, 100), "drain-9": 3_600_000})
    assert told(redis_client).heartbeat_age_ms == 3_600_000
    Heart(redis_client, name="steward", version=OURS).forget_silent(NOW_MS)
    assert told(redis_client).heartbeat_age_ms == 100
    assert set(read_workers(redis_client)) == set(EVERYBODY)


def test_running_workers_of_another_version_are_named_and_dead_ones_are_not(redis_client: redis.Redis) -> None:
    beat(redis_client, dict.fromkeys(EVERYBODY, 100))
    beat(redis_client, {"misc": 15_000, "drain-1": 15_000}, version=OTHER)
    assert (told(redis_client).strangers, told(redis_client).version_words) == (2, "drain-1, misc")
    beat(redis_client, {"misc": 15_001}, version=OTHER)
    assert told(redis_client).version_words == "drain-1"


@pytest.mark.parametrize("text", ["", "now a1b2c3", "-5 a1b2c3", "12", "12 xyz", "12 a1b2c3 more"])
def test_what_nobody_can_read_counts_as_never_heard_of(redis_client: redis.Redis, text: str) -> None:
    beat(redis_client, dict.fromkeys(EVERYBODY, 100))
    redis_client.hset(WORKERS_KEY, "drain-0", text)
    assert told(redis_client).heartbeat_age_ms == NOW_MS


def test_without_redis_nothing_is_known() -> None:
    path = told(redis.Redis(port=1, socket_connect_timeout=1))
    assert (path.strangers, path.heartbeat_age_ms) == (None, None)
    assert path.heartbeat_words.startswith("Redis does not answer")
