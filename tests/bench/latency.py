"""From a trade to its order: a whole stack under load, beside what one hop through Celery costs on the same machine.

A recording of 100 symbols is played, first fast until the strategy is warm, then, after a restart, at three times its
speed, about 1,100 trades per second. Each symbol jumps every six minutes, is bought by a momentum of two minutes, and
sold at its stop; one symbol after the other, so that orders come evenly, nearly two per second. The time of an order is
from `ts_init` of the trade that triggered it (our clock when its frame arrived) to the moment at which PostgreSQL
committed the order's row.
"""

from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from apps.ops.embedded.home import read_home, remove_servers
from tests.bench import decisions
from tests.road.recordings import START_MS
from tests.road.stack import REPOSITORY, Stack, free_port, wait_until

SYMBOLS: Final = 100
MINUTES: Final = 72
TRADES_A_MINUTE: Final = 220
SPEED: Final = 3
WARM_UP_SPEED: Final = 20
WARM_UP_TRADES_A_MINUTE: Final = 33
CALM_MINUTES: Final = 20
PERIOD_MINUTES: Final = 6
HOPS_IDLE: Final = 300
HOPS_LOADED: Final = 200
HOPS_PACED: Final = 100  # as far apart as the loaded ones: a worker that slept is slower than one that is asked at once
ORDERS_MIN: Final = 1_000
TRADES_PER_S_MIN: Final = 1_000
SECONDS_MIN: Final = 60
FREQTRADE_LOOP_MS: Final = 5_000
HUMMINGBOT_LOOP_MS: Final = 1_000
# One order per symbol and jump, small enough that no limit of the account is met.
LIMITS: Final = (
    "order_size=0.002", "open_orders_max=1000", "open_orders_symbol_max=4", "orders_per_second_max=100",
    "orders_per_minute_max=1000", "orders_per_day_max=100000",
)  # fmt: skip
STRATEGY: Final = ("lookback_minutes=2", "cooldown_minutes=4", "rsi_min=0")
ORDERS: Final = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(event.xmin)) * 1000 - signal.ts_init
      FROM execution_orderevent event
      JOIN execution_order placed ON placed.id = event.order_id
      JOIN risk_orderintent intent ON intent.id = placed.intent_id
      JOIN risk_riskdecision decision ON decision.id = intent.decision_id
      JOIN signals_signal signal ON signal.id = decision.signal_id
     WHERE event.event = 'SUBMIT'
"""


def measure() -> dict[str, Any]:
    """Milliseconds from trades to orders and of empty tasks; decisions per second at 1, 10 and 50 connections."""
    with tempfile.TemporaryDirectory(prefix="cdb-bench-") as name:
        stack = Stack(Path(name) / "data", free_port())
        try:
            return _road(stack, make_recording(Path(name))) | decisions.measure()
        finally:
            stack.manage("stack", "down", check=False)
            if (stack.folder / "layout").exists():
                remove_servers(read_home(stack.folder))


def _road(stack: Stack, recording: Path) -> dict[str, Any]:
    warm_up(stack, recording)
    wait_until("orders flow", lambda: stack.sql("SELECT 1 FROM execution_order LIMIT 1"), seconds=240)
    began, before = time.monotonic(), _processed(stack)
    loaded = hops(stack, HOPS_LOADED, every_seconds=SECONDS_MIN / HOPS_LOADED)
    seconds, trades = time.monotonic() - began, _processed(stack) - before
    stack.wait_replayed(seconds=1_500)
    idle = hops(stack, HOPS_IDLE, every_seconds=0.0)
    paced = hops(stack, HOPS_PACED, every_seconds=SECONDS_MIN / HOPS_LOADED)
    taken = sorted(float(row[0]) for row in stack.sql(ORDERS))
    stale = stack.sql("SELECT count(*) FROM risk_riskdecision WHERE reasons ? 'STALE_SIGNAL'")[0][0]
    one_hop = statistics.median(idle)
    found = {
        "p50_ms": statistics.median(taken),
        "p90_ms": _share(taken, 90),
        "p99_ms": _share(taken, 99),
        "celery_hop_idle_p50_ms": one_hop,
        "celery_hop_idle_p99_ms": _share(idle, 99),
        "celery_hop_idle_paced_p50_ms": statistics.median(paced),
        "celery_hop_loaded_p50_ms": statistics.median(loaded),
        "celery_hop_loaded_p99_ms": _share(loaded, 99),
        "trades_per_s": trades / seconds,
        "orders": len(taken),
        "denied_for_age": stale,
        "symbols": SYMBOLS,
        "freqtrade_loop_ms": FREQTRADE_LOOP_MS,
        "hummingbot_loop_ms": HUMMINGBOT_LOOP_MS,
    }
    found |= {"p50_over_hop": found["p50_ms"] / one_hop, "p99_over_hop": found["p99_ms"] / one_hop}
    # What was measured is told even if it was too little: it took twenty minutes.
    assert len(taken) >= ORDERS_MIN, f"only {len(taken)} orders: {found}"
    assert seconds >= SECONDS_MIN, f"only {seconds:.0f} s: {found}"
    assert trades / seconds >= TRADES_PER_S_MIN, f"only {trades / seconds:.0f} trades/s: {found}"
    return found


def warm_up(stack: Stack, recording: Path) -> None:
    """Play the calm minutes fast; then the stack goes on where it stood, at the speed that is measured."""
    played = ("--mode", "demo", "--replay", str(recording))
    stack.up(*played, "--speed", str(WARM_UP_SPEED))
    configure(stack)
    until = START_MS + (CALM_MINUTES - 1) * 60_000
    reached = "SELECT min(watermark_ms) FROM market_shardcursor"
    wait_until("the strategy is warm", lambda: (stack.sql(reached)[0][0] or 0) >= until, seconds=240)
    stack.down()
    stack.up(*played, "--speed", str(SPEED))
    assert stack.sql(reached)[0][0] >= until, "the replay began anew"


def configure(stack: Stack) -> None:
    """Limits that nothing here meets, and a momentum that may buy a symbol again after six minutes."""
    stack.manage("risk", "limits", "set", *LIMITS, "--reason", "benchmark")
    added = json.loads(
        stack.manage("strategy", "add", "momentum", "--set", *STRATEGY, "--reason", "benchmark", "--json").stdout
    )
    stack.manage("strategy", "use", "momentum", str(added["version"]), "--reason", "benchmark")


def _processed(stack: Stack) -> int:
    return int(stack.sql("SELECT coalesce(sum(processed), 0) FROM market_shardcursor")[0][0])


def _share(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def hops(stack: Stack, count: int, *, every_seconds: float) -> list[float]:
    """Round trips of a task that does nothing but say that it ran, ms. `tests.bench.hops` makes them."""
    command = [sys.executable, "-m", "tests.bench.hops", str(count), str(every_seconds)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=stack.environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- the recording ----------------------------------------------------------------------------------------------------


def make_recording(folder: Path) -> Path:
    """Write `latency.csv.gz` and its instruments. Returns the recording's path."""
    names = [f"L{number:03d}USDT" for number in range(SYMBOLS)]
    rows = sorted(row for number, name in enumerate(names) for row in _trades(number, name))
    path = folder / "latency.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("symbol,time_ms,trade_id,aggressor_side,price,quantity\n")
        for trade_id, (ts, name, price, side) in enumerate(rows, 1):
            file.write(f"{name},{ts},{trade_id},{side},{price / 10_000:.4f},500\n")
    (folder / "latency.instruments.json").write_text(json.dumps({name: _spec(name) for name in names}))
    return path


def _trades(number: int, name: str) -> Iterator[tuple[int, str, int, str]]:
    """(event time, symbol, price in ticks of 0.0001, side): jumps begin one symbol after the other."""
    for place, minute in enumerate(_times(number)):
        since = minute - CALM_MINUTES - number * PERIOD_MINUTES / SYMBOLS
        price = round(10_000 * (1 + (_lift(since % PERIOD_MINUTES) if since > 0 else 0))) - place % 2
        yield START_MS + int(minute * 60_000), name, price, ("buy", "sell")[place % 2]


def _times(number: int) -> Iterator[float]:
    """Minutes at which a symbol trades, no two symbols at once."""
    for first, last, each in (
        (0, CALM_MINUTES, WARM_UP_TRADES_A_MINUTE), (CALM_MINUTES, MINUTES, TRADES_A_MINUTE),
    ):  # fmt: skip
        for place in range((last - first) * each):
            yield first + (place + number / SYMBOLS) / each


def _lift(phase: float) -> float:
    """Up by three per cent, down to one below, and quiet: an entry, its stop, and a window that knows of neither."""
    if phase < 1.25:
        return 0.024 * phase
    if phase < 1.5:
        return 0.03
    return 0.03 - 0.04 * (phase - 1.5) / 0.75 if phase < 2.25 else -0.01 if phase < 2.75 else 0.0


def _spec(name: str) -> dict[str, object]:
    return {
        "baseAsset": name.removesuffix("USDT"),
        "quoteAsset": "USDT",
        "baseAssetPrecision": 0,
        "quotePrecision": 4,
        "baseSizePrecision": "0",
        "quoteAmountPrecision": "1",
        "maxQuoteAmount": "4000000",
        "makerCommission": "0",
        "takerCommission": "0.0005",
    }
