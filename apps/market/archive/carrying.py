"""Carrying market data in: CSV recordings, and the archive of another machine. Doing it twice changes nothing."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.recording import Recording
from apps.market.archive.layout import (
    COVERAGE,
    DAY_MS,
    META,
    TRADES,
    ArchiveError,
    Folder,
    Meta,
    checked_key,
    clear_interrupted,
    day_of,
    day_start_ms,
    file_parts,
    folders,
    locked,
    merged_instruments,
    read_meta,
    write_file,
    write_meta,
)
from apps.market.archive.recordings import Instruments, read_recording, stem_of
from apps.market.archive.tables import SCHEMAS, STREAM, merge, scan_table

RECORDING: Final = "recording"
TAR: Final = ".tar"

Progress = Callable[[int, int], None]  # done, of how many


def nobody(_done: int, _of: int) -> None:
    """A progress that nobody looks at."""


@dataclass(slots=True)
class Carried:
    """What one import did, per key."""

    key: str
    files: int = 0  # looked at
    written: int = 0
    trades: int = 0  # of the files looked at, as they are now
    days: int = 0


# --- CSV --------------------------------------------------------------------------------------------------------------


def import_csv(
    root: Path,
    paths: Sequence[Path],
    *,
    key: str = "",
    instruments: Instruments | None = None,
    progress: Progress = nobody,
) -> Carried:
    """Put recordings into the archive `key`, by default named after the first file.

    What the archive has already is recognised by its trade id. Nothing is written if a row is bad. Raises
    RecordingError naming file, line and reason, `ArchiveError`, OSError.
    """
    recording = read_recording(paths, instruments)
    folder = Folder(root, checked_key(key or stem_of(paths[0])))
    with locked(folder):
        clear_interrupted(folder)
        names = ", ".join(path.name for path in paths)
        meta = _own_meta(folder, names)
        rows = {symbol: spec_row(spec) for symbol, spec in recording.instruments.items() if symbol in recording.symbols}
        write_meta(folder, merged_instruments(meta, rows))
        return _store(folder, recording, progress)


def spec_row(spec: InstrumentSpec) -> dict[str, Any]:
    return {
        "baseAsset": spec.base_asset,
        "quoteAsset": spec.quote_asset,
        "baseAssetPrecision": spec.quantity_decimals,
        "quotePrecision": spec.price_decimals,
        "baseSizePrecision": str(spec.quantity_min),
        "quoteAmountPrecision": str(spec.notional_min),
        "maxQuoteAmount": str(spec.notional_max),
        "makerCommission": str(spec.maker_fee),
        "takerCommission": str(spec.taker_fee),
    }


def _own_meta(folder: Folder, names: str) -> Meta:
    if not (folder.path / META).exists():
        return Meta(f"csv:{folder.key}", RECORDING, names, {})
    meta = read_meta(folder)
    if meta.kind != RECORDING:
        raise ArchiveError(f"{folder.key} is the archive of a {meta.kind} feed: import the file under another name")
    return meta


def _store(folder: Folder, recording: Recording, progress: Progress) -> Carried:
    carried = Carried(folder.key)
    days = recording.time_ms // DAY_MS
    wanted = [(int(day), number) for day in np.unique(days) for number in range(len(recording.symbols))]
    carried.days = len(np.unique(days))
    for done, (day, number) in enumerate(wanted):
        progress(done, len(wanted))
        first, last = np.searchsorted(days, [day, day + 1])
        rows = first + np.flatnonzero(recording.symbol_index[first:last] == number)
        if len(rows):
            carried.files += 1
            _store_day(folder, day_of(day * DAY_MS), recording, number, rows, carried)
    progress(len(wanted), len(wanted))
    return carried


def _store_day(folder: Folder, day: str, recording: Recording, number: int, rows: Any, carried: Carried) -> None:
    symbol = recording.symbols[number]
    path = folder.file(TRADES, day, symbol)
    frame = pl.DataFrame(
        {
            "ts": recording.time_ms[rows],
            "price": recording.price_ticks[rows],
            "quantity": recording.quantity_steps[rows],
            "side": recording.sides[rows],
            "trade_id": recording.trade_ids[rows].astype(str),
            "row": rows,
        }
    ).with_columns(
        ts_init=pl.lit(0), entry_ms=pl.lit(0), entry_sequence=pl.lit(0), late=pl.lit(False), origin=pl.lit(STREAM)
    )
    frame = frame.select(pl.col(name).cast(kind) for name, kind in SCHEMAS[TRADES].items())
    known = 0
    if path.exists():
        there = scan_table(path, TRADES).collect()
        known = len(there)
        _refuse_other(path, there, frame)
        after = int(there.select(pl.col("entry_sequence").max()).item()) + 1
        frame = frame.join(there, on="trade_id", how="anti").with_columns(entry_sequence=pl.lit(after, pl.Int64))
    carried.trades += merge(path, TRADES, [frame]) if len(frame) else known
    carried.written += bool(len(frame))


def _refuse_other(path: Path, there: pl.DataFrame, frame: pl.DataFrame) -> None:
    """A trade id stands for one trade."""
    values = ["ts", "price", "quantity", "side"]
    both = frame.join(there, on="trade_id", suffix="_there")
    differing = both.filter(pl.any_horizontal(pl.col(name) != pl.col(f"{name}_there") for name in values))
    if len(differing):
        trade_id = differing["trade_id"][0]
        raise ArchiveError(f"{path.stem}: trade {trade_id} is another one in the archive: use another name")


# --- the archive of another machine -----------------------------------------------------------------------------------


def import_archive(root: Path, source: Path, *, progress: Progress = nobody) -> list[Carried]:
    """Take over every key of a folder, or of a `.tar` that `archive export` made. Returns what each gave.

    A day that is here already is merged. Raises `ArchiveError` naming the file that cannot be used, OSError.
    """
    with _opened(source) as place:
        found = [Folder(place.parent, place.name)] if (place / META).exists() else folders(place)
        if not found:
            raise ArchiveError(f"{source} holds no archive: there is no {META} in it or in a folder of it")
        total = sum(1 for folder in found for _ in folder.files())
        done = 0
        carried = []
        for folder in found:
            carried.append(_take_over(Folder(root, checked_key(folder.key)), folder, done, total, progress))
            done += carried[-1].files
        progress(total, total)
        return carried


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield source.resolve()
        return
    if not source.exists():
        raise ArchiveError(f"{source} does not exist")
    with tempfile.TemporaryDirectory(prefix="cdb-import-") as made:
        try:
            with tarfile.open(source, "r:") as tar:
                for member in tar:
                    _extract(source, tar, member, Path(made))
        except tarfile.TarError as error:
            raise ArchiveError(f"{source} is neither a folder nor a tar file of an archive: {error}") from None
        yield Path(made)


def _extract(source: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    """Only what an export writes; nothing else is even looked at."""
    key, _, name = member.name.partition("/")
    if not member.isfile() or not (name == META or file_parts(name)):
        raise ArchiveError(f"{source} holds {member.name}, which no export writes")
    path = place / checked_key(key) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)


def _take_over(target: Folder, source: Folder, done: int, total: int, progress: Progress) -> Carried:
    meta = read_meta(source)
    carried = Carried(target.key)
    if target.path.resolve() == source.path.resolve():
        raise ArchiveError(f"{source.path} is this machine's own archive")
    with locked(target):
        clear_interrupted(target)
        own = read_meta(target) if (target.path / META).exists() else meta
        if own.source != meta.source:
            raise ArchiveError(f"{target.key} is an archive of {own.source} here and of {meta.source} there")
        merged = merged_instruments(own, meta.instruments)
        days = set()
        for kind, day, symbol, path in source.files():
            progress(done + carried.files, total)
            if symbol not in merged.instruments:
                raise ArchiveError(f"{path}: {symbol} is not among the instruments of {source.path / META}")
            days.add(day)
            carried.files += 1
            rows, written = _take_file(target.file(kind, day, symbol), path, kind, day)
            carried.trades += rows if kind == TRADES else 0
            carried.written += written
        carried.days = len(days)
        write_meta(target, merged)
    return carried


def _take_file(target: Path, source: Path, kind: str, day: str) -> tuple[int, bool]:
    """(rows it has now, whether it was written). Coverage that is here already stays: it is of our own ledger."""
    rows = check_file(source, kind, day)
    if not target.exists():

        def copy(temporary: Path) -> None:
            shutil.copyfile(source, temporary)

        write_file(target, copy)
        return rows, True
    if kind == COVERAGE or target.read_bytes() == source.read_bytes():
        return rows, False
    before = target.stat().st_ino
    merged = merge(target, kind, [scan_table(source, kind)])
    return merged, target.stat().st_ino != before


def check_file(path: Path, kind: str, day: str) -> int:
    """Read a day file to its end. Returns its rows. Raises `ArchiveError` for what no archive writes."""
    try:
        frame = scan_table(path, kind).collect()
    except pl.exceptions.PolarsError as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from None
    if kind == COVERAGE or not len(frame):
        return len(frame)
    start = day_start_ms(day)
    times = frame["ts"]
    if not times.is_sorted():
        raise ArchiveError(f"{path}: times go backwards")
    if times[0] < start or times[-1] >= start + DAY_MS:
        raise ArchiveError(f"{path}: holds times that are not of {day}")
    values = [name for name in frame.columns if name in ("price", "quantity", "bid", "ask")]
    for name in values:
        wrong = frame.select((pl.col(name) <= 0).arg_true())[name]
        if len(wrong):
            raise ArchiveError(f"{path}: row {wrong[0] + 1} has the {name} {frame[name][wrong[0]]}")
    return len(frame)
