"""The engine's speed: the scan, a full backtest beside NautilusTrader and hftbacktest, a what-if, and how it grows.

Everything runs on one core and on the same trades; figures are medians of five. The benchmark fails if an entry of ours
is not NautilusTrader's, or the other way round.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from apps.engine.tapes import Tape
from tests.bench.beside import compare_entries, run_peer, write_trades
from tests.bench.lengthen import lengthen
from tests.bench.market import HALF_DAY_MINUTES, MINUTES_STEP, Market
from tests.bench.plain import plain_rate
from tests.bench.simulated import (
    ROUNDS,
    batches,
    count_of,
    entries_of,
    memory_limit,
    run_backtest,
    scan_all,
    shares,
    timed,
)
from tests.bench.whatif import measure_whatif

SYMBOLS: Final = 20
TRADES: Final = 20_000_000
SLICE_TRADES: Final = 1_000_000  # half a day of 20 symbols; the first one is what NautilusTrader is given
DAY_TRADES: Final = 2_000_000
ENTRIES_MIN: Final = 20
ROUND_TRIPS_MIN: Final = 200
GROWTH_SYMBOLS: Final = (1, 20, 1_000)
GROWTH_TRADES: Final = (1_000_000, 10_000_000, 100_000_000)

Slices = list[dict[str, Tape]]


def measure(trades: int = TRADES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Rates are trades per second. With fewer `trades` than the default everything shrinks, the growth too."""
    everything, cores = os.sched_getaffinity(0), sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    try:
        slices = _market(trades)
        figures = _ours(slices, rounds)
        figures |= _peers(slices, rounds, figures)
        figures |= measure_whatif(min(trades, DAY_TRADES), rounds)
        del slices
        figures["growth"] = _growth(trades)
    finally:
        os.sched_setaffinity(0, everything)
    return figures


def _market(trades: int) -> Slices:
    """Slices of half a day; a smaller market is one slice that is shorter."""
    minutes = min(HALF_DAY_MINUTES, max(trades * HALF_DAY_MINUTES // SLICE_TRADES // MINUTES_STEP, 1) * MINUTES_STEP)
    return list(Market(SYMBOLS).slices(max(trades // SLICE_TRADES, 1), minutes))


def _ours(slices: Slices, rounds: int) -> dict[str, Any]:
    trades = count_of(slices)
    result = run_backtest(slices)  # compiles, or loads what was compiled
    if trades >= TRADES:
        assert len(result.round_trips) >= ROUND_TRIPS_MIN, f"{len(result.round_trips)} round trips"
    scan, limit = trades / timed(lambda: scan_all(slices), rounds).seconds, memory_limit(slices)
    whole = timed(lambda: run_backtest(slices), rounds)
    return {
        "trades": trades,
        "signals": len(result.signals),
        "denied": sum(decision.order is None for decision in result.decisions),
        "round_trips": len(result.round_trips),
        "scan_trades_per_s": scan,
        "backtest_trades_per_s": trades / whole.seconds,
        "backtest_trades_per_cpu_s": trades / whole.cpu_seconds,
        "memory_limit_trades_per_s": limit,
        "scan_over_memory_limit": scan / limit,
        "backtest_over_memory_limit": trades / whole.seconds / limit,
        "plain_python_trades_per_s": plain_rate(slices[0]),
        **batches(next(iter(slices[0].values()))),
        "shares": shares(lambda: run_backtest(slices)),
    }


def _peers(slices: Slices, rounds: int, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Both peers on the same trades: NautilusTrader on the first slice, hftbacktest on all of them."""
    entries = entries_of(run_backtest(slices[:1]))
    prefix = timed(lambda: run_backtest(slices[:1]), rounds)
    with tempfile.TemporaryDirectory(prefix="cdb-bench-") as name:
        first, whole = Path(name) / "first", Path(name) / "whole"
        first.mkdir()
        whole.mkdir()
        write_trades(first, slices[:1])
        nautilus = run_peer("nautilus", first, rounds)
        compare_entries(entries, [(symbol, ts, trade_id) for symbol, ts, trade_id in nautilus["entries"]])
        write_trades(whole, slices)
        bare = run_peer("hft", whole, rounds)
    if count_of(slices[:1]) >= SLICE_TRADES:
        assert len(entries) >= ENTRIES_MIN, f"{len(entries)} entries"
    rate = ours["backtest_trades_per_s"]
    return {
        "entries_ours": len(entries),
        "entries_nautilus": len(nautilus["entries"]),
        "round_trips_nautilus": nautilus["round_trips"],
        "prefix_trades_per_s": count_of(slices[:1]) / prefix.seconds,
        "backtest_over_nautilus": rate / nautilus["trades_per_s"],
        "backtest_over_hftbacktest": rate / bare["trades_per_s"],
        **{
            f"{name}_{unit}": said[unit]
            for name, said in (("nautilus", nautilus), ("hftbacktest", bare))
            for unit in ("trades_per_s", "trades_per_cpu_s")
        },
        "version_nautilus_trader": nautilus["version"],
        "version_hftbacktest": bare["version"],
    }


def _growth(trades: int) -> dict[str, Any]:
    """Nanoseconds per trade with more symbols and with more trades, and the memory that it took."""
    share = min(trades / TRADES, 1.0)
    symbols = {f"{n}_symbols": lengthen(n, int(2 * TRADES * share), ROUNDS) for n in GROWTH_SYMBOLS}
    lengths = {f"{n // 1_000_000}_million_trades": lengthen(SYMBOLS, int(n * share), ROUNDS) for n in GROWTH_TRADES}
    return {
        "symbols": {**symbols, "slowest_over_fastest": _spread(symbols)},
        "trades": {**lengths, "slowest_over_fastest": _spread(lengths)},
    }


def _spread(found: Mapping[str, Mapping[str, float]]) -> float:
    times = [row["ns_per_trade"] for row in found.values()]
    return max(times) / min(times)
