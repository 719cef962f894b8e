"""The archive in words and tables, for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from apps.market.archive.carrying import Carried
from apps.market.archive.keeping import Kept
from apps.market.archive.standing import Standing
from apps.staff import times


def size(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:.2f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"


def show_standing(console: Console, found: Standing) -> None:
    if not found.keys:
        console.print(f"nothing is archived in {found.root} yet")
    else:
        table = Table("archive", "what", "symbols", "days", "trades", "quotes", "files", "size", "waiting")
        for row in found.keys:
            days = row.first_day if row.first_day == row.last_day else f"{row.first_day} to {row.last_day}"
            what = f"{row.kind}: {row.description}"
            counts = (f"{row.trades:,}", f"{row.quotes:,}", f"{row.files:,}", size(row.bytes), str(row.waiting_files))
            table.add_row(row.key, what, str(row.symbols), days or "none yet", *counts)
        console.print(table)
    if found.shards is None:
        console.print("the database does not answer: how far behind the feed this is cannot be said")
    for shard in found.shards or ():
        if shard.failures:
            console.print(
                f"{shard.key} shard {shard.shard}: FAILED {shard.failures} times in a row, tried again every minute: "
                f"{shard.error}"
            )
        elif shard.behind_ms:
            console.print(f"{shard.key} shard {shard.shard}: {times.duration(shard.behind_ms)} behind what was read")


def show_kept(console: Console, kept: Kept) -> None:
    console.print(
        f"{kept.trades:,} trades and {kept.quotes:,} quotes moved, {kept.settled:,} day files brought up to date"
    )
    for error in kept.errors:
        console.print(f"FAILED: {error}")


def show_carried(console: Console, done: list[Carried]) -> None:
    for row in done:
        console.print(
            f"{row.key}: {row.files:,} files of {row.days:,} days, {row.trades:,} trades; {row.written:,} files were "
            "new or have grown"
        )


def show_exported(console: Console, row: dict[str, Any]) -> None:
    what = f"{row['trades']:,} trades" if "trades" in row else f"{row['files']:,} files"
    console.print(f"{what} of {row['key']} are in {row['file']}")


def show_pruned(console: Console, row: dict[str, Any]) -> None:
    verb = "would be removed" if row["dry_run"] else "removed"
    console.print(
        f"{row['segment_files']:,} raw segments ({size(row['segment_bytes'])}) and {row['day_files']:,} day files "
        f"({size(row['day_bytes'])}) {verb}"
    )
