"""What a thousand symbols cost beside ten, at the same number of frames per second in all.

The real ingest, as in `receive.py`, takes 10,000 frames per second: three trades in four of five. With ten symbols they
come over one connection, with a thousand over 67. Memory is read when the last trade is on the stream; the memory of
trade ids is full then in both cases, because all symbols share it.
"""

from __future__ import annotations

import os
import statistics
from typing import Final

from tests.bench.flood import SYMBOLS, make_loads
from tests.bench.receive import FloodServer, Outcome, ours

ROUNDS: Final = 3
FRAMES: Final = 200_000
SECONDS: Final = 20.0
FEW: Final = 1  # connections
MANY: Final = 67


def measure(frames: int = FRAMES, seconds: float = SECONDS) -> dict[str, float]:
    """Medians of three: processor time of the ingest per trade, resident memory, and what grows with the symbols."""
    everything, cores = os.sched_getaffinity(0), sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    try:
        few, many = (_shape(connections, frames, seconds, cores[0], cores[-1]) for connections in (FEW, MANY))
    finally:
        os.sched_setaffinity(0, everything)
    symbols = SYMBOLS[MANY] - SYMBOLS[FEW]
    return {
        "us_per_trade_10_symbols": few["us_per_trade"],
        "us_per_trade_1000_symbols": many["us_per_trade"],
        "cpu_ratio": many["us_per_trade"] / few["us_per_trade"],
        "resident_mb_10_symbols": few["resident_bytes"] / 1e6,
        "resident_mb_1000_symbols": many["resident_bytes"] / 1e6,
        "kb_per_symbol": (many["resident_bytes"] - few["resident_bytes"]) / 1e3 / symbols,
        "lost_trades": few["lost_trades"] + many["lost_trades"],
    }


def _shape(connections: int, frames_wanted: int, seconds: float, core: int, ingest_core: int) -> Outcome:
    loads = make_loads(connections, frames_wanted)
    frames, trades = sum(load.frames for load in loads), sum(load.trades for load in loads)
    del loads
    server = FloodServer(connections, frames_wanted, core, seconds)
    try:
        runs = [ours(server, connections, frames, trades, ingest_core) for _ in range(ROUNDS)]
    finally:
        server.end()
    return {
        "us_per_trade": statistics.median(run["cpu_seconds"] for run in runs) / trades * 1e6,
        "resident_bytes": statistics.median(run["resident_bytes"] for run in runs),
        "lost_trades": max(run["lost_trades"] for run in runs),
    }
