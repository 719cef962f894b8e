"""From waiting to writing: a standby stays warm until the lease is its own, then learns what has changed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import redis

from apps.bus import clients, streams
from apps.bus.streams import Fenced
from workers.ingest import log
from workers.ingest.clock import Clock
from workers.ingest.commander import instruments_of, read
from workers.ingest.config import Config
from workers.ingest.lease import FixedRight, Lease, Right, standby_key
from workers.ingest.tally import Tally
from workers.ingest.web import StatusServer

PRESENT_MS: Final = 3_000
_RETRY_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Turn:
    """It is this process's turn to write. `warm` are symbols that the readers have history of."""

    right: Right
    config: Config
    warm: frozenset[str]


def wait_for_turn(
    config: Config,
    server: StatusServer,
    clock: Clock,
    tally: Tally,
    ended: threading.Event,
    on_lost: Callable[[str], None],
) -> Turn | None:
    """The turn as soon as it comes, with the lease being renewed; None if `ended` was set first."""
    client = clients.glance(config.redis_url)
    if config.lease is None:
        turn = Turn(FixedRight(config.token or 0), config, frozenset())
        return turn if _fence_out_others(client, turn, tally, ended, on_lost) else None
    lease = Lease(config.lease, config.epoch, clock, tally)
    presence = _Presence(client, config.epoch, clock, tally)

    def look() -> None:
        server.waiting = "standby, waiting for the lease" + (f" held by {lease.held_by}" if lease.held_by else "")
        presence.say()

    if not lease.acquire(ended, look):
        return None
    server.waiting = None
    lease.keep(on_lost)
    turn = Turn(lease, config, lease.known.symbols_with_bars)
    if not _fence_out_others(client, turn, tally, ended, on_lost):
        lease.give_back()
        return None
    return Turn(lease, _renewed(config, lease, client, tally), turn.warm)


def _fence_out_others(
    client: redis.Redis, turn: Turn, tally: Tally, ended: threading.Event, on_lost: Callable[[str], None]
) -> bool:
    """From here on Redis refuses every older token. Waits for Redis; False if `ended` was set first."""
    while not ended.is_set():
        try:
            streams.assert_fence(client, turn.config.epoch, turn.right.token)
            return True
        except Fenced as fenced:
            on_lost(str(fenced))
        except redis.RedisError as error:
            tally.log.warn("redis_error", type(error).__name__, operation="fence", error=str(error))
            ended.wait(_RETRY_SECONDS)
    return False


def _renewed(config: Config, lease: Lease, client: redis.Redis, tally: Tally) -> Config:
    """The configuration with what has changed since it was written: entry ids, and symbols that came or went."""
    ids = {
        shard: max(known, key=streams.entry_order)
        for shard, known in lease.known.entry_ids.items()
        if int(shard) < config.shard_count
    }
    orders = read(client, config.epoch, tally)
    symbols = instruments_of(orders, tally) if orders is not None else []
    log.event("turn", token=lease.token, symbols=len(symbols or config.symbols), known_ids=ids)
    return msgspec.structs.replace(
        config, first_entry_ids=config.first_entry_ids | ids, symbols=symbols or config.symbols
    )


class _Presence:
    """Says in Redis about once a second that somebody stands by; side information, never worth an error."""

    def __init__(self, client: redis.Redis, epoch: int, clock: Clock, tally: Tally) -> None:
        self._client = client
        self._key = standby_key(epoch)
        self._clock = clock
        self._tally = tally
        self._say_at = 0.0

    def say(self) -> None:
        now = self._clock.since_boot()
        if now < self._say_at:
            return
        self._say_at = now + PRESENT_MS / 3_000
        try:
            self._client.set(self._key, self._clock.wall_ms(), px=PRESENT_MS)
        except redis.RedisError as error:
            self._tally.log.warn("redis_error", type(error).__name__, operation="standby", error=str(error))
