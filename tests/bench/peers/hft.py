"""hftbacktest: a bare pass over the same trades, in steps of one second, the trades counted in compiled code.

Run by the Python of `.venv-bench` as `hft.py FOLDER ROUNDS`. No strategy, no orders: the least that it can do. All
trades are given as those of one asset, which is the fastest way for it; with an asset per symbol every step would visit
each of them. Prints one line of JSON with the seconds of every pass.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from hftbacktest import (
    BUY_EVENT,
    EXCH_EVENT,
    LOCAL_EVENT,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
)
from hftbacktest.types import event_dtype
from numba import njit

NS_PER_MS = 1_000_000
STEP_NS = 1_000_000_000


@njit
def count_trades(backtest: Any) -> tuple[int, float]:
    """Every trade is counted, and its quantity read."""
    seen, volume = 0, 0.0
    while backtest.elapse(STEP_NS) == 0:
        for trade in backtest.last_trades(0):
            seen += 1
            volume += trade.qty
        backtest.clear_last_trades(0)
    for trade in backtest.last_trades(0):
        seen += 1
        volume += trade.qty
    return seen, volume


def events_of(folder: Path, setup: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The trades in its own layout, 64 bytes each; making them is not timed."""
    ts = np.load(folder / "ts.npy", mmap_mode="r")
    side = np.load(folder / "side.npy", mmap_mode="r")
    events = np.zeros(len(ts), event_dtype)
    events["ev"] = np.where(side == 1, BUY_EVENT, SELL_EVENT) | TRADE_EVENT | EXCH_EVENT | LOCAL_EVENT
    events["exch_ts"] = ts
    events["exch_ts"] *= NS_PER_MS
    events["local_ts"] = events["exch_ts"]
    events["px"] = np.load(folder / "price.npy", mmap_mode="r")
    events["px"] /= 10.0 ** setup["price_decimals"]
    events["qty"] = np.load(folder / "quantity.npy", mmap_mode="r")
    events["qty"] /= 10.0 ** setup["quantity_decimals"]
    return events


def backtest_of(events: np.ndarray[Any, Any], setup: dict[str, Any]) -> Any:
    asset = (
        BacktestAsset()
        .data([events])
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, float(setup["taker_fee"]))
        .tick_size(10.0 ** -setup["price_decimals"])
        .lot_size(10.0 ** -setup["quantity_decimals"])
        .last_trades_capacity(setup["last_trades_capacity"])
    )
    return HashMapMarketDepthBacktest([asset])


def run(folder: Path, rounds: int) -> dict[str, Any]:
    setup = json.loads((folder / "setup.json").read_text(encoding="utf-8"))
    events = events_of(folder, setup)
    warm = backtest_of(events[:1000], setup)
    count_trades(warm)  # compiles
    warm.close()
    seconds, cpu_seconds = [], []
    for _ in range(rounds):
        backtest = backtest_of(events, setup)
        started, cpu_started = time.perf_counter(), time.process_time()
        seen, _volume = count_trades(backtest)
        cpu_seconds.append(time.process_time() - cpu_started)
        seconds.append(time.perf_counter() - started)
        backtest.close()
        assert seen == len(events), f"{seen} of {len(events)} trades were seen"
    return {"version": version("hftbacktest"), "trades": len(events), "seconds": seconds, "cpu_seconds": cpu_seconds}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]))))
