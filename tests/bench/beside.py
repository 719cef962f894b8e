"""Runs the peers of `tests/bench/peers` on trades that are written for them, in their own environment."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from apps.engine.tapes import Tape
from tests.bench.market import PARAMETERS, SCALE, merged
from tests.ingest.processes import REPOSITORY

PEERS: Final = REPOSITORY / "tests" / "bench" / "peers"
PYTHON: Final = REPOSITORY / ".venv-bench" / "bin" / "python"
CAPITAL: Final = 100_000
TAKER_FEE: Final = "0.0005"
_GIVE_UP_SECONDS: Final = 900
_STEP_MS: Final = 1_000  # hftbacktest goes on by this much, and must keep the trades of one step


class PeerError(RuntimeError):
    """A peer could not run, or saw something else than we did."""


def write_trades(folder: Path, slices: Sequence[Mapping[str, Tape]]) -> int:
    """All trades by time as .npy columns, and `setup.json`. Returns how many; the slices must follow one another."""
    count = sum(len(tape) for tapes in slices for tape in tapes.values())
    columns: dict[str, npt.NDArray[Any]] = {}
    row, busiest = 0, 0
    for tapes in slices:
        part = merged(tapes)
        rows = slice(row, row := row + len(part["ts"]))
        for name, values in part.items():
            if name not in columns:
                path = folder / f"{name}.npy"
                columns[name] = np.lib.format.open_memmap(path, mode="w+", dtype=values.dtype, shape=(count,))
            columns[name][rows] = values
        busiest = max(busiest, int(np.unique(part["ts"] // _STEP_MS, return_counts=True)[1].max()))
    setup = {
        "symbols": list(slices[0]),
        "price_decimals": SCALE.price_decimals,
        "quantity_decimals": SCALE.quantity_decimals,
        "parameters": dict(PARAMETERS),
        "capital": CAPITAL,
        "taker_fee": TAKER_FEE,
        "last_trades_capacity": 2 * busiest,  # a step of theirs may begin within a second of ours
    }
    (folder / "setup.json").write_text(json.dumps(setup), encoding="utf-8")
    return count


def run_peer(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """What `peers/NAME.py` said, and by the medians of its rounds `trades_per_s` and `trades_per_cpu_s`."""
    if not PYTHON.exists():
        raise PeerError("the peers are not installed: `make bench-engine` does it")
    command = [str(PYTHON), str(PEERS / f"{name}.py"), str(folder), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_GIVE_UP_SECONDS, check=False)
    if done.returncode:
        raise PeerError(f"{name}: {done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    trades = said["trades"]
    return said | {
        "trades_per_s": trades / statistics.median(said["seconds"]),
        "trades_per_cpu_s": trades / statistics.median(said["cpu_seconds"]),
    }


Entry = tuple[str, int, str]  # symbol, ms, trade id


def compare_entries(ours: Sequence[Entry], theirs: Sequence[Entry]) -> None:
    """Raises `PeerError` naming the first entry that only one of the two has."""
    mine, other = (sorted(rows, key=lambda row: (row[1], row[0], row[2])) for rows in (ours, theirs))
    for number, (one, two) in enumerate(zip(mine, other, strict=False), 1):
        if one != two:
            raise PeerError(f"entry {number} is {one} here and {two} there")
    if len(mine) != len(other):
        raise PeerError(f"{len(mine)} entries here, {len(other)} there")
