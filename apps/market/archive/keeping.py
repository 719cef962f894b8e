"""Keeping the archive of running and ended epochs: each minute by a task, at once by `manage.py archive flush`.

A failure is stored, logged and tried again; it reaches nobody who trades.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from django.utils.text import slugify

from apps.market.archive import covering
from apps.market.archive.layout import (
    META,
    ArchiveBusy,
    ArchiveError,
    Folder,
    Meta,
    locked,
    merged_instruments,
    read_meta,
    write_meta,
)
from apps.market.archive.moving import Moved, ShardMover, prepare
from apps.market.models import ArchivedShard, EpochInstrument, FeedEpoch, Instrument

log = logging.getLogger(__name__)

# A drain may still be reading the end of a stream whose epoch has just ended.
ENDED_AFTER: Final = timedelta(minutes=2)
# Repairs of a day come while it lasts and soon after.
COVERED_AGAIN_DAYS: Final = 2
ERROR_MAX: Final = 300
FINISHED: Final = ".finished"  # a file that says that nothing more will come of this epoch


@dataclass(frozen=True, slots=True)
class Kept:
    """What one call did, over all epochs."""

    slices: int = 0
    trades: int = 0
    quotes: int = 0
    settled: int = 0
    errors: tuple[str, ...] = ()

    def plus(self, moved: Moved) -> Kept:
        return Kept(
            self.slices + moved.slices, self.trades + moved.trades, self.quotes + moved.quotes,
            self.settled + moved.settled, self.errors,
        )  # fmt: skip

    def failed(self, words: str) -> Kept:
        return Kept(self.slices, self.trades, self.quotes, self.settled, (*self.errors, words))


def key_of(epoch: FeedEpoch) -> str:
    """A name that no other machine and no restored database gives to another feed."""
    return f"{slugify(epoch.source)[:40] or epoch.kind}-{epoch.pk}-{epoch.started_at:%Y%m%dT%H%M%S%f}"


def instrument_row(row: Instrument) -> dict[str, Any]:
    """An instrument as an `.instruments.json` has it."""
    return {
        "baseAsset": row.base_asset,
        "quoteAsset": row.quote_asset,
        "baseAssetPrecision": row.quantity_decimals,
        "quotePrecision": row.price_decimals,
        "baseSizePrecision": _text(row.quantity_min),
        "quoteAmountPrecision": _text(row.notional_min),
        "maxQuoteAmount": _text(row.notional_max),
        "makerCommission": _text(row.maker_fee),
        "takerCommission": _text(row.taker_fee),
    }


def _text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def archive_due(*, root: Path, segments: Path, now_ms: int, enough: Callable[[], bool]) -> Kept:
    """Move what has ended of every epoch that is not finished, newest first. Stops when `enough` says so."""
    kept = Kept()
    ended = datetime.fromtimestamp(now_ms / 1000, UTC) - ENDED_AFTER
    for epoch in FeedEpoch.objects.order_by("-id"):
        if enough():
            break
        if (segments / str(epoch.pk)).is_dir() and not (Folder(root, key_of(epoch)).path / FINISHED).exists():
            over = epoch.ended_at is not None and epoch.ended_at < ended
            kept = archive_epoch(
                epoch=epoch,
                root=root,
                segments=segments,
                now_ms=now_ms,
                enough=enough,
                whole=over,
                finish=over,
                so_far=kept,
            )
    return kept


def archive_epoch(
    *,
    epoch: FeedEpoch,
    root: Path,
    segments: Path,
    now_ms: int,
    enough: Callable[[], bool],
    whole: bool = False,
    finish: bool = False,
    so_far: Kept | None = None,
) -> Kept:
    """Move one epoch. With `whole` everything that was read goes into day files, open slices and open days too.

    With `finish` the epoch is not looked at again once everything is there. A failure of one shard stops no other.
    """
    folder = Folder(root, key_of(epoch))
    kept = so_far or Kept()
    try:
        with locked(folder):
            prepare(folder)
            shards = _describe(folder, epoch)
            done = True
            for shard, symbols in sorted(shards.items()):
                kept, complete = _move_shard(folder, segments, epoch, shard, symbols, now_ms, enough, whole, kept)
                done &= complete
            if kept.slices or whole:
                _cover(folder, epoch, whole=whole)
            if finish and done and not kept.errors:
                (folder.path / FINISHED).touch()
    except ArchiveBusy:
        return kept  # whoever holds the lock does what this call would have done
    except (OSError, ArchiveError) as error:
        log.warning("archive of epoch %d: %s", epoch.pk, error)
        _note_failure(epoch, range(epoch.shard_count), str(error), now_ms)
        kept = kept.failed(str(error))
    return kept


def _describe(folder: Folder, epoch: FeedEpoch) -> dict[int, list[str]]:
    """Write down what the folder holds. Returns the symbols of each shard."""
    members = EpochInstrument.objects.filter(epoch=epoch).select_related("instrument")
    rows: dict[str, dict[str, Any]] = {}
    shards: dict[int, list[str]] = {}
    for member in members.order_by("instrument__symbol"):
        rows[member.instrument.symbol] = instrument_row(member.instrument)
        shards.setdefault(member.shard, []).append(member.instrument.symbol)
    known = (folder.path / META).exists()
    meta = read_meta(folder) if known else Meta(epoch.source, epoch.kind, epoch.description, {})
    write_meta(folder, merged_instruments(meta, rows))
    return shards


def _move_shard(
    folder: Folder,
    segments: Path,
    epoch: FeedEpoch,
    shard: int,
    symbols: list[str],
    now_ms: int,
    enough: Callable[[], bool],
    whole: bool,
    kept: Kept,
) -> tuple[Kept, bool]:
    """(what was done so far, whether nothing of the shard is left)."""
    try:
        mover = ShardMover(folder, segments=segments, epoch=epoch.pk, shard=shard, symbols=symbols)
        moved = Moved()
        if whole or mover.may_have_closed(now_ms):
            moved = mover.collect(enough=enough, whole=whole)
        settled = mover.settle(enough=enough, every=whole)
    except (OSError, ArchiveError) as error:
        log.warning("archive of shard %d of epoch %d: %s", shard, epoch.pk, error)
        _note_failure(epoch, [shard], str(error), now_ms)
        return kept.failed(f"shard {shard}: {error}"), False
    _note(epoch, shard, mover, moved, now_ms)
    kept = kept.plus(Moved(moved.slices, moved.trades, moved.quotes, settled))
    return kept, whole and not mover.state.parts and not enough()


def _cover(folder: Folder, epoch: FeedEpoch, *, whole: bool) -> None:
    days = covering.ledger_days(epoch_id=epoch.pk)
    covering.write_coverage(folder, epoch_id=epoch.pk, days=days if whole else days[-COVERED_AGAIN_DAYS:])


# --- the row that people read -----------------------------------------------------------------------------------------


def _note(epoch: FeedEpoch, shard: int, mover: ShardMover, moved: Moved, now_ms: int) -> None:
    standing = mover.state.standing
    values: dict[str, Any] = {
        "archived_through": standing.position,
        "trades": standing.counts["trades"],
        "quotes": standing.counts["quotes"],
        "failures": 0,
    }
    if moved.slices:
        values["moved_at"] = datetime.fromtimestamp(now_ms / 1000, UTC)
    ArchivedShard.objects.update_or_create(epoch=epoch, shard=shard, defaults=values)


def _note_failure(epoch: FeedEpoch, shards: Iterable[int], error: str, now_ms: int) -> None:
    for shard in shards:
        row, _ = ArchivedShard.objects.get_or_create(epoch=epoch, shard=shard)
        row.failures += 1
        row.error = error[:ERROR_MAX]
        row.failed_at = datetime.fromtimestamp(now_ms / 1000, UTC)
        row.save(update_fields=["failures", "error", "failed_at"])
