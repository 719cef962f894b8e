"""Keeping the connections' changes of state: a bounded history, copied from where the ingest reports them."""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
import redis
from django.db import transaction

from apps.bus import streams
from apps.market.models import FeedTransition
from apps.staff import times

log = logging.getLogger(__name__)

KEEP_MAX: Final = 10_000
COPY_MAX: Final = 1_000
UNREADABLE: Final = "unreadable"


class Report(msgspec.Struct, frozen=True):
    """One change of state as the ingest writes it. Times are wall clock, ms; ages of the socket, ms."""

    connection: str
    at_ms: int
    from_state: str | None = msgspec.field(name="from")
    to_state: str = msgspec.field(name="to")
    category: str
    token: int = 0
    reason: str | None = None
    closed_by: str | None = None
    code: int | None = None
    age_ms: int | None = None
    last_frame_age_ms: int | None = None
    last_pong_age_ms: int | None = None
    bytes_in: int | None = None
    subscriptions: int | None = None


_decoder: Final = msgspec.json.Decoder(Report)


def copy_transitions(*, epoch: int, client: redis.Redis) -> int:
    """Store what was reported since the last copy, drop the oldest beyond 10,000. Returns how many were new.

    Raises `redis.RedisError`. Each is stored once, however often it is read.
    """
    newest = FeedTransition.objects.filter(epoch_id=epoch).order_by("-pk").values_list("entry_id", flat=True).first()
    key = streams.transitions_key(epoch)
    rows: Any = client.xrange(key, min=f"({newest or streams.START}", count=COPY_MAX)
    if not rows:
        return 0
    entries = [_row(epoch, entry_id.decode(), fields.get(streams.FIELD)) for entry_id, fields in rows]
    with transaction.atomic():
        FeedTransition.objects.bulk_create(entries, ignore_conflicts=True)
        prune_transitions(epoch=epoch)
    return len(entries)


def prune_transitions(*, epoch: int, keep: int = KEEP_MAX) -> int:
    """Drop all but the newest. Returns how many."""
    rows = FeedTransition.objects.filter(epoch_id=epoch)
    oldest_kept = rows.order_by("-pk").values_list("pk", flat=True)[keep - 1 : keep].first()
    return 0 if oldest_kept is None else rows.filter(pk__lt=oldest_kept).delete()[0]


def _row(epoch: int, entry_id: str, payload: bytes | None) -> FeedTransition:
    """A report that cannot be read is kept as such: the history has no hole, and the copy does not stop at it."""
    at_ms = streams.entry_order(entry_id)[0]
    try:
        report = _decoder.decode(payload or b"")
    except msgspec.MsgspecError as error:
        log.warning("transition %s of epoch %d cannot be read: %s", entry_id, epoch, error)
        report = Report("?", at_ms, "", "?", UNREADABLE, reason=str(error))
    return FeedTransition(
        epoch_id=epoch,
        entry_id=entry_id,
        token=report.token,
        connection=report.connection[:40],
        at=times.moment(report.at_ms),
        from_state=(report.from_state or "")[:20],
        to_state=report.to_state[:20],
        category=report.category[:40],
        reason=(report.reason or "")[:200],
        closed_by=(report.closed_by or "")[:20],
        code=report.code,
        age_ms=report.age_ms,
        last_frame_age_ms=report.last_frame_age_ms,
        last_pong_age_ms=report.last_pong_age_ms,
        bytes_in=report.bytes_in,
        subscriptions=report.subscriptions,
    )
