"""The engine's speed: the compiled scan beside the same rule in plain Python, and a whole shard."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from apps.engine.kernel import Array
from apps.engine.shard import ShardEngine, StrategySpec
from apps.engine.strategies import STRATEGIES
from tests.engine.market_stream import PARAMETERS, SCALE, START_MS, make_prints, to_entries
from tests.road.reference import wilder_rsi

ROUNDS: Final = 5
TRADES: Final = 2_000_000
PLAIN_TRADES: Final = 20_000
BATCH: Final = 20


def measure() -> dict[str, float]:
    """Medians of five rounds, trades per second; the ratio is compiled over plain."""
    module = STRATEGIES["momentum"]
    parameters = module.pack(PARAMETERS)
    dice = np.random.default_rng(1)
    ts = START_MS + np.cumsum(dice.integers(0, 200, TRADES)).astype(np.int64)
    price = np.exp(np.cumsum(dice.normal(0, 0.0002, TRADES)))
    quantity = dice.random(TRADES)
    fired, figures = np.empty(TRADES, dtype=np.int64), np.empty((TRADES, 3))

    def scan(size: int) -> None:
        state = module.new_state()
        for at in range(0, TRADES, size):
            part = slice(at, at + size)
            module.kernel.scan(state, parameters, ts[part], price[part], quantity[part], fired[part], figures[part])

    scan(TRADES)  # compiles, or loads what was compiled
    whole = TRADES / _median(lambda: scan(TRADES))
    batches = TRADES / _median(lambda: scan(BATCH), rounds=3)
    head = slice(0, PLAIN_TRADES)
    plain = PLAIN_TRADES / _median(lambda: _plain(ts[head], price[head], quantity[head]), rounds=3)
    shard = _shard_rate()
    return {
        "scan_whole_trades_per_second": whole,
        "scan_batches_of_20_trades_per_second": batches,
        "plain_python_trades_per_second": plain,
        "scan_whole_over_plain": whole / plain,
        "shard_trades_per_second": shard,
    }


def _plain(ts: Array, price: Array, quantity: Array) -> int:
    """The same work without compilation: RSI and the window's turnover once per minute, the rest per trade."""
    closes: list[float] = []
    turnovers: list[float] = []
    minute, last, strength, window, open_turnover = int(ts[0]) // 60_000, 0.0, 0.0, 0.0, 0.0
    last_signal, fired = None, 0
    for at, value, amount in zip(ts.tolist(), price.tolist(), quantity.tolist(), strict=True):
        while minute < at // 60_000:
            closes.append(last)
            turnovers.append(open_turnover)
            open_turnover = 0.0
            minute += 1
            strength = wilder_rsi(closes) if len(closes) > 15 else 0.0
            window = sum(turnovers[-15:])
        last = value
        open_turnover += value * amount
        if len(closes) <= 16 or value / closes[-16] - 1 < 0.02 or strength <= 50 or window + open_turnover < 0:
            continue
        if last_signal is None or at - last_signal >= 900_000:
            last_signal = at
            fired += 1
    return fired


def _shard_rate() -> float:
    """Entries through a whole shard: bars with hashes, coverage, tapes, signals."""
    entries = to_entries(make_prints(1, minutes=600), 1, frame_ms=(60_000,))
    trades = len(make_prints(1, minutes=600))

    def run() -> None:
        engine = ShardEngine(dict.fromkeys(("AAAUSDT", "BBBUSDT"), SCALE), [StrategySpec(1, "momentum", PARAMETERS)])
        for entry_id, events in entries:
            engine.apply(entry_id, events)

    run()
    return trades / _median(run)


def _median(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
