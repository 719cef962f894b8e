"""Staying at the door: a drain that is done waits a little for the next entries instead of being rung for each.

While shards flow, a bell for each batch costs more than draining it: a message through the broker and two processes. So
the flag of the shards that this process keeps warm is set, which silences their bells, and the streams themselves wake
it. Before it leaves, each shard is drained in the usual order: clear the flag, then read, then look at the flag again.
Whoever dies here leaves flags behind; the steward rings for every shard whose tail is ahead of what was seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import redis

from apps.bus import streams
from apps.signals.services import drain
from apps.signals.services.drain import Drained, Tools

QUIET_MS: Final = 250
"""Without an entry for so long, the bell is cheaper than waiting."""
SECONDS_MAX: Final = 1.0
"""Of one visit: the process has other messages to take, and a stop must not wait for long."""


def attend(
    *,
    epoch: int,
    tools: Tools,
    orders_wait: Callable[[int], None],
    seconds: float = SECONDS_MAX,
    quiet_ms: int = QUIET_MS,
    clock: Callable[[], float] = time.monotonic,
) -> list[int]:
    """Drain what comes on the warm shards until nothing has come for a while. `orders_wait(shard)` tells that open
    orders of a shard may meet their quote now. Returns the shards that have to be rung for.

    Raises what a drain raises, after giving the bells back.
    """
    until, shards = clock() + seconds, list(drain.positions(epoch))
    if not shards:
        return []
    try:
        for shard in shards:
            tools.writer.set(streams.dirty_key(epoch, shard), 1)
        while clock() < until:
            at = drain.positions(epoch)
            if not all(_drained(epoch, shard, tools, orders_wait) for shard in _woken(epoch, at, tools, quiet_ms)):
                break
            if drain.positions(epoch) == at:
                break
    except BaseException:
        _give_back(epoch, shards, tools)
        raise
    return [shard for shard in shards if _left(epoch, shard, tools, orders_wait)]


def _woken(epoch: int, at: dict[int, str], tools: Tools, quiet_ms: int) -> list[int]:
    return streams.wait_for_more(tools.reader, epoch, at, milliseconds=quiet_ms)


def _drained(epoch: int, shard: int, tools: Tools, orders_wait: Callable[[int], None]) -> bool:
    """Whether this process may stay: somebody else has the shard if not."""
    found = drain.drain_once(epoch=epoch, shard=shard, tools=tools, attended=True)
    _tell(found, shard, orders_wait)
    return not found.locked


def _left(epoch: int, shard: int, tools: Tools, orders_wait: Callable[[int], None]) -> bool:
    """The last look at a shard, after which its bell rings again. True if there is more."""
    found = drain.drain_shard(epoch=epoch, shard=shard, tools=tools)
    _tell(found, shard, orders_wait)
    return found.more and not found.locked


def _tell(found: Drained, shard: int, orders_wait: Callable[[int], None]) -> None:
    if found.orders_waiting:
        orders_wait(shard)


def _give_back(epoch: int, shards: list[int], tools: Tools) -> None:
    try:
        tools.writer.delete(*(streams.dirty_key(epoch, shard) for shard in shards))
    except redis.RedisError:
        return  # the flags are lost with it, or the steward rings
