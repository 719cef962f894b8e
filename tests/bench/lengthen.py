"""How the backtest's time per trade and its memory grow with symbols and trades: `lengthen.py SYMBOLS SLICES MINUTES`.

Each size is a process of its own, so that its greatest memory is its own. Slices are made one at a time and given away
when they have been fed; making them is not timed, and times are the processor's. Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Final

from apps.engine.backtest import Backtest
from tests.bench.market import HALF_DAY_MINUTES, HALF_DAY_TRADES, Market
from tests.bench.simulated import end_of, run_backtest, setup_of
from tests.ingest.processes import REPOSITORY

SLICE_TRADES: Final = 4_000_000  # as a reader of the archive cuts it
_GIVE_UP_SECONDS: Final = 600


def lengthen(symbols: int, trades: int, rounds: int = 1) -> dict[str, float]:
    """Nanoseconds per trade, and greatest resident memory in MB, of so many trades over so many symbols."""
    minutes = min(SLICE_TRADES, trades) // symbols * HALF_DAY_MINUTES // HALF_DAY_TRADES // 9 * 9
    minutes = max(minutes, 9)
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
        "greatest_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "round_trips": runs[0]["round_trips"],
    }


def _once(symbols: int, slices: int, minutes: int) -> dict[str, float]:
    market = Market(symbols)
    backtest = Backtest(setup_of(market.names))
    seconds = 0.0
    for tapes in market.slices(slices, minutes):
        started = time.process_time()
        backtest.feed(tapes, end_ms=end_of(tapes))
        seconds += time.process_time() - started
    started = time.process_time()
    result = backtest.finish()
    seconds += time.process_time() - started
    return {"seconds": seconds, "trades": result.trades, "round_trips": len(result.round_trips)}


if __name__ == "__main__":
    print(json.dumps(_measure(*map(int, sys.argv[1:]))))
