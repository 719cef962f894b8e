"""One symbol's rows of the archive as numpy columns, a block at a time, with trade ids that are read when asked for."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from apps.engine.model import MINUTE_MS
from apps.engine.tapes import Int64s
from apps.market.archive.covering import BACKFILLED, read_coverage
from apps.market.archive.layout import QUOTES, TRADES, Folder
from apps.market.archive.tables import GROUP_ROWS, REST, scan_table

NUMBERS: Final = {
    TRADES: ("ts", "price", "quantity", "side"),
    QUOTES: ("ts", "bid", "bid_quantity", "ask", "ask_quantity"),
}

Columns = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FileRows:
    """Some rows of one file: `count` from `offset` on, or of those the ones that `rows` names."""

    path: Path
    offset: int
    rows: Int64s | None
    count: int

    def __len__(self) -> int:
        return self.count if self.rows is None else len(self.rows)

    def split(self, at: int) -> tuple[FileRows, FileRows | None]:
        if at >= len(self):
            return self, None
        if self.rows is not None:
            head, tail = self.rows[:at], self.rows[at:]
            return FileRows(self.path, self.offset, head, self.count), FileRows(
                self.path, self.offset, tail, self.count
            )
        return FileRows(self.path, self.offset, None, at), FileRows(self.path, self.offset + at, None, self.count - at)

    def row_of(self, index: int) -> int:
        return self.offset + (index if self.rows is None else int(self.rows[index]))


class FileIds(Sequence[str]):
    """Trade ids that are read from their files when asked for, a row group at a time; the newest group is kept."""

    def __init__(self, parts: list[FileRows]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts]).tolist()
        self._kept: tuple[Path, int] | None = None
        self._texts: pl.Series = pl.Series([], dtype=pl.String)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends else 0

    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index = int(index) % len(self)
        number = bisect.bisect_right(self._ends, index)
        part = self._parts[number]
        row = part.row_of(index - (self._ends[number - 1] if number else 0))
        group = row // GROUP_ROWS
        if self._kept != (part.path, group):
            rows = scan_table(part.path, TRADES).slice(group * GROUP_ROWS, GROUP_ROWS)
            self._texts = rows.select("trade_id").collect()["trade_id"]
            self._kept = (part.path, group)
        return str(self._texts[row - group * GROUP_ROWS])


@dataclass(frozen=True, slots=True)
class Options:
    late: bool
    repaired: bool


@dataclass(slots=True)
class Stream:
    """One symbol's trades or quotes in order, read a block of rows at a time."""

    folder: Folder
    symbol: str
    kind: str
    days: list[str]
    span: tuple[int, int]
    block: int
    options: Options
    at: int = 0  # which day
    offset: int = 0  # of the day's next block
    length: int = -1  # rows of the day's file, -1 before it is opened
    told: dict[int, int] = field(default_factory=dict)
    rest: bool = False  # whether the file holds rows of REST
    columns: Columns = field(default_factory=dict)
    ids: list[FileRows] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.columns["ts"]) if self.columns else 0

    @property
    def ended(self) -> bool:
        return self.at >= len(self.days)

    def grow(self) -> bool:
        """Read the next block. False if there is none."""
        while not self.ended:
            path = self.folder.file(self.kind, self.days[self.at], self.symbol)
            if self.length < 0:
                self._open(path)
            count = min(self.block, self.length - self.offset)
            held = len(self)
            if count:
                self._append(path, self.offset, count)
                self.offset += count
            if self.offset >= self.length:
                self.at, self.length = self.at + 1, -1
            if len(self) > held:
                return True
        return False

    def _open(self, path: Path) -> None:
        """Begin with a day's file: how long it is, and what REST told of it."""
        self.offset, self.length, self.told, self.rest = 0, 0, {}, False
        table = scan_table(path, self.kind)
        self.length = int(table.select(pl.len()).collect().item())
        if self.kind == TRADES:
            told = table.filter(pl.col("origin") == REST).select("ts", "entry_ms").collect()
            self.rest = len(told) > 0
            if self.rest and self.options.repaired:
                self.told = self._newest(told)

    def _newest(self, told: pl.DataFrame) -> dict[int, int]:
        """For each minute that counts as BACKFILLED: the newest entry that told of it. REST may be asked again."""
        runs = [run for run in read_coverage(self.folder, self.days[self.at], self.symbol) if run.status == BACKFILLED]
        newest: dict[int, int] = {}
        for ts, entry_ms in told.iter_rows():
            minute = ts // MINUTE_MS
            if any(run.first_minute <= minute <= run.last_minute for run in runs):
                newest[minute] = max(entry_ms, newest.get(minute, 0))
        return newest

    def _append(self, path: Path, offset: int, count: int) -> None:
        numbers = NUMBERS[self.kind]
        flags = () if self.kind != TRADES else ("late",) if not self.rest else ("late", "origin", "entry_ms")
        if self.options.late and not self.rest:
            flags = ()
        found = scan_table(path, self.kind).slice(offset, count).select([*numbers, *flags]).collect().rechunk()
        columns: Columns = {name: found[name].to_numpy() for name in (*numbers, *flags)}
        keep = self._wanted(columns)
        rows = None if keep is None else np.flatnonzero(keep)
        columns = {name: columns[name] if rows is None else columns[name][rows] for name in numbers}
        if self.kind == TRADES and len(columns["ts"]):
            self.ids.append(FileRows(path, offset, rows, count))
        if len(self):
            columns = {name: np.concatenate((self.columns[name], values)) for name, values in columns.items()}
        self.columns = columns

    def _wanted(self, columns: Columns) -> Any:
        """A mask of the rows to keep; None for all, which is the usual case and costs no copy."""
        ts = columns["ts"]
        from_ms, to_ms = self.span
        keep = None if ts[0] >= from_ms and ts[-1] < to_ms else (ts >= from_ms) & (ts < to_ms)
        if "late" in columns and not self.options.late:
            keep = _and(keep, ~columns["late"].astype(bool))
        return _and(keep, self._believed(columns)) if self.rest and self.kind == TRADES else keep

    def _believed(self, columns: Columns) -> Any:
        """Of a repaired minute what REST told last of it, of every other minute what was received."""
        rest = columns["origin"] == REST
        keep = ~rest
        minutes = columns["ts"] // MINUTE_MS
        for minute, entry_ms in self.told.items():
            own = minutes == minute
            keep[own] = rest[own] & (columns["entry_ms"][own] == entry_ms)
        return keep

    def take(self, before_ms: int) -> tuple[Columns, FileIds]:
        """The rows with a time before this one; they are no longer kept here."""
        count = int(np.searchsorted(self.columns["ts"], before_ms, side="left")) if self.columns else 0
        taken = {name: values[:count] for name, values in self.columns.items()}
        self.columns = {name: values[count:] for name, values in self.columns.items()}
        ids: list[FileRows] = []
        left = count
        while left and self.ids:
            head, rest = self.ids[0].split(left)
            ids.append(head)
            left -= len(head)
            self.ids[:1] = [] if rest is None else [rest]
        return taken, FileIds(ids)


def _and(keep: Any, more: Any) -> Any:
    return more if keep is None else keep & more
