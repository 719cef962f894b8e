"""Stream keys, ids, reading, appending and trimming."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import redis

FIELD: Final = b"b"
START: Final = "0-0"

# One call: the fence, the entry and the wake flag succeed or fail together. An explicit id makes a repeat harmless:
# the server refuses an id that is not greater than the last one.
_APPEND: Final = """
local fence = tonumber(redis.call('GET', KEYS[3]) or '0')
local token = tonumber(ARGV[1])
if token < fence then return redis.error_reply('FENCED ' .. fence) end
if token > fence then redis.call('SET', KEYS[3], ARGV[1]) end
redis.call('XADD', KEYS[1], ARGV[2], 'b', ARGV[3])
if redis.call('SET', KEYS[2], '1', 'NX') then return 1 end
return 0
"""

# The fence alone, for a holder that has nothing to write at the moment; it also comes back after a Redis was emptied.
_ASSERT: Final = """
local fence = tonumber(redis.call('GET', KEYS[1]) or '0')
local token = tonumber(ARGV[1])
if token < fence then return redis.error_reply('FENCED ' .. fence) end
if token > fence then redis.call('SET', KEYS[1], ARGV[1]) end
return 0
"""


class Fenced(Exception):
    """A newer ingest has written to this epoch; this one must stop."""


def shard_of(symbol: str, shard_count: int) -> int:
    """The shard that owns a symbol: the same in every process and at every time."""
    return zlib.crc32(symbol.encode()) % shard_count


def stream_key(epoch: int, shard: int) -> str:
    return f"market_data:{epoch}:{shard}"


def dirty_key(epoch: int, shard: int) -> str:
    return f"dirty:{epoch}:{shard}"


def fence_key(epoch: int) -> str:
    return f"fence:{epoch}"


def feed_state_key(epoch: int) -> str:
    """JSON that the ingest writes about itself four times a second (workers.ingest says what is in it)."""
    return f"feed_state:{epoch}"


def feed_orders_key(epoch: int) -> str:
    """What the ingest is to do (apps.bus.orders); written anew every second, so nothing is lost with Redis."""
    return f"feed_orders:{epoch}"


def repair_outcomes_key(epoch: int) -> str:
    """Hash in which the ingest answers repairs that it was asked for (apps.bus.orders)."""
    return f"repair_outcomes:{epoch}"


def transitions_key(epoch: int) -> str:
    """Bounded stream of the connections' changes of state, each a JSON object in field `b`."""
    return f"feed_transitions:{epoch}"


def heartbeat_key(name: str) -> str:
    """Where a process writes the wall time (ms, as text) of its last round of work; expires when it stops."""
    return f"heartbeat:{name}"


def entry_order(entry_id: str) -> tuple[int, int]:
    """An entry id as a pair that compares in stream order."""
    ms, _, sequence = entry_id.partition("-")
    return int(ms), int(sequence or 0)


class Appender:
    """Writes entries of one ingest. Not for sharing between threads."""

    def __init__(self, client: redis.Redis, epoch: int, token: int) -> None:
        self._client = client
        self._epoch = epoch
        self._token = token
        self._script = client.register_script(_APPEND)

    def append(self, shard: int, entry_id: str, payload: bytes) -> bool:
        """Append one entry. True if the shard's doorbell must be rung.

        Raises `Fenced` if a newer token has written, `redis.RedisError` if the outcome is unknown: the caller then
        asks `last_id` and repeats the call with the same id only if it is not there.
        """
        keys = [stream_key(self._epoch, shard), dirty_key(self._epoch, shard), fence_key(self._epoch)]
        try:
            return bool(self._script(keys=keys, args=[self._token, entry_id, payload]))
        except redis.ResponseError as error:
            if "FENCED" in str(error):
                raise Fenced(str(error)) from error
            raise

    def last_id(self, shard: int) -> str:
        """The id of the shard's newest entry, `0-0` if there is none."""
        return last_id(self._client, self._epoch, shard)


def assert_fence(client: redis.Redis, epoch: int, token: int) -> None:
    """Keep every older token out from now on. Raises `Fenced` if a newer one is there, `redis.RedisError`."""
    try:
        client.eval(_ASSERT, 1, fence_key(epoch), token)
    except redis.ResponseError as error:
        if "FENCED" in str(error):
            raise Fenced(str(error)) from error
        raise


def last_id(client: redis.Redis, epoch: int, shard: int) -> str:
    newest = cast("list[Any]", client.xrevrange(stream_key(epoch, shard), count=1))
    return newest[0][0].decode() if newest else START


def read(
    client: redis.Redis, epoch: int, shard: int, *, after: str, count: int, through: str = "+"
) -> list[tuple[str, bytes | None]]:
    """Entries after `after`, oldest first, as (id, payload); the payload is None if the entry has no field `b`."""
    rows = cast("list[Any]", client.xrange(stream_key(epoch, shard), min=f"({after}", max=through, count=count))
    return [(entry_id.decode(), entry.get(FIELD)) for entry_id, entry in rows]


def wait_for_more(client: redis.Redis, epoch: int, positions: Mapping[int, str], *, milliseconds: int) -> list[int]:
    """The shards that have entries behind these positions; waits until one has. Empty when the time is over."""
    keys = {stream_key(epoch, shard).encode(): shard for shard in positions}
    wanted: Any = {key: positions[shard] for key, shard in keys.items()}
    found = cast("list[Any]", client.xread(wanted, count=1, block=milliseconds))
    return [keys[key] for key, _ in found]


def scan(
    client: redis.Redis, epoch: int, shard: int, *, start: str, batch: int = 200
) -> Iterator[tuple[str, bytes | None]]:
    """Entries from `start` on, `start` itself included, until the stream's present end."""
    ms, sequence = entry_order(start)
    after = f"{ms}-{sequence - 1}" if sequence else f"{max(ms - 1, 0)}-{2**63 - 1}"
    while rows := read(client, epoch, shard, after=after, count=batch):
        yield from rows
        after = rows[-1][0]


def trim_before(client: redis.Redis, epoch: int, shard: int, entry_id: str) -> int:
    """Drop entries older than `entry_id`. Returns how many."""
    return int(client.xtrim(stream_key(epoch, shard), minid=entry_id, approximate=False))
