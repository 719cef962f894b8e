"""What the ingest costs under two loads (see tests/ingest/bench_ingest.py)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from tests.ingest import bench_ingest
from tests.road.recordings import make_recording

SECONDS: Final = 20
SPEED: Final = 300


def measure() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="cdb-bench-") as name:
        folder = Path(name)
        recording = make_recording(folder, minutes=240, per_minute=120)
        loads = {
            "wide": bench_ingest.wide(SECONDS, folder),
            "replay": bench_ingest.replay(recording, SPEED, SECONDS, folder),
        }
    return {f"{load}_{key}": value for load, figures in loads.items() for key, value in figures.items()}
