"""Draining one shard: the one transaction in which the stream becomes bars, coverage and signals.

Order matters (model-checked): lock the cursor, then clear the flag, then read, compute, commit, then look at the flag
again. Whoever does not get the lock leaves at once: the holder looks again after its commit, and the steward rings for
any shard whose tail is ahead of what was seen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
from django.db import transaction

from apps.bus import codec, streams
from apps.bus.failpoints import failpoint
from apps.engine.fence import Fence
from apps.engine.shard import Effects
from apps.market.models import DeadEntry, ShardCursor
from apps.market.services import bars
from apps.market.services.ledger import store_coverage
from apps.market.services.longer_bars import store_longer_bars
from apps.outbox.reads import Read
from apps.outbox.services import record
from apps.portfolio.models import Reservation
from apps.signals.models import Signal
from apps.signals.services import exits, state
from apps.signals.services.failures import store_failures
from apps.signals.services.raising import entry_rows, refuse, store_calls, store_new
from apps.signals.services.schedules import minute_touched, note_evaluated
from apps.signals.services.state import WarmShard

log = logging.getLogger(__name__)

ENTRIES_PER_READ: Final = 64
READS_PER_TASK: Final = 50


@dataclass(frozen=True, slots=True)
class Tools:
    """What the drain needs from the outside."""

    writer: redis.Redis
    reader: redis.Redis
    segments: Path
    engine_hash: str
    entries_per_read: int = ENTRIES_PER_READ


@dataclass(frozen=True, slots=True)
class Drained:
    """What one look found. `orders_waiting`: open orders of this shard may meet their quote now."""

    locked: bool
    entries: int = 0
    signals: int = 0
    more: bool = False
    orders_waiting: bool = False


_CURSOR = Read(
    lambda epoch, shard: ShardCursor.objects.select_for_update(skip_locked=True).filter(epoch_id=epoch, shard=shard),
    int, int,
)  # fmt: skip
_PROMISED = Read(
    lambda account: Reservation.objects.filter(account_id=account, active=True).values_list("instrument_id", flat=True),
    int,
)

_warm: dict[tuple[int, int], WarmShard] = {}


def forget() -> None:
    """Drop the warm state of this process; the next drain loads it from where correctness rests."""
    for warm in _warm.values():
        warm.writer.close()
    _warm.clear()


def positions(epoch: int) -> dict[int, str]:
    """How far each shard has been read whose state is warm in this process."""
    return {shard: warm.position for (of_epoch, shard), warm in _warm.items() if of_epoch == epoch}


def drain_shard(*, epoch: int, shard: int, tools: Tools) -> Drained:
    """Drain what waits, in several transactions if there is much. Raises nothing that a later call would not mend."""
    total = Drained(locked=False)
    for _ in range(READS_PER_TASK):
        found = drain_once(epoch=epoch, shard=shard, tools=tools)
        total = Drained(
            locked=found.locked,
            entries=total.entries + found.entries,
            signals=total.signals + found.signals,
            more=found.more,
            orders_waiting=total.orders_waiting or found.orders_waiting,
        )
        if found.locked or not found.more:
            return total
    return total


def drain_once(*, epoch: int, shard: int, tools: Tools, attended: bool = False) -> Drained:
    """One read of the stream in one transaction. An attended shard's flag is not touched (`services.attending`)."""
    failpoint("drain.before_lock")
    try:
        with transaction.atomic():
            cursor = _CURSOR.first(epoch, shard)
            if cursor is None:
                return Drained(locked=True)
            failpoint("drain.after_lock")
            if not attended:
                tools.writer.delete(streams.dirty_key(epoch, shard))
            warm = _trusted(cursor, tools)
            state.follow_schedule(warm)
            rows = _next_rows(warm, tools)
            failpoint("drain.after_read")
            signals = _process(cursor, warm, rows, tools)
            failpoint("drain.before_commit")
    except BaseException:
        # The memory may be ahead of what was committed, or half way through an entry.
        gone = _warm.pop((epoch, shard), None)
        if gone is not None:
            gone.writer.close()
        raise
    failpoint("drain.after_commit")
    full = len(rows) == tools.entries_per_read
    dirty = not attended and bool(tools.reader.exists(streams.dirty_key(epoch, shard)))
    return Drained(False, len(rows), signals, full or dirty, bool(rows) and _orders_wait(warm))


def _trusted(cursor: ShardCursor, tools: Tools) -> WarmShard:
    """The state in memory if it ended where the cursor says, else the stored one."""
    key = (cursor.epoch_id, cursor.shard)
    warm = _warm.get(key)
    if warm is None or warm.position != cursor.seen_through:
        if warm is not None:
            warm.writer.close()
        warm = state.load(cursor=cursor, segments=tools.segments, engine_hash=tools.engine_hash)
        _warm[key] = warm
    return warm


def _next_rows(warm: WarmShard, tools: Tools) -> list[tuple[str, bytes | None]]:
    """The next entries in order, those of the segments that nobody has counted since the checkpoint among them."""
    count = tools.entries_per_read
    rows = streams.read(tools.reader, warm.epoch_id, warm.shard, after=warm.position, count=count)
    stored = warm.stored.look(count)
    if not stored:
        return rows
    return sorted({**dict(rows), **dict(stored)}.items(), key=lambda row: streams.entry_order(row[0]))[:count]


def _keep(warm: WarmShard, rows: list[tuple[str, bytes | None]]) -> None:
    """Put on disk what is not there yet. The last act before the commit: what fails before it leaves no trace here."""
    if not rows:
        return
    there = warm.stored.pass_by(rows[-1][0])
    warm.writer.append([(entry_id, payload or b"") for entry_id, payload in rows if entry_id not in there])
    warm.recent.extend(entry_id for entry_id, _ in rows)


def _process(cursor: ShardCursor, warm: WarmShard, rows: list[tuple[str, bytes | None]], tools: Tools) -> int:
    """Apply the entries and store what follows from them. Returns the number of new signals."""
    positions = exits.refresh(warm)
    if not rows and positions is None:
        return 0
    batch = _decode(cursor, rows)
    state.follow_new(warm, batch)
    if rows:
        touched = max((minute_touched(events) for _, events in batch), default=-1)
        warm.evaluated = note_evaluated(cursor, warm.evaluated, touched)
    found = exits.begin(client=tools.reader, segments=tools.segments, warm=warm, positions=positions)
    admitted = exits.admitted(batch, Fence(warm.engine.fence.token))
    effects = Effects()
    for entry_id, events in batch:
        step = warm.engine.apply(entry_id, events)
        if step.errors:
            _set_aside(cursor, entry_id, "; ".join(step.errors))
        effects.extend(step)
    if rows:
        warm.position = rows[-1][0]
        warm.entries += len(rows)
    raised = [
        row for signal in effects.signals for row in entry_rows(signal, warm.instruments[signal.symbol], warm.bindings)
    ]
    refuse([row for row in raised if row.unproven_minutes])
    calls = store_calls(warm.epoch_id, warm.instruments, effects.signals)
    found += exits.follow(warm, admitted, calls)
    fresh = store_new([row for row in raised if not row.unproven_minutes] + found)
    for row in fresh:
        record("SignalRaised", signal_id=row.pk)
    store_failures(bindings=warm.bindings, shard=cursor.shard, failed=effects.failed)
    _move(cursor, warm, effects, fresh)
    _keep(warm, rows)
    return len(fresh)


def _decode(cursor: ShardCursor, rows: list[tuple[str, bytes | None]]) -> exits.Batch:
    batch: exits.Batch = []
    for entry_id, payload in rows:
        try:
            batch.append((entry_id, codec.decode(payload or b"")))
        except codec.CodecError as error:
            _set_aside(cursor, entry_id, str(error))
    return batch


def _set_aside(cursor: ShardCursor, entry_id: str, reason: str) -> None:
    log.warning("entry %s of shard %d set aside: %s", entry_id, cursor.shard, reason)
    DeadEntry.objects.get_or_create(
        epoch_id=cursor.epoch_id, shard=cursor.shard, entry_id=entry_id, defaults={"reason": reason[:200]}
    )


def _move(cursor: ShardCursor, warm: WarmShard, effects: Effects, fresh: list[Signal]) -> None:
    """Move the cursor: `seen_through` always, `replay_from` together with everything that was derived up to there."""
    cursor.seen_through = warm.position
    cursor.processed = warm.engine.processed
    cursor.evaluated = warm.engine.evaluated
    cursor.watermark_ms = warm.engine.watermark_ms
    cursor.closed_minute = warm.engine.closed_minute
    changed = ["seen_through", "processed", "evaluated", "watermark_ms", "closed_minute", "updated_at"]
    if effects.move_state:
        epoch_id, instruments = cursor.epoch_id, warm.instruments
        bars.store_bars(epoch_id=epoch_id, instruments=instruments, bars=effects.bars)
        bars.change_bars(epoch_id=epoch_id, instruments=instruments, changes=effects.changes)
        store_coverage(epoch_id=epoch_id, instruments=instruments, changes=effects.coverage)
        store_longer_bars(
            epoch_id=epoch_id,
            instruments=instruments,
            bars=effects.bars,
            changes=effects.changes,
            coverage=effects.coverage,
        )
        state.save(cursor=cursor, warm=warm)
        exits.save_watches(warm)
        cursor.replay_from = warm.position
        cursor.replay_entries = warm.entries
        changed += ["replay_from", "replay_entries"]
    elif not fresh:
        bars.without_synchronous_commit()
    cursor.save(update_fields=changed)


def _orders_wait(warm: WarmShard) -> bool:
    own = {row.pk for row in warm.instruments.values()}
    return any(instrument in own for account in warm.portfolio_epochs for instrument in _PROMISED.rows(account))
