"""Reading the recordings that a replay is checked against."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from apps.engine.instrument_specs import RecordingError, parse_instruments
from apps.engine.recording import Recording, merge_recordings, parse_recording


def read(paths: Sequence[Path]) -> Recording:
    """All files as one recording in time order. Raises `RecordingError` or OSError."""
    return merge_recordings([_read_one(path) for path in paths])


def _read_one(path: Path) -> Recording:
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".csv") + ".instruments.json")
    specs = parse_instruments(beside.read_text(encoding="utf-8"), str(beside)) if beside.exists() else None
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            return parse_recording(lines, str(path), specs)
    except (EOFError, UnicodeDecodeError) as error:
        raise RecordingError(str(path), 1, f"cannot be read: {error}") from error
