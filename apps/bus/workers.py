"""Who is running, and with which code: each worker tells every few seconds, in one hash in Redis.

A worker that ends as it should takes itself out; one that was killed stays, with an age that grows, until it is back
under its name or the steward starts anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, cast

import redis

from apps.engine import timeouts
from apps.engine.risk.values import OrderPath

WORKERS_KEY: Final = "workers"
NEEDED: Final = ("steward", "trade", "drain-")
"""Who is on the way of an order; a name that ends with a dash stands for several."""
WORDS_MAX: Final = 150
UNKNOWN_PATH: Final = OrderPath(lease_age_ms=None, strangers=None, heartbeat_age_ms=None, differences=None)


@dataclass(frozen=True, slots=True)
class Heard:
    """When a worker told of itself last (wall clock, ms) and the hash of its sources."""

    at_ms: int
    version: str


class Heart:
    """One worker's voice. Every call raises `redis.RedisError` if Redis does not answer."""

    def __init__(self, client: redis.Redis, *, name: str, version: str) -> None:
        self._client, self._name, self._version = client, name, version

    def beat(self, now_ms: int) -> None:
        self._client.hset(WORKERS_KEY, self._name, f"{now_ms} {self._version}")

    def leave(self) -> None:
        self._client.hdel(WORKERS_KEY, self._name)

    def forget_silent(self, now_ms: int) -> None:
        """Take out who has not been heard of for so long that it counts as gone; for a start, not for every day."""
        oldest = now_ms - timeouts.HEARTBEAT_AGE_MAX_MS
        gone = [name for name, heard in read_workers(self._client).items() if heard.at_ms < oldest]
        if gone:
            self._client.hdel(WORKERS_KEY, *gone)


def read_workers(client: redis.Redis) -> dict[str, Heard]:
    """Everyone who is there, or was and did not say goodbye. What is not readable counts as never heard of."""
    rows = cast("dict[bytes, bytes]", client.hgetall(WORKERS_KEY))
    found = {}
    for name, text in rows.items():
        match = re.fullmatch(r"([0-9]{1,15}) ([0-9a-f]{1,64})", text.decode(errors="replace"))
        found[name.decode(errors="replace")] = Heard(int(match[1]), match[2]) if match else Heard(0, "unreadable")
    return found


def path_of(workers: dict[str, Heard], *, version: str, now_ms: int) -> OrderPath:
    """What the workers tell of the order path. `version` is that of whoever asks."""
    strangers = sorted(
        name
        for name, heard in workers.items()
        if heard.version != version and now_ms - heard.at_ms <= timeouts.HEARTBEAT_AGE_MAX_MS
    )
    on_the_way = {name: heard for name, heard in workers.items() if any(_is(name, needed) for needed in NEEDED)}
    missing = [name.rstrip("-") for name in NEEDED if not any(_is(worker, name) for worker in workers)]
    quietest = min(on_the_way, key=lambda name: on_the_way[name].at_ms, default="")
    return replace(
        UNKNOWN_PATH,
        strangers=len(strangers),
        version_words=", ".join(strangers)[:WORDS_MAX],
        heartbeat_age_ms=None if missing else max(now_ms - on_the_way[quietest].at_ms, 0),
        heartbeat_words=f"{missing[0]} has not been heard of" if missing else quietest,
    )


def order_path(client: redis.Redis, *, version: str, now_ms: int) -> OrderPath:
    """The workers' part of the order path. Whatever cannot be read is unknown, never sound."""
    try:
        return path_of(read_workers(client), version=version, now_ms=now_ms)
    except redis.RedisError as error:
        words = f"Redis does not answer ({type(error).__name__})"
        return replace(UNKNOWN_PATH, version_words=words, heartbeat_words=words)


def _is(name: str, needed: str) -> bool:
    return name.startswith(needed) if needed.endswith("-") else name == needed
