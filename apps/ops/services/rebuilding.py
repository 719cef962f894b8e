"""Redis from PostgreSQL and the raw segments: what a start, or a recovery, puts back before anything reads it.

Redis holds four things that matter: the fence, the part of each shard's stream behind `replay_from`, the flags that
say that a shard was rung for, and messages. Messages are doorbells; flags are cleared; the other two are put back.
What neither Redis nor a segment has is lost: the drain sees the missing numbers and declares the minutes UNPROVEN.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import redis
from django.db import connection

from apps.bus import streams
from apps.market.models import FeedEpoch, IngestLease, ShardCursor
from apps.market.segments import read_newest_segments

REFILL_ENTRIES_MAX: Final = 500_000
"""Of one shard; what lies further back stays a gap, because Redis has to hold it all."""
BATCH: Final = 500
TOKEN_SEQUENCE: Final = "market_ingest_token"  # noqa: S105  (its name, no secret)
EPOCH_SEQUENCE: Final = "market_feedepoch_id_seq"

_TAKE_PLACE: Final = """
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][1]
local rows = redis.call('XRANGE', KEYS[1], '(' .. last, '+')
for _, row in ipairs(rows) do redis.call('XADD', KEYS[2], row[1], unpack(row[2])) end
redis.call('RENAME', KEYS[2], KEYS[1])
return #rows
"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`refilled` counts entries put back on streams. `notes` say what was found and done, a line each."""

    shards: int
    refilled: int
    notes: tuple[str, ...]


def rebuild_redis(*, epoch: FeedEpoch, reader: redis.Redis, writer: redis.Redis, segments: Path) -> Rebuilt:
    """Put back what the epoch's readers and writers rely on, also while they run.

    Raises `redis.RedisError` or the database's error.
    """
    notes = [*_raise_sequences(reader, segments), *_put_fence(epoch, reader, writer)]
    cursors = list(ShardCursor.objects.filter(epoch=epoch).order_by("shard"))
    refilled = 0
    for cursor in cursors:
        writer.delete(streams.dirty_key(epoch.pk, cursor.shard))
        missing = _missing(reader, cursor, segments)
        if missing:
            _refill(reader, writer, cursor, segments)
            refilled += missing
    return Rebuilt(len(cursors), refilled, tuple(notes))


# --- numbers that must not be given out twice -------------------------------------------------------------------------
def _raise_sequences(reader: redis.Redis, segments: Path) -> list[str]:
    """A database from yesterday would give out tokens and epochs that Redis and the segments know already."""
    fences = _largest(_keys(reader, "fence:*"), value_of=lambda key: int(cast("bytes", reader.get(key)) or 0))
    epochs = max(
        _largest(_keys(reader, "market_data:*"), value_of=lambda key: int(key.split(b":")[1])),
        max((int(folder.name) for folder in segments.glob("[0-9]*") if folder.is_dir()), default=0),
    )
    raised = [_raise(TOKEN_SEQUENCE, fences, "ingest token"), _raise(EPOCH_SEQUENCE, epochs, "feed epoch")]
    return [words for words in raised if words]


def _keys(reader: redis.Redis, pattern: str) -> Iterator[bytes]:
    return cast("Iterator[bytes]", reader.scan_iter(match=pattern, count=1_000))


def _largest(keys: Iterator[bytes], *, value_of: Any) -> int:
    return max((value_of(key) for key in keys), default=0)


def _raise(sequence: str, at_least: int, what: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT last_value FROM {sequence}")  # noqa: S608  (a constant of this module)
        last = int(cursor.fetchone()[0])
        if last >= at_least:
            return ""
        cursor.execute("SELECT setval(%s, %s)", [sequence, at_least])
    return f"the database is older than what it has given out: {what}s go on after {at_least}, not after {last}"


def _put_fence(epoch: FeedEpoch, reader: redis.Redis, writer: redis.Redis) -> list[str]:
    token = IngestLease.objects.filter(epoch=epoch).values_list("token", flat=True).first() or 0
    fence = int(cast("bytes | None", reader.get(streams.fence_key(epoch.pk))) or 0)
    if fence >= token:
        return []
    streams.assert_fence(writer, epoch.pk, token)
    return [f"the fence was {fence}: put back to {token}"]


# --- streams ----------------------------------------------------------------------------------------------------------
def _missing(reader: redis.Redis, cursor: ShardCursor, segments: Path) -> int:
    """How many entries behind `replay_from` the segments have and the stream has not: it was emptied, rolled back,
    or trimmed by what the database does not remember."""
    epoch, shard, start = cursor.epoch_id, cursor.shard, cursor.replay_from
    present = {entry for entry, _ in streams.scan(reader, epoch, shard, start=start)}
    stored = (entry for entry, _ in read_newest_segments(segments, epoch, shard, start=start))
    return sum(entry not in present and entry != start for entry in islice(stored, REFILL_ENTRIES_MAX))


def _refill(reader: redis.Redis, writer: redis.Redis, cursor: ShardCursor, segments: Path) -> None:
    """The stream anew, with all that segments and stream have behind `replay_from`.

    It is written beside the old one and takes its place in one step, with what an ingest has appended meanwhile:
    whoever is killed here leaves the old one.
    """
    key = streams.stream_key(cursor.epoch_id, cursor.shard)
    draft = f"{key}:refill"
    writer.delete(draft)
    count = 0
    pipe = writer.pipeline(transaction=False)
    for entry_id, payload in _merged(reader, cursor, segments):
        pipe.xadd(draft, {streams.FIELD: payload}, id=entry_id)
        count += 1
        if count % BATCH == 0:
            pipe.execute()
    pipe.execute()
    if count:
        writer.eval(_TAKE_PLACE, 2, key, draft)


def _merged(reader: redis.Redis, cursor: ShardCursor, segments: Path) -> Iterator[tuple[str, bytes]]:
    """What the stream has, from its beginning, and what only segments have behind `replay_from`; in stream order."""
    epoch, shard, start = cursor.epoch_id, cursor.shard, cursor.replay_from
    stored = (one for one in read_newest_segments(segments, epoch, shard, start=start) if one[0] != start)
    present = ((entry, payload or b"") for entry, payload in streams.scan(reader, epoch, shard, start=streams.START))
    last = (-1, -1)
    for entry_id, payload in heapq.merge(
        islice(stored, REFILL_ENTRIES_MAX), present, key=lambda entry: streams.entry_order(entry[0])
    ):
        order = streams.entry_order(entry_id)
        if order > last:
            last = order
            yield entry_id, payload
