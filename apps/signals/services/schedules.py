"""Which version judges which minute of a running session, or that nobody does; why no minute is ever judged by two.

A change is from the next event minute on that no shard has evaluated anything of. Drains run at the same time in other
processes, so "no shard has" must stay true until the change is known to all of them. It does, because both sides lock
the same rows:

* A drain locks its shard's cursor, and only then (in a statement of its own: a locking read would still show the rows
  of the snapshot it began with) looks whether the schedule has grown. What it then evaluates is committed, together
  with the newest minute it has touched (`EvaluatedMinute`), before the lock goes.
* A change locks the cursors of all shards, in shard order, and only then reads those minutes. So every drain either
  has committed and its minute is read here, or has not begun and will read the change after this commits, or belongs
  to a transaction that will roll back. The first minute after all of those that were read is untouched, and whoever
  reaches it knows the change.

A commit of a drain that PostgreSQL loses in a crash (`seen_through` moves without waiting for the disk) loses the
evaluation with the minute: nothing of it was stored, entries are read again, and are judged by the schedule of then.
A drain that found its cursor locked by a change has left without looking; so a change rings for every shard afterwards,
and if the bell is lost the steward rings. The cursors are never locked together with an account.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from celery import current_app
from django.conf import settings
from django.db import transaction

from apps.bus.streams import START
from apps.engine.events import Backfill, Event, TradeBlock, WarmupBar, Watermark
from apps.engine.model import MINUTE_MS
from apps.market.models import ShardCursor
from apps.outbox.reads import Read
from apps.outbox.services import BROKER_ERRORS
from apps.portfolio.models import TradingSession
from apps.signals.models import EvaluatedMinute, ParameterSchedule, SessionStrategy, StrategyVersion


class ScheduleRefused(ValueError):
    """A change that cannot be scheduled; one line for whoever asked."""


_NEWEST = Read(
    lambda epoch: ParameterSchedule.objects.filter(session__epoch_id=epoch).order_by("-id").values_list("id")[:1], int
)  # fmt: skip


def newest_change(epoch_id: int) -> int:
    """The id of the last change of an epoch's sessions, 0 before the first. One query."""
    found = _NEWEST.first(epoch_id)
    return found[0] if found else 0


def changes_of(session_ids: Iterable[int]) -> list[ParameterSchedule]:
    """The changes of these sessions, in the order in which they were decided."""
    rows = ParameterSchedule.objects.filter(session__in=list(session_ids)).select_related("version__strategy")
    return list(rows.order_by("id"))


def version_in_force(binding: SessionStrategy) -> StrategyVersion:
    """The version that judges the binding's newest minutes, or will from the next one on or when it is enabled."""
    newest = _newest(binding)
    return binding.version if newest is None else newest.version


def is_enabled(binding: SessionStrategy) -> bool:
    """Whether anybody judges the binding's newest minutes, or will from the next one on."""
    newest = _newest(binding)
    return newest is None or newest.enabled


def _newest(binding: SessionStrategy) -> ParameterSchedule | None:
    rows = ParameterSchedule.objects.filter(session_id=binding.session_id, base_id=binding.version_id)
    return rows.select_related("version__strategy").order_by("-id").first()


def versions_of(binding: SessionStrategy) -> list[int]:
    """Ids of every version that a session's strategy has had."""
    scheduled = ParameterSchedule.objects.filter(session_id=binding.session_id, base_id=binding.version_id)
    return [binding.version_id, *scheduled.values_list("version_id", flat=True)]


def change_version(
    *, binding: SessionStrategy, version: StrategyVersion, set_by: str, reason: str
) -> ParameterSchedule:
    """From the next minute that no shard has evaluated, `version` judges for a session's strategy.

    One that is disabled stays so: it will judge by `version` when it is enabled. Part of the caller's transaction,
    which must hold no account's lock: the cursors stay locked until it ends. Raises `ScheduleRefused`.
    """
    _refuse_unfit(binding, version)
    cursors = lock_cursors(binding.session.epoch_id)
    row = ParameterSchedule.objects.create(
        session=binding.session,
        base_id=binding.version_id,
        version=version,
        from_minute=untouched_minute(cursors),
        enabled=is_enabled(binding),
        set_by=set_by,
        reason=reason[:200],
    )
    transaction.on_commit(partial(ring_shards, binding.session.epoch_id, [cursor.shard for cursor in cursors]))
    return row


def set_enabled(*, binding: SessionStrategy, enabled: bool, set_by: str, reason: str) -> ParameterSchedule:
    """From the next minute that no shard has evaluated, nobody judges for a session's strategy, or somebody again.

    It then begins anew, as if it had never judged. Sessions that share its evaluation share this. Part of the caller's
    transaction, which must hold no account's lock. Raises `ScheduleRefused`.
    """
    if binding.session.ended_at is not None:
        raise ScheduleRefused(f"{binding.session} has ended")
    epoch_id = binding.session.epoch_id
    cursors = lock_cursors(epoch_id)
    if is_enabled(binding) == enabled:
        raise ScheduleRefused(f"{binding.version.strategy} is {'enabled' if enabled else 'disabled'} already")
    sharing = SessionStrategy.objects.filter(
        session__epoch_id=epoch_id, session__ended_at=None, version_id=binding.version_id
    )
    minute = untouched_minute(cursors)
    rows = {}
    for other in sharing.select_related("session", "version__strategy").order_by("id"):
        if other.session_id not in rows:  # a session's books share it too
            rows[other.session_id] = ParameterSchedule.objects.create(
                session_id=other.session_id,
                base_id=other.version_id,
                version=version_in_force(other),
                from_minute=minute,
                enabled=enabled,
                set_by=set_by,
                reason=reason[:200],
            )
    transaction.on_commit(partial(ring_shards, epoch_id, [cursor.shard for cursor in cursors]))
    return rows[binding.session_id]


def _refuse_unfit(binding: SessionStrategy, version: StrategyVersion) -> None:
    if binding.session.ended_at is not None:
        raise ScheduleRefused(f"{binding.session} has ended")
    if version.strategy_id != binding.version.strategy_id:
        raise ScheduleRefused(f"{version} is no version of {binding.version.strategy}")
    if version.engine_hash != binding.version.engine_hash:
        raise ScheduleRefused(f"{version} was made for other engine sources; start a new session")
    others = TradingSession.objects.filter(
        epoch_id=binding.session.epoch_id, ended_at=None, strategies__version_id=binding.version_id
    ).exclude(pk=binding.session_id)
    if others.exists():
        raise ScheduleRefused(f"{others[0]} runs {binding.version} on the same feed: they share one evaluation")


def lock_cursors(epoch_id: int) -> list[ShardCursor]:
    """Every cursor of a feed, locked in shard order: no drain evaluates anything until the transaction ends."""
    return list(ShardCursor.objects.select_for_update().filter(epoch_id=epoch_id).order_by("shard"))


def untouched_minute(cursors: list[ShardCursor]) -> int:
    """The first minute after everything that has been evaluated. Meaningful while the cursors are locked.

    Raises `ScheduleRefused` if a shard was read by a program that did not note how far it was.
    """
    noted = dict(EvaluatedMinute.objects.filter(cursor__in=cursors).values_list("cursor_id", "minute"))
    for cursor in cursors:
        if cursor.pk not in noted and cursor.seen_through != START:
            raise ScheduleRefused(f"{cursor} does not say which minute it has evaluated; start a new session")
    return max(noted.values(), default=-1) + 1


def ring_shards(epoch_id: int, shards: list[int]) -> None:
    """Wake the drains that left while their cursors were locked. If the broker is away, the steward will."""
    task = settings.PIPELINE_ROUTES["MarketDataPublished"]
    try:
        for shard in shards:
            current_app.send_task(
                task, kwargs={"epoch": epoch_id, "shard": shard}, queue=f"shard.{shard}", retry=False
            )  # fmt: skip
    except BROKER_ERRORS:
        return


# --- the drain's side -------------------------------------------------------------------------------------------------


def minute_touched(events: Iterable[Event]) -> int:
    """The newest minute that these events evaluate, or work something out for; -1 for none."""
    newest = -1
    for event in events:
        if isinstance(event, TradeBlock):
            newest = max(newest, max(event.ts_event, default=-1) // MINUTE_MS)
        elif isinstance(event, Watermark):
            newest = max(newest, event.ts_event // MINUTE_MS)
        elif isinstance(event, WarmupBar | Backfill):
            newest = max(newest, event.minute + 1)
    return newest


def note_evaluated(cursor: ShardCursor, known: int | None, minute: int) -> int:
    """Store how far a shard has come, if that is news. Returns what is stored. `known`: what was stored before."""
    if known is not None and minute <= known:
        return known
    EvaluatedMinute.objects.update_or_create(cursor=cursor, defaults={"minute": minute})
    return minute
