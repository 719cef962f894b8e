"""The rest of what the ingest says about itself: what people look at and nothing decides on.

It is read apart from `apps.bus.feed`, so that a figure that is missing or odd here can never make a feed count as old.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec
import redis

from apps.bus.streams import feed_state_key


class ConnectionDetails(msgspec.Struct, frozen=True):
    """One connection. Times are wall clock, ms; `missing` are channels without an answer, `silent` symbols."""

    name: str
    state: str
    reason: str | None = None
    since_ms: int | None = None
    opened_ms: int | None = None
    last_frame_ms: int | None = None
    last_pong_ms: int | None = None
    blocked_until_ms: int | None = None
    subscriptions: int = 0
    reconnects: int = 0
    rotations: int = 0
    bytes_in: int | None = None
    symbols: list[str] = []
    refused: dict[str, str] = {}
    missing: list[str] = []
    silent: list[str] = []


class LeaseDetails(msgspec.Struct, frozen=True):
    """The lease as its holder sees it."""

    token: int | None = None
    holder: str = ""
    renewed_ms: int | None = None


class RingDetails(msgspec.Struct, frozen=True):
    """Trades that wait for Redis, since when, and how many were let go since the start."""

    trades: int = 0
    oldest_ms: int | None = None
    overflowed: int = 0


class RepairDetails(msgspec.Struct, frozen=True):
    """Minutes that are being asked for, and what became of the others since the start."""

    waiting: int = 0
    filled: int = 0
    failed: int = 0


class BudgetDetails(msgspec.Struct, frozen=True):
    """The ingest's use of the REST budget: weight taken since the start, what it waited for that, and the ceiling.

    `blocked_seconds`: for how long the exchange has asked everybody to pause; `alone`: without Redis, each for itself.
    """

    taken: int = 0
    waited_seconds: float = 0
    blocked_seconds: float = 0
    alone: bool = False
    per_10_seconds: int | None = None


class FeedDetails(msgspec.Struct, frozen=True):
    """The whole report."""

    written_ms: int
    connections: list[ConnectionDetails] = []
    lease: LeaseDetails | None = None
    standby: bool | None = None
    ring: RingDetails | None = None
    repairs: RepairDetails | None = None
    budget: BudgetDetails | None = None


_decoder: Final = msgspec.json.Decoder(FeedDetails)


def read_details(client: redis.Redis, *, epoch: int) -> FeedDetails | None:
    """The newest report of the epoch's ingest; None if there is none or it is not what it should be.

    Raises `redis.RedisError` if Redis does not answer.
    """
    payload = cast("bytes | None", client.get(feed_state_key(epoch)))
    if payload is None:
        return None
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError:
        return None
