"""Where the trades of a simulation come from: recorded files, or the archive. Everything that is wrong is one line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from apps.backtest.slicing import ROWS_PER_SLICE
from apps.backtest.values import BacktestRefused, Request
from apps.engine.instrument_specs import InstrumentSpec, RecordingError
from apps.engine.recording import Recording
from apps.engine.tapes import Tape
from apps.market.archive.layout import TRADES, ArchiveError, Folder, days_between, folders, read_meta
from apps.market.archive.reading import read_tapes, slices_of
from apps.market.archive.recordings import read_recording

ENDLESS_MS: Final = 2**62
NAMED_MAX: Final = 5
Parts = Iterator[dict[str, Tape]]


@dataclass(frozen=True, slots=True)
class Source:
    """Trades that can be read: of these instruments, between these event times (ms, `last_ms` excluded)."""

    specs: Mapping[str, InstrumentSpec]
    first_ms: int
    last_ms: int
    facts: Mapping[str, Any]
    recording: Recording | None = None
    folder: Folder | None = None

    def parts(self, *, rows_max: int = ROWS_PER_SLICE) -> Parts:
        """Successive parts of the time, of about so many trades each. Raises `BacktestRefused`."""
        span: dict[str, Any] = {
            "symbols": sorted(self.specs),
            "from_ms": self.first_ms,
            "to_ms": self.last_ms,
            "rows_max": rows_max,
        }
        try:
            if self.recording is not None:
                yield from slices_of(self.recording, **span)
            elif self.folder is not None:
                yield from read_tapes(self.folder, **span)
        except (RecordingError, ArchiveError, OSError) as error:
            raise BacktestRefused(str(error)) from error


def open_source(asked: Request, *, root: Path | None = None) -> Source:
    """The trades that a request names. `root`: the archive, if not that of the settings. Raises `BacktestRefused`."""
    try:
        found = _recorded(asked) if asked.trades else _archived(asked, root or settings.ARCHIVE_DIR)
    except (RecordingError, ArchiveError) as error:
        raise BacktestRefused(str(error)) from error
    except OSError as error:
        raise BacktestRefused(f"{error.filename}: {error.strerror}") from error
    quotes = sorted({spec.quote_asset for spec in found.specs.values()})
    if len(quotes) != 1:
        raise BacktestRefused(f"one account has one quote currency, these symbols have {', '.join(quotes)}: name some")
    return found


# --- recorded files ---------------------------------------------------------------------------------------------------


def _recorded(asked: Request) -> Source:
    paths = [Path(path) for path in asked.trades]
    recording = read_recording(paths)
    missing = sorted(set(asked.symbols) - set(recording.symbols))
    if missing:
        raise BacktestRefused(f"no trade of {missing[0]} was recorded there (but of {_some(recording.symbols)})")
    symbols = asked.symbols or recording.symbols
    first = max(asked.first_ms or 0, int(recording.time_ms[0]) if len(recording) else 0)
    last = min(asked.last_ms or ENDLESS_MS, int(recording.time_ms[-1]) + 1 if len(recording) else 0)
    if not any(any(len(tape) for tape in part.values()) for part in _first_part(recording, symbols, first, last)):
        raise BacktestRefused(f"{recording.file} holds no trade of what was asked: see its first and last times")
    files = [{"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]
    specs = {symbol: recording.instruments[symbol] for symbol in sorted(symbols)}
    return Source(specs, first, last, {"files": files, "symbols": sorted(symbols)}, recording=recording)


def _first_part(recording: Recording, symbols: tuple[str, ...], first: int, last: int) -> Parts:
    part = next(slices_of(recording, symbols=symbols, from_ms=first, to_ms=last, rows_max=1), None)
    return iter([] if part is None else [part])


# --- the archive ------------------------------------------------------------------------------------------------------


def _archived(asked: Request, root: Path) -> Source:
    if asked.first_ms is None or asked.last_ms is None or not asked.symbols:
        raise BacktestRefused("of the archive, name a time and symbols: --from, --to and --symbols")
    folder = _folder(asked, root)
    specs = read_meta(folder).specs()
    for day in days_between(asked.first_ms, asked.last_ms):
        for symbol in asked.symbols:
            if not folder.file(TRADES, day, symbol).exists():
                raise BacktestRefused(
                    f"the archive {folder.key} has no trades of {symbol} on {day}: `manage.py archive status` says "
                    "what it has, and what still lies in the running day's parts"
                )
    facts = {"archive": folder.key, "symbols": list(asked.symbols)}
    return Source({name: specs[name] for name in asked.symbols}, asked.first_ms, asked.last_ms, facts, folder=folder)


def _folder(asked: Request, root: Path) -> Folder:
    """The archive that was named, or the only one that has all symbols and touches the time."""
    held = folders(root)
    if asked.archive:
        found = next((folder for folder in held if folder.key == asked.archive), None)
        if found is None:
            raise BacktestRefused(f"there is no archive {asked.archive} (there is {_some([f.key for f in held])})")
        held = [found]
    knowing = [folder for folder in held if set(asked.symbols) <= set(read_meta(folder).instruments)]
    if not knowing:
        known = sorted({symbol for folder in held for symbol in read_meta(folder).instruments})
        missing = sorted(set(asked.symbols) - set(known))
        if missing:
            raise BacktestRefused(f"no trade of {missing[0]} was ever archived (but of {_some(known)})")
        raise BacktestRefused(f"no single archive holds all of {_some(asked.symbols)}: ask for them apart")
    days = set(days_between(asked.first_ms or 0, asked.last_ms or 1))
    fitting = [folder for folder in knowing if days & set(folder.days(TRADES))] or knowing[-1:]
    if len(fitting) > 1:
        keys = _some([folder.key for folder in fitting])
        raise BacktestRefused(f"several archives hold that: name one with --archive ({keys})")
    return fitting[0]


def _some(names: Any) -> str:
    found = sorted(names)
    more = f" and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    return ", ".join(found[:NAMED_MAX]) + more or "none"
