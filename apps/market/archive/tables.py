"""The columns of the archive's files, and the one way in which rows get into them.

A row has a natural key: the stream entry that brought it and its number within the entry. Merging keeps each key once
and sorts, so a file is a function of the set of rows that went into it, whatever the order, the portions and the
repetitions. Times are ms of the exchange's clock, prices ticks, quantities steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import polars as pl

from apps.market.archive.layout import COVERAGE, QUOTES, TRADES, ArchiveError, write_file

# Readers decode whole groups, so a group is what a slice of a symbol costs at least: about a megabyte.
GROUP_ROWS: Final = 32_768
STREAM: Final = 0
REST: Final = 1

KEY: Final = ["entry_ms", "entry_sequence", "row"]
ORDER: Final = ["ts", *KEY]
_PLACE: Final = {"entry_ms": pl.Int64, "entry_sequence": pl.Int64, "row": pl.Int64}
SCHEMAS: Final[dict[str, dict[str, type[pl.DataType]]]] = {
    TRADES: {
        "ts": pl.Int64,
        "price": pl.Int64,
        "quantity": pl.Int64,
        "side": pl.Int8,  # of the aggressor: 1 BUY, 2 SELL
        "trade_id": pl.String,  # "" where the exchange sent none
        "ts_init": pl.Int64,  # our wall clock at its arrival, 0 for what was imported
        **_PLACE,
        "late": pl.Boolean,  # its minute had been closed when it arrived
        "origin": pl.Int8,  # STREAM, or REST: told afterwards, whole minutes at a time
    },
    QUOTES: {
        "ts": pl.Int64,
        "bid": pl.Int64,
        "bid_quantity": pl.Int64,
        "ask": pl.Int64,
        "ask_quantity": pl.Int64,
        "ts_init": pl.Int64,
        **_PLACE,
    },
    COVERAGE: {"first_minute": pl.Int64, "last_minute": pl.Int64, "status": pl.String, "reason": pl.String},
}


def write_table(path: Path, frame: pl.DataFrame) -> None:
    """Raises OSError, also for what polars could not write."""

    def fill(temporary: Path) -> None:
        try:
            frame.rechunk().write_parquet(
                temporary, compression="zstd", compression_level=3, statistics=True, row_group_size=GROUP_ROWS
            )
        except pl.exceptions.PolarsError as error:
            raise OSError(f"{path} cannot be written: {error}") from error

    write_file(path, fill)


def scan_table(path: Path, kind: str) -> pl.LazyFrame:
    """A day file, lazily. Raises `ArchiveError` if it is no file of this kind."""
    try:
        found = dict(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from None
    if found != SCHEMAS[kind]:
        raise ArchiveError(f"{path} has other columns than {kind} have: {', '.join(found)}")
    return pl.scan_parquet(path, glob=False)


def rows_of(path: Path, kind: str) -> int:
    return int(scan_table(path, kind).select(pl.len()).collect().item())


def merge(path: Path, kind: str, frames: Iterable[pl.LazyFrame | pl.DataFrame]) -> int:
    """Put rows into a day file that may exist. Returns how many rows it has then; writes only if it has more.

    Raises `ArchiveError` if a key stands for different rows, OSError if it cannot be written.
    """
    before = scan_table(path, kind) if path.exists() else None
    known = 0 if before is None else int(before.select(pl.len()).collect().item())
    every = [*([] if before is None else [before]), *(frame.lazy() for frame in frames)]
    # What the file has comes first and stays; equal keys of different rows are looked for below.
    merged = pl.concat(every).unique(maintain_order=True).sort(ORDER, maintain_order=True).collect()
    if merged.select(pl.struct(KEY).n_unique()).item() != len(merged):
        raise ArchiveError(f"{path}: one place of the stream stands for different {kind}; nothing was changed")
    if len(merged) > known or before is None:
        write_table(path, merged.select(list(SCHEMAS[kind])))
    return len(merged)
