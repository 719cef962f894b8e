"""What the archive holds, and how far behind the feed it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from apps.bus.streams import entry_order
from apps.market.archive.keeping import key_of
from apps.market.archive.layout import KINDS, PARTS, QUOTES, TRADES, Folder, folders, read_meta
from apps.market.models import ArchivedShard, ShardCursor


@dataclass(frozen=True, slots=True)
class HeldKey:
    """One archive."""

    key: str
    kind: str
    source: str
    description: str
    symbols: int
    first_day: str
    last_day: str
    trades: int
    quotes: int
    files: int
    bytes: int
    waiting_files: int  # slices whose day is not over


@dataclass(frozen=True, slots=True)
class Behind:
    """One shard of a feed that is being archived."""

    key: str
    shard: int
    archived_through: str
    behind_ms: int | None  # between the last entry that was read and the last that is archived; None: nothing read
    trades: int
    quotes: int
    failures: int
    error: str


@dataclass(frozen=True, slots=True)
class Standing:
    """`shards` is None where the database could not be asked."""

    root: str
    keys: list[HeldKey] = field(default_factory=list)
    shards: list[Behind] | None = None

    def row(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def failing(self) -> bool:
        return any(shard.failures for shard in self.shards or ())


def held(root: Path) -> list[HeldKey]:
    """Every archive under a folder. Raises `ArchiveError` for one that cannot be read."""
    return [_held(folder) for folder in folders(root)]


def _held(folder: Folder) -> HeldKey:
    meta = read_meta(folder)
    files: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    days = set()
    for kind, day, _, path in folder.files():
        files[kind].append(path)
        days.add(day)
    every = [path for paths in files.values() for path in paths]
    return HeldKey(
        key=folder.key,
        kind=meta.kind,
        source=meta.source,
        description=meta.description,
        symbols=len(meta.instruments),
        first_day=min(days, default=""),
        last_day=max(days, default=""),
        trades=_rows(files[TRADES]),
        quotes=_rows(files[QUOTES]),
        files=len(every),
        bytes=sum(path.stat().st_size for path in every),
        waiting_files=sum(1 for _ in (folder.path / PARTS).glob("*/*.parquet")),
    )


def _rows(paths: list[Path]) -> int:
    return int(pl.scan_parquet(paths, glob=False).select(pl.len()).collect().item()) if paths else 0


def behind() -> list[Behind]:
    """Every shard that the archive knows, newest epoch first."""
    cursors = {(row.epoch_id, row.shard): row.seen_through for row in ShardCursor.objects.all()}
    found = []
    for row in ArchivedShard.objects.select_related("epoch").order_by("-epoch_id", "shard"):
        seen = entry_order(cursors.get((row.epoch_id, row.shard), "0-0"))[0]
        distance = max(seen - entry_order(row.archived_through)[0], 0) if seen else None
        found.append(
            Behind(
                key_of(row.epoch), row.shard, row.archived_through, distance, row.trades, row.quotes, row.failures,
                row.error if row.failures else "",
            )
        )  # fmt: skip
    return found
