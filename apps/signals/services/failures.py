"""A strategy that raises: stored with an alert, disabled in all shards, and put back by a person.

The shard in which it raised judges nothing more with it from that trade on, by itself. The drain stores that in the
transaction of the batch. The others follow from the next minute that nobody has evaluated, through the schedule, so
that every replay sees the same. That takes the locks of all cursors in their order, which a drain that holds its own
must not ask for: so it is a transaction of its own, woken by an event that the drain stores with the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Final

from django.db.models import QuerySet

from apps.alerts.models import Alert
from apps.alerts.services import in_a_line, raise_alert, settle
from apps.engine.model import FailedStrategy
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.signals.models import ParameterSchedule, SessionStrategy, StrategyFailure, StrategyVersion
from apps.signals.services.schedules import set_enabled
from apps.signals.services.versions import SYSTEM, refuse_nameless

log = logging.getLogger(__name__)

WORDS_MAX: Final = 200


def store_failures(*, bindings: list[SessionStrategy], shard: int, failed: Iterable[FailedStrategy]) -> None:
    """Store what a batch found to fail, raise alerts and wake who disables it. Part of the drain's transaction."""
    for gone in failed:
        log.error("version %d disabled in shard %d: %s %s", gone.version_id, shard, gone.symbol, gone.words)
        sessions = {row.session_id: row for row in bindings if row.version_id == gone.version_id}
        for binding in sessions.values():
            _store(binding, shard, gone)


def _store(binding: SessionStrategy, shard: int, gone: FailedStrategy) -> None:
    enabling = _schedule(binding).filter(enabled=True).order_by("-id").values_list("pk", flat=True).first()
    version = StrategyVersion.objects.select_related("strategy").get(pk=gone.judge_id or gone.version_id)
    row, is_new = StrategyFailure.objects.get_or_create(
        session_id=binding.session_id,
        base_id=binding.version_id,
        shard=shard,
        after_change=enabling or 0,
        defaults={
            "strategy_version": version,
            "symbol": gone.symbol,
            "ts_event": gone.ts_event,
            "words": in_a_line(gone.words)[:WORDS_MAX],
        },
    )
    if not is_new:
        return
    where = f"on {gone.symbol}" if gone.symbol else "before its first trade"
    raise_alert(
        kind=Alert.Kind.STRATEGY_FAILED,
        severity=Alert.Severity.WARNING,
        subject=subject_of(binding),
        words=f"{version} failed {where} and is disabled, the others go on ({row.words}).",
        session_id=binding.session_id,
    )
    record("StrategyFailed", failure_id=row.pk)


def subject_of(binding: SessionStrategy) -> str:
    """What an alert of a session's strategy is about."""
    return f"{binding.version.strategy} in session {binding.session_id}"


def disable_failed(*, failure_id: int) -> ParameterSchedule | None:
    """Disable a strategy that failed in all shards, from the next minute on. Repeatable; None if its session is over.

    Raises `ScheduleRefused` if the shards do not say how far they are.
    """
    return retry_tx(partial(_disable, failure_id))


def _disable(failure_id: int) -> ParameterSchedule | None:
    failure = StrategyFailure.objects.get(pk=failure_id)
    binding = _locked(failure.session_id, failure.base_id)
    failure.refresh_from_db()
    if failure.schedule is not None:
        return failure.schedule
    if binding.session.ended_at is not None:
        return None
    known = _schedule(binding).filter(enabled=False, pk__gt=failure.after_change).order_by("id").first()
    failure.schedule = known or set_enabled(
        binding=binding, enabled=False, set_by=SYSTEM, reason=f"it failed in shard {failure.shard}: {failure.words}"
    )
    failure.save(update_fields=["schedule"])
    return failure.schedule


def enable(*, binding_id: int, set_by: str, reason: str) -> ParameterSchedule:
    """A person lets a disabled strategy judge again; the alert of its failure is settled with it.

    Raises `ScheduleRefused`, and `VersionRefused` without a name or a reason.
    """
    refuse_nameless(set_by, reason)
    return retry_tx(partial(enable_now, binding_id=binding_id, set_by=set_by, reason=reason))


def enable_now(*, binding_id: int, set_by: str, reason: str) -> ParameterSchedule:
    """`enable` as part of the caller's transaction, which must hold no account's lock."""
    found = SessionStrategy.objects.only("session_id", "version_id").get(pk=binding_id)
    binding = _locked(found.session_id, found.version_id)
    row = set_enabled(binding=binding, enabled=True, set_by=set_by, reason=reason)
    settle(kind=Alert.Kind.STRATEGY_FAILED, subject=subject_of(binding), by=set_by, reason=f"enabled again: {reason}")
    log.warning("%s is enabled again from minute %d on by %s: %s", binding, row.from_minute, set_by, row.reason)
    return row


def disable(*, binding_id: int, set_by: str, reason: str) -> ParameterSchedule:
    """A person stops a strategy. Raises `ScheduleRefused`, and `VersionRefused` without a name or a reason."""
    refuse_nameless(set_by, reason)

    def change() -> ParameterSchedule:
        found = SessionStrategy.objects.only("session_id", "version_id").get(pk=binding_id)
        binding = _locked(found.session_id, found.version_id)
        return set_enabled(binding=binding, enabled=False, set_by=set_by, reason=reason)

    return retry_tx(change)


def _schedule(binding: SessionStrategy) -> QuerySet[ParameterSchedule]:
    return ParameterSchedule.objects.filter(session_id=binding.session_id, base_id=binding.version_id)


def _locked(session_id: int, base_id: int) -> SessionStrategy:
    """The session's strategy, locked so that changes of it come one after the other."""
    rows = SessionStrategy.objects.select_for_update(of=("self",)).select_related("session", "version__strategy")
    found = rows.filter(session_id=session_id, version_id=base_id).order_by("id").first()
    assert found is not None
    return found
