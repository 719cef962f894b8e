"""Where the archive's files lie and how they are written: whole or not at all.

    <root>/<key>/archive.json                          what it holds: source, instruments with their decimals
    <root>/<key>/{trades,quotes,coverage}/<day>/<SYMBOL>.parquet
    <root>/<key>/parts/<shard>/...                     slices whose day is not over, and the position in the stream

A key names one uninterrupted feed or one imported recording, on whatever machine it was made.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from apps.engine.instrument_specs import InstrumentSpec, RecordingError, parse_instruments

LAYOUT: Final = 1
DAY_MS: Final = 86_400_000
TRADES: Final = "trades"
QUOTES: Final = "quotes"
COVERAGE: Final = "coverage"
KINDS: Final = (TRADES, QUOTES, COVERAGE)
META: Final = "archive.json"
PARTS: Final = "parts"
SUFFIX: Final = ".parquet"
_TEMPORARY: Final = ".writing-"
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SYMBOL: Final = re.compile(r"[A-Z0-9]{4,20}")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


class ArchiveError(Exception):
    """The archive cannot do what was asked; the message is for a person and says what to do."""


class ArchiveBusy(ArchiveError):
    """Another process is writing to the same folder at this moment."""


def day_of(ts_ms: int) -> str:
    """The UTC day of an event time."""
    return datetime.fromtimestamp(ts_ms // 1000, UTC).date().isoformat()


def day_start_ms(day: str) -> int:
    """Raises `ArchiveError` for what is no day."""
    try:
        return int(datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()) * 1000
    except ValueError:
        raise ArchiveError(f"{day!r} is not a day such as 2026-11-21") from None


def days_between(first_ms: int, end_ms: int) -> list[str]:
    """The UTC days that [first_ms, end_ms) touches."""
    first, last = date.fromisoformat(day_of(first_ms)), date.fromisoformat(day_of(max(end_ms - 1, first_ms)))
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


def checked_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ArchiveError(f"{key!r} is no name for an archive: use letters, digits, '.', '-' and '_', at most 100")
    return key


def file_parts(name: str) -> tuple[str, str, str] | None:
    """(kind, day, symbol) of a name relative to its folder, None for what is no day file."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] not in KINDS or not parts[2].endswith(SUFFIX):
        return None
    kind, day, symbol = parts[0], parts[1], parts[2].removesuffix(SUFFIX)
    return (kind, day, symbol) if _DAY.fullmatch(day) and _SYMBOL.fullmatch(symbol) else None


@dataclass(frozen=True, slots=True)
class Folder:
    """One key's folder. Nothing is made by naming it."""

    root: Path
    key: str

    @property
    def path(self) -> Path:
        return self.root / self.key

    @property
    def parts(self) -> Path:
        return self.path / PARTS

    def file(self, kind: str, day: str, symbol: str) -> Path:
        return self.path / kind / day / f"{symbol}{SUFFIX}"

    def days(self, kind: str) -> list[str]:
        """Days of which there are files, oldest first."""
        folder = self.path / kind
        found = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
        return sorted(name for name in found if _DAY.fullmatch(name))

    def symbols(self, kind: str, day: str) -> list[str]:
        names = (path.name.removesuffix(SUFFIX) for path in (self.path / kind / day).glob(f"*{SUFFIX}"))
        return sorted(name for name in names if _SYMBOL.fullmatch(name))

    def files(self) -> Iterator[tuple[str, str, str, Path]]:
        """(kind, day, symbol, path) of every day file."""
        for kind in KINDS:
            for day in self.days(kind):
                for symbol in self.symbols(kind, day):
                    yield kind, day, symbol, self.file(kind, day, symbol)


def folders(root: Path) -> list[Folder]:
    """Every key that has a description, in the order of their names."""
    found = sorted(path.parent.name for path in root.glob(f"*/{META}")) if root.is_dir() else []
    return [Folder(root, key) for key in found if _KEY.fullmatch(key)]


@dataclass(frozen=True, slots=True)
class Meta:
    """What a folder holds, as it says itself. `instruments` are rows as in an `.instruments.json`."""

    source: str
    kind: str
    description: str
    instruments: dict[str, dict[str, Any]]

    def specs(self) -> dict[str, InstrumentSpec]:
        return parse_instruments(json.dumps(self.instruments), META) if self.instruments else {}


def read_meta(folder: Folder) -> Meta:
    """Raises `ArchiveError` if the folder has no description or one that cannot be used."""
    path = folder.path / META
    try:
        return meta_of(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise ArchiveError(f"there is no archive {folder.key!r} in {folder.root}: see `archive status`") from None


def meta_of(content: bytes, name: str) -> Meta:
    """Raises `ArchiveError` naming the file."""
    try:
        row = json.loads(content)
        meta = Meta(str(row["source"]), str(row["kind"]), str(row["description"]), dict(row["instruments"]))
        meta.specs()
        layout = row["layout"]
    except (ValueError, KeyError, TypeError, RecordingError) as error:
        raise ArchiveError(f"{name} is not the description of an archive: {error}") from None
    if layout != LAYOUT:
        raise ArchiveError(f"{name} has layout {layout!r}, this version reads {LAYOUT}")
    return meta


def write_meta(folder: Folder, meta: Meta) -> None:
    """Write the description if it says anything new."""
    row = {
        "layout": LAYOUT,
        "source": meta.source,
        "kind": meta.kind,
        "description": meta.description,
        "instruments": dict(sorted(meta.instruments.items())),
    }
    content = (json.dumps(row, indent=1, ensure_ascii=False) + "\n").encode()
    path = folder.path / META
    if not path.exists() or path.read_bytes() != content:
        write_bytes(path, content)


def merged_instruments(meta: Meta, added: dict[str, dict[str, Any]]) -> Meta:
    """The description with more instruments. Raises `ArchiveError` if one of them counts in other units now."""
    for symbol, row in added.items():
        known = meta.instruments.get(symbol)
        for name, words in (("quotePrecision", "prices"), ("baseAssetPrecision", "quantities")):
            if known is not None and known[name] != row[name]:
                raise ArchiveError(
                    f"{symbol} has {row[name]} decimals of {words}, what is archived has {known[name]}: "
                    "ticks would change their meaning; use another name"
                )
    return Meta(meta.source, meta.kind, meta.description, meta.instruments | added)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place. After a crash there is the old or the new one.

    Raises what `write` raises and OSError (no room, for one); then nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    def fill(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_file(path, fill)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def clear_interrupted(folder: Folder) -> int:
    """Remove what writers left that died while writing. Only under the folder's lock. Returns how many files."""
    found = list(folder.path.rglob(f"{_TEMPORARY}*"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """One writer per folder; the lock ends with its process, however that ends. Raises `ArchiveBusy`."""
    folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    opened = os.open(folder.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveBusy(f"another process is writing to the archive {folder.key}: try again") from None
        yield
    finally:
        os.close(opened)
