"""The steward's duties. Each looks for itself; none remembers anything that would be missed after a restart."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

import redis
from celery import current_app
from django.conf import settings
from django.utils import timezone

from apps.bus import streams
from apps.bus.workers import Heart
from apps.execution.selectors import oldest_needed_entry
from apps.execution.services import settle_stuck
from apps.market.models import EpochInstrument, FeedConnection, FeedEpoch, IngestRun, ShardCursor
from apps.market.selectors import closed_minute, current_epoch
from apps.market.services.orders import exchange_orders
from apps.market.services.transitions import copy_transitions
from apps.ops.services.activity import watch_activity
from apps.ops.services.session_ends import end_due
from apps.ops.steward.loop import Chore
from apps.ops.steward.pauses import Pauses
from apps.ops.steward.watching import watch
from apps.outbox.relay import publish_pending
from apps.outbox.services import Payload, ring, task_of
from apps.portfolio.models import Account, Position
from apps.portfolio.selectors import closes_at, current_session
from apps.portfolio.services import record_equity
from apps.risk.services import undecided_signals
from apps.risk.services.watchdog import Watchdog
from apps.signals.models import ExitWatch

UNSEEN_MAX_MS: Final = 1_000
UNDECIDED_MAX_MS: Final = 2_000
RETENTION_MS: Final = 15 * 60_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Duties:
    """The chores with the clients they share."""

    reader: redis.Redis
    writer: redis.Redis
    rung_at: dict[int, str] = field(default_factory=dict)
    dog: Watchdog = field(default_factory=Watchdog)
    is_heard: bool = False
    pauses: Pauses = field(init=False)

    def __post_init__(self) -> None:
        self.pauses = Pauses(self.reader)

    def chores(self) -> list[Chore]:
        return [
            Chore("ring for unread shards", 0.5, self.ring_unread),
            Chore("publish waiting events", 0.5, self.relay),
            Chore("ring for undecided signals", 1.0, self.ring_undecided),
            Chore("settle stuck orders", 1.0, self.settle),
            Chore("watch losses, exposure and the order path", 1.0, self.watch),
            Chore("note what the ingest reports", 0.5, self.note_feed),
            Chore("pass orders to the ingest", 1.0, self.pass_orders),
            Chore("keep the connections' history", 1.0, self.keep_transitions),
            Chore("record equity", 1.0, self.record_equity),
            Chore("end sessions whose time is over", 1.0, self.end_sessions),
            Chore("watch for a day without trades", 60.0, self.watch_activity),
            Chore("trim streams", 30.0, self.trim),
            Chore("heartbeat", 2.0, self.heartbeat),
        ]

    # --- wake-ups that were lost ----------------------------------------------------------------------------------

    def ring_unread(self) -> None:
        """A shard whose tail stood ahead of what was seen at the last look too, and was not read since, is woken."""
        epoch = current_epoch()
        if epoch is None:
            return
        task = settings.PIPELINE_ROUTES["MarketDataPublished"]
        for cursor in ShardCursor.objects.filter(epoch=epoch):
            tail = streams.last_id(self.reader, epoch.pk, cursor.shard)
            unread = streams.entry_order(tail) > streams.entry_order(cursor.seen_through)
            if unread and self.rung_at.get(cursor.shard) == cursor.seen_through:
                kwargs, queue = {"epoch": epoch.pk, "shard": cursor.shard}, f"shard.{cursor.shard}"
                if self.pauses.is_due(queue, ("unread", epoch.pk, cursor.shard)):
                    current_app.send_task(task, kwargs=kwargs, queue=queue, retry=False)
            self.rung_at[cursor.shard] = cursor.seen_through if unread else ""

    def relay(self) -> None:
        publish_pending(now=timezone.now())

    def ring_undecided(self) -> None:
        for signal_id in undecided_signals(older_than_ms=UNDECIDED_MAX_MS):
            self.ring("SignalRaised", {"signal_id": signal_id})

    def settle(self) -> None:
        settle_stuck(now_ms=now_ms(), sender=self.ring)

    def ring(self, event_type: str, payload: Payload) -> None:
        """Wake somebody unless his bell still waits to be heard. Raises one of `BROKER_ERRORS`."""
        queue = current_app.conf.task_routes[task_of(event_type)]["queue"]
        if self.pauses.is_due(queue, (event_type, *sorted(payload.items()))):
            ring(event_type, payload)

    def watch(self) -> None:
        session = current_session()
        if session is not None:
            watch(self.dog, session=session, reader=self.reader, now_ms=now_ms())

    # --- what only passes by --------------------------------------------------------------------------------------

    def note_feed(self) -> None:
        """Keep the ingest's own report in PostgreSQL: counts per run, the last state of each connection."""
        epoch = current_epoch()
        raw = cast("bytes | None", self.reader.get(streams.feed_state_key(epoch.pk))) if epoch else None
        if epoch is None or raw is None:
            return
        report: dict[str, Any] = json.loads(raw)
        IngestRun.objects.get_or_create(token=report["token"], defaults={"epoch": epoch})
        IngestRun.objects.filter(epoch=epoch, token=report["token"]).update(
            last_seen_at=_moment(report["written_ms"]), dropped=report["dropped"], **report["counts"]
        )
        for row in report["connections"]:
            _note_connection(epoch, row)

    def pass_orders(self) -> None:
        """Which symbols to follow, which minutes to repair; and what became of those asked for before."""
        epoch = current_epoch()
        if epoch is not None:
            exchange_orders(epoch=epoch.pk, client=self.writer, now_ms=now_ms())

    def keep_transitions(self) -> None:
        epoch = current_epoch()
        if epoch is not None:
            copy_transitions(epoch=epoch.pk, client=self.reader)

    def record_equity(self) -> None:
        """The worth of each account at the last minute that every shard has closed."""
        session = current_session()
        if session is None:
            return
        minute = closed_minute(epoch_id=session.epoch_id)
        if minute is None:
            return
        marks = closes_at(epoch_id=session.epoch_id, minute=minute)
        for account in Account.objects.filter(session=session):
            record_equity(account=account, minute=minute, marks=marks)

    def end_sessions(self) -> None:
        """A block of days that is over opens nothing more and ends with its last position."""
        end_due(now=timezone.now())

    def trim(self) -> None:
        """Drop entries that every reader has passed by 15 minutes: the drain, exit searches, open paper orders."""
        epoch = current_epoch()
        if epoch is None:
            return
        for cursor in ShardCursor.objects.filter(epoch=epoch):
            needed = [streams.entry_order(cursor.replay_from)[0], *self._needed_by_trading(epoch, cursor.shard)]
            limit = min(needed) - RETENTION_MS
            if limit > 0:
                streams.trim_before(self.writer, epoch.pk, cursor.shard, f"{limit}-0")

    def _needed_by_trading(self, epoch: FeedEpoch, shard: int) -> list[int]:
        members = EpochInstrument.objects.filter(epoch=epoch, shard=shard).values("instrument")
        unwatched = Position.objects.filter(
            status=Position.Status.OPEN, instrument__in=members, account__session__epoch=epoch
        ).exclude(pk__in=ExitWatch.objects.values("position"))
        entries = list(unwatched.values_list("trigger_entry", flat=True))
        order = oldest_needed_entry(epoch=epoch.pk, shard=shard)
        return [streams.entry_order(entry)[0] for entry in [*entries, *([order] if order else [])]]

    def watch_activity(self) -> None:
        watch_activity(now_ms=now_ms())

    def heartbeat(self) -> None:
        self.writer.set(streams.heartbeat_key("steward"), now_ms(), ex=3600)
        heart = Heart(self.writer, name="steward", version=settings.CODE_HASH)
        if not self.is_heard:  # who was there before this start
            heart.forget_silent(now_ms())
            self.is_heard = True
        heart.beat(now_ms())


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, tz=UTC)


def _note_connection(epoch: FeedEpoch, row: Mapping[str, Any]) -> None:
    FeedConnection.objects.update_or_create(
        epoch=epoch,
        name=row["name"],
        defaults={
            "state": row["state"],
            "reason": (row["reason"] or "")[:200],
            "since": _moment(row["since_ms"]),
            "last_frame_at": _moment(row["last_frame_ms"]),
            "last_pong_at": _moment(row["last_pong_ms"]),
            "subscriptions": row["subscriptions"],
            "refused": row["refused"],
            "reconnects": row["reconnects"],
        },
    )
