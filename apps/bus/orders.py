"""What the ingest is asked to do, as a level and not as an edge: the whole wish, written again every second.

Whoever misses a message reads the next one; an ingest that starts, or takes over, reads what holds. The truth behind
it is in PostgreSQL. Answers to repairs come back in a hash, from which the asker removes what it has stored.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec
import redis

from apps.bus.streams import feed_orders_key, repair_outcomes_key

SYMBOLS_MAX: Final = 2_000
REPAIRS_MAX: Final = 500
DOUBTS_MAX: Final = 500
KEEP_MS: Final = 60_000

FILLED: Final = "filled"
PARTIAL: Final = "partial"
UNFILLABLE: Final = "unfillable"
FAILED: Final = "failed"


class WantedSymbol(msgspec.Struct, frozen=True):
    """A symbol to follow, with the decimals of its price and of its quantity."""

    symbol: str
    price_decimals: int
    quantity_decimals: int


class Repair(msgspec.Struct, frozen=True):
    """A closed minute to be asked for at the exchange's REST. `attempt` counts from 1 and names this very request."""

    symbol: str
    minute: int
    attempt: int


class Doubt(msgspec.Struct, frozen=True):
    """A minute whose sums differ from the exchange's klines: the ingest declares it lost on the stream."""

    symbol: str
    minute: int
    reason: str


class FeedOrders(msgspec.Struct, frozen=True):
    """The whole wish as of `written_ms` (wall clock)."""

    written_ms: int
    symbols: list[WantedSymbol]
    repairs: list[Repair] = []
    doubts: list[Doubt] = []


class RepairOutcome(msgspec.Struct, frozen=True):
    """What became of one repair.

    `filled`: a Backfill event is on its way to the stream. `partial`, `unfillable`: the exchange does not tell enough,
    asking again at once is no use. `failed`: no answer this time.
    """

    symbol: str
    minute: int
    attempt: int
    status: str
    detail: str
    rows: int
    source: str
    at_ms: int


_orders: Final = msgspec.json.Decoder(FeedOrders)
_outcome: Final = msgspec.json.Decoder(RepairOutcome)


def write_orders(client: redis.Redis, epoch: int, orders: FeedOrders) -> None:
    client.set(feed_orders_key(epoch), msgspec.json.encode(orders), px=KEEP_MS)


def read_orders(client: redis.Redis, epoch: int) -> FeedOrders | None:
    """The present wish, None if there is none. Raises `msgspec.MsgspecError` if it is not readable."""
    payload = cast("bytes | None", client.get(feed_orders_key(epoch)))
    return None if payload is None else _orders.decode(payload)


def write_outcome(client: redis.Redis, epoch: int, outcome: RepairOutcome) -> None:
    field = f"{outcome.symbol}:{outcome.minute}:{outcome.attempt}"
    client.hset(repair_outcomes_key(epoch), field, msgspec.json.encode(outcome).decode())


def read_outcomes(client: redis.Redis, epoch: int) -> dict[str, RepairOutcome]:
    """Answers by field, to be removed with `drop_outcomes` once they are stored."""
    rows = cast("dict[bytes, bytes]", client.hgetall(repair_outcomes_key(epoch)))
    return {field.decode(): _outcome.decode(payload) for field, payload in rows.items()}


def drop_outcomes(client: redis.Redis, epoch: int, fields: list[str]) -> None:
    if fields:
        client.hdel(repair_outcomes_key(epoch), *fields)
