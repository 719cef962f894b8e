"""Retention: raw segments that are archived and old enough, and days of the archive that are too old.

What was imported stays until somebody names it; so does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apps.bus.streams import entry_order
from apps.market.archive.carrying import RECORDING
from apps.market.archive.keeping import key_of
from apps.market.archive.layout import DAY_MS, KINDS, Folder, day_of, folders, locked, read_meta
from apps.market.archive.moving import ShardFiles
from apps.market.models import FeedEpoch, ShardCursor
from apps.market.segments import shard_folder

REPLAY: Final = "replay"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be."""

    segment_files: int = 0
    segment_bytes: int = 0
    day_files: int = 0
    day_bytes: int = 0


def prune(
    *, root: Path, segments: Path, now_ms: int, archive_days: int, segment_days: int, dry_run: bool = False
) -> Pruned:
    """Remove what is past its time: days by their date; days of a replay, whose dates mean nothing, by their age."""
    old_segments = list(_old_segments(root, segments, now_ms - segment_days * DAY_MS))
    old_days = [path for folder in folders(root) for path in _old_days(folder, now_ms - archive_days * DAY_MS)]
    found = Pruned(len(old_segments), _bytes(old_segments), len(old_days), _bytes(old_days))
    if not dry_run:
        _remove([*old_segments, *old_days])
    return found


def prune_key(folder: Folder, *, before_day: str, dry_run: bool = False) -> Pruned:
    """Remove the days of one archive before this one, whatever kind of archive it is. Raises `ArchiveError`."""
    read_meta(folder)
    old = [path for _, day, _, path in folder.files() if day < before_day]
    found = Pruned(day_files=len(old), day_bytes=_bytes(old))
    if not dry_run:
        with locked(folder):
            _remove(old)
    return found


def _bytes(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _remove(paths: list[Path]) -> None:
    """Files first, then the folders that they leave empty."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        if folder.is_dir() and folder.parent.name in KINDS and not any(folder.iterdir()):
            folder.rmdir()


def _old_segments(root: Path, segments: Path, before_ms: int) -> Iterator[Path]:
    """Segments that nobody reads again: archived to their last byte, replayed past, and not written to for long.

    The newest file of a shard stays while its epoch runs: a drain may be writing to it.
    """
    for epoch in FeedEpoch.objects.order_by("id"):
        folder = Folder(root, key_of(epoch))
        for cursor in ShardCursor.objects.filter(epoch=epoch).order_by("shard"):
            place = shard_folder(segments, epoch.pk, cursor.shard)
            if not place.is_dir() or not (folder.parts / str(cursor.shard)).is_dir():
                continue
            state = ShardFiles(folder, cursor.shard).load()
            if entry_order(state.standing.position) > entry_order(cursor.replay_from) and epoch.ended_at is None:
                continue  # archived further than was replayed: a drain that starts now may read these again
            files = sorted(place.glob("*.seg"))
            for path in files if epoch.ended_at is not None else files[:-1]:
                size = path.stat().st_size
                if state.offsets.get(path.name) == size and path.stat().st_mtime_ns // 1_000_000 < before_ms:
                    yield path


def _old_days(folder: Folder, before_ms: int) -> Iterator[Path]:
    meta = read_meta(folder)
    if meta.kind == RECORDING:
        return
    for _, day, _, path in folder.files():
        by_age = path.stat().st_mtime_ns // 1_000_000 < before_ms
        if by_age if meta.kind == REPLAY else day < day_of(before_ms):
            yield path
