"""CSV recordings as the local exchange replays them: `symbol,time_ms,trade_id,aggressor_side,price,quantity`.

The instruments lie beside a file as `<stem>.instruments.json`; without them decimals are taken from the data.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from apps.engine.instrument_specs import InstrumentSpec, RecordingError, parse_instruments
from apps.engine.recording import Recording, merge_recordings, parse_recording

Instruments = Mapping[str, InstrumentSpec]


def stem_of(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def instruments_beside(path: Path) -> Path:
    return path.with_name(f"{stem_of(path)}.instruments.json")


def read_recording(paths: Sequence[Path], instruments: Instruments | None = None) -> Recording:
    """All files as one recording in time order.

    Raises RecordingError with file, line and reason: unsorted times, a trade id that repeats, a price or quantity that
    is not above zero or has more decimals than its instrument, an unknown symbol, missing columns. Raises OSError.
    """
    return merge_recordings([_read_one(path, instruments) for path in paths])


def read_instruments(path: Path) -> dict[str, InstrumentSpec]:
    """Raises RecordingError or OSError."""
    try:
        return parse_instruments(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise RecordingError(str(path), 1, f"is not text: {error}") from None


def _read_one(path: Path, instruments: Instruments | None) -> Recording:
    beside = instruments_beside(path)
    if instruments is None and beside.exists():
        instruments = read_instruments(beside)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            return parse_recording(lines, str(path), instruments)
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordingError(str(path), 1, f"cannot be read: {error}") from error


def symbols_of(recording: Recording, wanted: Iterable[str] | None) -> list[str]:
    """The recording's symbols, or the wanted ones. Raises RecordingError for one that it does not hold."""
    if wanted is None:
        return sorted(recording.symbols)
    missing = sorted(set(wanted) - set(recording.symbols))
    if missing:
        held = ", ".join(sorted(recording.symbols))
        raise RecordingError(recording.file, 1, f"holds no {missing[0]} (it has {held})")
    return sorted(set(wanted))
