"""Carrying market data out: as one tar file that another machine imports, or as a CSV recording."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import polars as pl

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.recording import HEADER
from apps.market.archive.carrying import Progress, nobody
from apps.market.archive.layout import (
    KINDS,
    META,
    TRADES,
    ArchiveError,
    Folder,
    read_meta,
    write_bytes,
    write_file,
)
from apps.market.archive.recordings import instruments_beside
from apps.market.archive.tables import ORDER, STREAM, scan_table

DAYS_END: Final = "9999-12-31"


def export_archive(
    folder: Folder,
    target: Path,
    *,
    symbols: Sequence[str] | None = None,
    first_day: str = "",
    last_day: str = DAYS_END,
    progress: Progress = nobody,
) -> int:
    """Write the folder's day files as one tar file, equal for equal content. Returns how many files it holds.

    Slices whose day is not over are not in it: `archive flush` puts them into day files. Raises `ArchiveError` and
    OSError.
    """
    read_meta(folder)
    files = list(_files(folder, KINDS, symbols, first_day, last_day))

    def fill(temporary: Path) -> None:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            for done, path in enumerate([folder.path / META, *files]):
                progress(done, len(files) + 1)
                member = tarfile.TarInfo(f"{folder.key}/{path.relative_to(folder.path).as_posix()}")
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as content:
                    tar.addfile(member, content)

    write_file(target, fill)
    progress(len(files) + 1, len(files) + 1)
    return len(files)


def export_csv(
    folder: Folder,
    target: Path,
    *,
    symbols: Sequence[str] | None = None,
    first_day: str = "",
    last_day: str = DAYS_END,
    progress: Progress = nobody,
) -> int:
    """Write received trades as a recording in time order, with its instruments beside it. Returns how many.

    Late trades stand where their time says; what REST told afterwards is left out. A trade without an id gets its place
    in the stream as one. Raises `ArchiveError`, OSError.
    """
    meta = read_meta(folder)
    specs = meta.specs()
    days: dict[str, list[Path]] = {}
    for path in _files(folder, [TRADES], symbols, first_day, last_day):
        days.setdefault(path.parent.name, []).append(path)
    count = 0

    def fill(temporary: Path) -> None:
        nonlocal count
        with _opened(temporary, packed=target.suffix == ".gz") as out:
            out.write(f"{HEADER}\n".encode())
            for done, day in enumerate(sorted(days)):
                progress(done, len(days))
                count += _write_day(out, days[day], specs)

    write_file(target, fill)
    held = sorted({path.stem for paths in days.values() for path in paths})
    rows = {name: meta.instruments[name] for name in held}
    write_bytes(instruments_beside(target), (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
    progress(len(days), len(days))
    return count


def _files(
    folder: Folder, kinds: Sequence[str], symbols: Sequence[str] | None, first_day: str, last_day: str
) -> Iterator[Path]:
    """Day files in the order of their names. Raises `ArchiveError` for a symbol of which there are none."""
    left = set(symbols or ())
    found = False
    for kind, day, symbol, path in folder.files():
        if kind in kinds and first_day <= day <= last_day and (symbols is None or symbol in symbols):
            found = True
            left.discard(symbol)
            yield path
    if left or not found:
        what = f" of {min(left)}" if left else ""
        raise ArchiveError(f"the archive {folder.key} has no day files{what} in this time: see `archive status`")


@contextmanager
def _opened(path: Path, *, packed: bool) -> Iterator[IO[bytes]]:
    """A file to write; a packed one carries no name and no time, so equal content gives equal bytes."""
    with path.open("wb") as file:
        if not packed:
            yield file
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as out:
            yield out  # type: ignore[misc]


def _write_day(out: IO[bytes], paths: Sequence[Path], specs: dict[str, InstrumentSpec]) -> int:
    parts = []
    for path in paths:
        spec = specs[path.stem]
        rows = scan_table(path, TRADES).filter(pl.col("origin") == STREAM)
        place = pl.format("{}-{}-{}", "entry_ms", "entry_sequence", "row")
        parts.append(
            rows.select(
                *ORDER,
                pl.lit(path.stem).alias("symbol"),
                pl.when(pl.col("trade_id") == "").then(place).otherwise("trade_id").alias("trade_id"),
                pl.when(pl.col("side") == 1).then(pl.lit("buy")).otherwise(pl.lit("sell")).alias("aggressor_side"),
                _decimal("price", spec.price_decimals),
                _decimal("quantity", spec.quantity_decimals),
            )
        )
    day = pl.concat(parts).sort([*ORDER, "symbol"]).collect()
    columns = day.select("symbol", pl.col("ts").alias("time_ms"), "trade_id", "aggressor_side", "price", "quantity")
    text = io.BytesIO()
    columns.write_csv(text, include_header=False, quote_style="never")
    out.write(text.getvalue())
    return len(columns)


def _decimal(name: str, decimals: int) -> pl.Expr:
    """Whole ticks or steps as a decimal number with all its decimals."""
    if not decimals:
        return pl.col(name).cast(pl.String)
    unit = 10**decimals
    rest = (pl.col(name) % unit).cast(pl.String).str.zfill(decimals)
    return pl.concat_str((pl.col(name) // unit).cast(pl.String), pl.lit("."), rest).alias(name)
