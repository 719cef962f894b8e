"""From raw segments into the archive: slices become parts, parts become day files once their day is over.

A slice is what entered the stream within ten minutes, or less if that is much; where it ends is a function of the
stream. Everything is written whole and under one lock per folder, and the position moves after what it stands for. So
a process may die anywhere: the next one does the same work again, with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from apps.bus.streams import entry_order
from apps.market.archive.collecting import DAY, SYMBOL, Collector, Standing
from apps.market.archive.layout import (
    DAY_MS,
    LAYOUT,
    QUOTES,
    SUFFIX,
    TRADES,
    ArchiveError,
    Folder,
    clear_interrupted,
    day_of,
    write_bytes,
)
from apps.market.archive.segments import SegmentReader
from apps.market.archive.tables import SCHEMAS, merge, write_table

SLICE_MS: Final = 600_000
SLICE_ROWS_MAX: Final = 250_000
SETTLE_AFTER_MS: Final = 600_000  # of event time after the day's end
BY_TIME: Final = "time"
BY_ROWS: Final = "rows"
_POSITION: Final = "position.json"
_KINDS: Final = (TRADES, QUOTES)

Enough = Callable[[], bool]


@dataclass(slots=True)
class Part:
    """One slice on disk: which days it has rows of, and how many rows."""

    days: list[int]
    rows: dict[str, int]


@dataclass(slots=True)
class ShardState:
    """What is remembered of one shard, beside its parts."""

    standing: Standing = field(default_factory=Standing)
    offsets: dict[str, int] = field(default_factory=dict)
    cut: str = BY_TIME
    finished: bool = False
    parts: dict[str, Part] = field(default_factory=dict)
    settling: dict[str, Any] | None = None  # {"day", "parts", "done"}

    def days(self) -> list[int]:
        return sorted({day for part in self.parts.values() for day in part.days})


class ShardFiles:
    """One shard's parts and state in a folder. For one process at a time: hold `layout.locked`."""

    def __init__(self, folder: Folder, shard: int) -> None:
        self.folder = folder
        self.shard = shard
        self.path = folder.parts / str(shard)

    def load(self) -> ShardState:
        """Raises `ArchiveError` for a state that is not ours."""
        path = self.path / _POSITION
        if not path.exists():
            return ShardState()
        try:
            row = json.loads(path.read_bytes())
            if row["layout"] != LAYOUT:
                raise ArchiveError(f"{path} has layout {row['layout']!r}, this version reads {LAYOUT}")
            parts = {name: Part(**values) for name, values in row["parts"].items()}
            standing = Standing.from_row(row["standing"])
            return ShardState(standing, row["offsets"], row["cut"], row["finished"], parts, row["settling"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{path} cannot be read ({error}): remove {self.path} to archive it again") from None

    def save(self, state: ShardState) -> None:
        row = {
            "layout": LAYOUT,
            "standing": state.standing.as_row(),
            "offsets": state.offsets,
            "cut": state.cut,
            "finished": state.finished,
            "parts": {name: {"days": part.days, "rows": part.rows} for name, part in state.parts.items()},
            "settling": state.settling,
        }
        write_bytes(self.path / _POSITION, json.dumps(row).encode())

    def part(self, name: str, kind: str) -> Path:
        return self.path / f"{name}.{kind}{SUFFIX}"

    def clear_orphans(self, state: ShardState) -> None:
        """Parts that no state knows: their writer died before it said so, and they are made again."""
        known = {self.part(name, kind) for name, part in state.parts.items() for kind in part.rows}
        for path in self.path.glob(f"*{SUFFIX}"):
            if path not in known:
                path.unlink()


@dataclass(frozen=True, slots=True)
class Moved:
    """What one call did."""

    slices: int = 0
    trades: int = 0
    quotes: int = 0
    settled: int = 0  # day files written or found complete


class ShardMover:
    """Moves one shard of one epoch. For one process at a time: hold `layout.locked`."""

    def __init__(
        self,
        folder: Folder,
        *,
        segments: Path,
        epoch: int,
        shard: int,
        symbols: Iterable[str],
        slice_rows_max: int = SLICE_ROWS_MAX,
    ) -> None:
        self.files = ShardFiles(folder, shard)
        self._folder, self._segments, self._epoch, self._shard = folder, segments, epoch, shard
        self._symbols = sorted(symbols)
        self._slice_rows_max = slice_rows_max
        self.files.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.state = self.files.load()
        self.files.clear_orphans(self.state)

    def may_have_closed(self, now_ms: int) -> bool:
        """Whether a slice can have ended since the last one did, judged without reading anything."""
        behind = now_ms // SLICE_MS - entry_order(self.state.standing.position)[0] // SLICE_MS
        return behind > 1 or self.state.cut == BY_ROWS

    def collect(self, *, enough: Enough, whole: bool = False) -> Moved:
        """Write every slice that has ended, oldest first; with `whole` the open one too, as if it had ended.

        `whole` is for a stream that has ended. Raises OSError if there is no room: nothing is lost, and the next call
        begins with the slice that failed.
        """
        reader = SegmentReader(
            self._segments,
            self._epoch,
            self._shard,
            position=self.state.standing.position,
            offsets=self.state.offsets,
        )
        collector, number, moved = self._collector(), None, Moved()
        for entry_id, payload in reader:
            own = entry_order(entry_id)[0] // SLICE_MS
            full = len(collector) >= self._slice_rows_max
            if number is not None and (own != number or full):
                moved = self._close(collector, reader.offsets, BY_ROWS if own == number else BY_TIME, moved)
                if enough():
                    return moved
                collector = self._collector()
            collector.add(entry_id, payload)
            number = own
        if whole and number is not None:
            moved = self._close(collector, reader.offsets, BY_TIME, moved)
        return moved

    def _collector(self) -> Collector:
        return Collector(Standing.from_row(self.state.standing.as_row()), self._symbols)

    def _close(self, collector: Collector, offsets: dict[str, int], cut: str, moved: Moved) -> Moved:
        """Write a slice: first its parts, then the state that knows them."""
        before, standing = self.state.standing.counts, collector.standing
        name = "{:015d}-{:06d}".format(*entry_order(standing.position))
        rows, days = {}, set()
        for kind, frame in collector.frames().items():
            if len(frame):
                write_table(self.files.part(name, kind), frame)
                rows[kind] = len(frame)
                days |= set(frame[DAY].unique().to_list())
        parts = dict(self.state.parts)
        if rows:
            parts[name] = Part(sorted(days), rows)
        self._save(ShardState(standing, dict(offsets), cut, False, parts, self.state.settling))
        trades, quotes = (standing.counts[kind] - before[kind] for kind in _KINDS)
        return Moved(moved.slices + 1, moved.trades + trades, moved.quotes + quotes)

    def _save(self, state: ShardState) -> None:
        self.files.save(state)
        self.state = state

    # --- days -----------------------------------------------------------------------------------------------------

    def settle(self, *, enough: Enough, every: bool = False) -> int:
        """Merge the parts of each day that is over into its day files; with `every` of days that are not, too.

        Returns how many day files were written or found complete. A long day goes on in the next call.
        """
        done = 0
        while not enough():
            job = self.state.settling or self._next_day(every)
            if job is None:
                break
            frames = self._frames(job)
            left = [symbol for symbol in sorted(frames) if symbol not in job["done"]]
            for symbol in left:
                done += self._settle(job, symbol, frames[symbol])
                job["done"].append(symbol)
                if enough():
                    self._remember(job)
                    return done
            self._finish(job)
        return done

    def finish(self) -> None:
        """Nothing will come any more: this shard need not be looked at again."""
        self._remember(None, finished=True)

    def _next_day(self, every: bool) -> dict[str, Any] | None:
        over = (self.state.standing.watermark_ms - SETTLE_AFTER_MS) // DAY_MS
        days = [day for day in self.state.days() if every or day < over]
        if not days:
            return None
        names = sorted(name for name, part in self.state.parts.items() if days[0] in part.days)
        return {"day": days[0], "parts": names, "done": []}

    def _frames(self, job: dict[str, Any]) -> dict[str, dict[str, list[pl.LazyFrame]]]:
        """The parts' rows of the day: symbol -> kind -> frames."""
        found: dict[str, dict[str, list[pl.LazyFrame]]] = {}
        for name in job["parts"]:
            for kind in self.state.parts[name].rows:
                rows = pl.scan_parquet(self.files.part(name, kind), glob=False).filter(pl.col(DAY) == job["day"])
                for symbol in rows.select(pl.col(SYMBOL).unique()).collect()[SYMBOL]:
                    own = rows.filter(pl.col(SYMBOL) == symbol).select(list(SCHEMAS[kind]))
                    found.setdefault(symbol, {}).setdefault(kind, []).append(own)
        return found

    def _settle(self, job: dict[str, Any], symbol: str, frames: Mapping[str, list[pl.LazyFrame]]) -> int:
        day = day_of(job["day"] * DAY_MS)
        for kind, parts in frames.items():
            merge(self._folder.file(kind, day, symbol), kind, parts)
        return len(frames)

    def _finish(self, job: dict[str, Any]) -> None:
        """The day is in its files: its parts are needed for other days only, or not at all."""
        parts = dict(self.state.parts)
        for name in job["parts"]:
            days = [day for day in parts[name].days if day != job["day"]]
            if days:
                parts[name] = Part(days, parts[name].rows)
            else:
                del parts[name]
        self.state.parts = parts
        self._remember(None)
        self.files.clear_orphans(self.state)

    def _remember(self, job: dict[str, Any] | None, *, finished: bool | None = None) -> None:
        state = self.state
        ended = state.finished if finished is None else finished
        self._save(ShardState(state.standing, state.offsets, state.cut, ended, state.parts, job))


def prepare(folder: Folder) -> None:
    """Clear away what a killed writer left. Call it once under the folder's lock, before the first mover."""
    clear_interrupted(folder)
