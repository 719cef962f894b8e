"""How the backtest's time per trade and its memory grow with symbols and trades: `lengthen.py SYMBOLS SLICES MINUTES`.

Each size is a process of its own, so that its greatest memory is its own. Slices are made one at a time and given away
when they have been fed; making them is not timed, and times are the processor's. Prints one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from apps.engine.backtest import Backtest, Setup
from apps.engine.shard import StrategySpec
from tests.bench.market import HALF_DAY_MINUTES, HALF_DAY_TRADES, PARAMETERS, Market
from tests.bench.simulated import end_of, run_backtest, setup_of
from tests.ingest.processes import REPOSITORY

SPEC: Final = StrategySpec(1, "momentum", {**PARAMETERS, "max_holding_minutes": 1})
WIDE: Final[Mapping[str, Any]] = {
    "order_size": Decimal("0.0005"),
    "exposure_max": Decimal(1),
    "open_orders_max": 10_000,
    "orders_per_second_max": 10_000,
    "orders_per_minute_max": 10_000,
}
# As the reader of the archive cuts it: four million trades, but of each symbol at least half a block.
SLICE_TRADES: Final = 4_000_000
SYMBOL_TRADES: Final = 16_384
_GIVE_UP_SECONDS: Final = 600


def lengthen(symbols: int, trades: int, rounds: int = 1) -> dict[str, float]:
    """Nanoseconds per trade, and greatest resident memory in MB, of so many trades over so many symbols."""
    of_each = min(max(SLICE_TRADES // symbols, SYMBOL_TRADES), trades // symbols)
    minutes = max(of_each * HALF_DAY_MINUTES // HALF_DAY_TRADES // 9 * 9, 9)
    slices = max(trades // (symbols * minutes * HALF_DAY_TRADES // HALF_DAY_MINUTES), 1)
    command = [sys.executable, "-m", "tests.bench.lengthen", *map(str, (symbols, slices, minutes, rounds))]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True, timeout=_GIVE_UP_SECONDS
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(symbols: int, slices: int, minutes: int, rounds: int) -> dict[str, float]:
    run_backtest([Market(min(symbols, 2), seed=2).slice(18)])  # loads what was compiled
    runs = [_once(symbols, slices, minutes) for _ in range(rounds)]
    trades = runs[0]["trades"]
    return {
        "trades": trades,
        "ns_per_trade": statistics.median(run["seconds"] for run in runs) / trades * 1e9,
        "greatest_mb": _greatest_mb(),
        "signals_per_million": runs[0]["signals"] / trades * 1e6,
        "round_trips_per_million": runs[0]["round_trips"] / trades * 1e6,
    }


def _greatest_mb() -> float:
    """Of this program alone: what `getrusage` tells begins with the memory of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1e3


def _evenly(symbols: Sequence[str]) -> Setup:
    """Short holding times and wide limits: with any number of symbols a trade brings as many orders as with one."""
    setup = setup_of(symbols)
    return replace(setup, strategies=(SPEC,), limits=replace(setup.limits, **WIDE))


def _once(symbols: int, slices: int, minutes: int) -> dict[str, float]:
    market = Market(symbols)
    backtest = Backtest(_evenly(market.names))
    seconds = 0.0
    for tapes in market.slices(slices, minutes):
        started = time.process_time()
        backtest.feed(tapes, end_ms=end_of(tapes))
        seconds += time.process_time() - started
    started = time.process_time()
    result = backtest.finish()
    seconds += time.process_time() - started
    return {
        "seconds": seconds,
        "trades": result.trades,
        "signals": len(result.signals),
        "round_trips": len(result.round_trips),
    }


if __name__ == "__main__":
    print(json.dumps(_measure(*map(int, sys.argv[1:]))))
