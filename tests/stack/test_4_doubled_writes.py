"""Finding 4: redis-py 8 repeats a timed-out command, so a server that pauses gets every write twice.

Only `redis.Redis(host=...)` does so; `Redis.from_url` of the same version never repeats. Ours says it itself.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast
from urllib.parse import urlsplit

import pytest
import redis

from apps.bus import clients, streams
from apps.engine import timeouts
from tests.stack.valkey import OwnValkey
from tests.stack.worker import wait_until

pytestmark = pytest.mark.stack
FROZEN_SECONDS = timeouts.REDIS_SOCKET_SECONDS + 2
EPOCH, SHARD, TOKEN = 1, 0, 7


def outcome(write: Callable[[], object]) -> object:
    try:
        return write()
    except redis.RedisError as error:
        return error


def library_client(url: str) -> redis.Redis:
    parts = urlsplit(url)
    return redis.Redis(host=parts.hostname or "", port=parts.port or 0, password=parts.password)


def while_frozen(server: OwnValkey, writes: list[Callable[[], object]]) -> list[object]:
    """Make all writes at the same time against a server that pauses, and what each gave."""
    server.freeze()
    with ThreadPoolExecutor(len(writes)) as threads:
        futures = [threads.submit(outcome, write) for write in writes]
        try:
            wait_until(lambda: server.has_been_down(FROZEN_SECONDS), FROZEN_SECONDS + 1)
        finally:
            server.thaw()
        return [future.result(timeout=20) for future in futures]


def test_our_writer_writes_once_where_the_library_writes_twice(own_valkey: OwnValkey) -> None:
    url = own_valkey.url()
    with clients.writer(url) as ours, clients.writer(url) as appending, library_client(url) as library:
        appender = streams.Appender(appending, EPOCH, TOKEN)
        appender.append(SHARD, "1-1", b"first")
        for client in (ours, library):
            client.ping()  # connected before the pause
        given = while_frozen(
            own_valkey,
            [
                lambda: ours.xadd("ours", {"n": 1}),
                lambda: appender.append(SHARD, "2-1", b"second"),
                lambda: library.xadd("library", {"n": 1}),
            ],
        )
        assert [type(one) for one in given[:2]] == [redis.TimeoutError, redis.TimeoutError]
        assert isinstance(given[2], bytes)

        def count(key: str) -> int:
            return cast("int", library.xlen(key))

        wait_until(lambda: count("ours") == 1 and count(streams.stream_key(EPOCH, SHARD)) == 2, 5)
        assert appender.last_id(SHARD) == "2-1"  # the unknown outcome is asked for, not guessed
        with pytest.raises(redis.ResponseError, match="equal or smaller"):
            appender.append(SHARD, "2-1", b"second")
        assert count(streams.stream_key(EPOCH, SHARD)) == 2
        assert count("ours") == 1
        assert count("library") == 2, "the library alone writes once now: our writer's retry may go"
