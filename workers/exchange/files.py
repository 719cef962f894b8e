"""Opening recordings: plain or gzip, with the filters that lie beside them."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from apps.engine.instrument_specs import InstrumentSpec, RecordingError, parse_instruments
from apps.engine.recording import Recording, merge_recordings, parse_recording


@contextmanager
def open_recording(path: Path) -> Iterator[TextIO]:
    """The file's lines as text; bytes that are not UTF-8 become characters that the parser refuses."""
    with path.open("rb") as raw:
        plain = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        with io.TextIOWrapper(io.BufferedReader(plain, 1 << 16), "utf-8", errors="replace") as text:
            yield text


def instruments_path(path: Path) -> Path:
    """`<stem>.instruments.json` beside the recording; the stem is its name without .csv or .csv.gz."""
    stem = path.name.removesuffix(".gz").removesuffix(".csv")
    return path.with_name(f"{stem}.instruments.json")


def read_instruments(path: Path) -> dict[str, InstrumentSpec] | None:
    """The filters beside a recording, or None if there is no such file."""
    beside = instruments_path(path)
    if not beside.exists():
        return None
    try:
        return parse_instruments(beside.read_text(encoding="utf-8"), str(beside))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(str(beside), 1, f"cannot be read: {error}") from None


def read_recording(path: Path) -> Recording:
    """Open, parse and validate one file; raises RecordingError for whatever is wrong with it."""
    instruments = read_instruments(path)
    try:
        with open_recording(path) as lines:
            return parse_recording(lines, str(path), instruments)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecordingError(str(path), 1, f"cannot be read: {reason}") from None


def read_recordings(paths: Sequence[Path]) -> Recording:
    """All files as one recording in time order."""
    return merge_recordings([read_recording(path) for path in paths])
