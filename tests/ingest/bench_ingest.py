"""What the ingest costs: `python -m tests.ingest.bench_ingest [--replay FILE] [--speed 600] [--seconds 20]`.

Two loads, each into the real worker and a Valkey of its own: 560 symbols on 38 connections with a frame per trade
(the dearest way to receive trades), and a recording replayed fast by the local exchange, if one is given.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from apps.ops.embedded.home import pick_port
from tests.ingest.processes import Exchange, Ingest, Process, Valkey, configuration, wait_until
from workers.exchange.files import read_recording

WIDE_SYMBOLS: Final = 560
WIDE_SHARDS: Final = 4
_SETTLE_SECONDS: Final = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="Rates, processor use and latency of the ingest.")
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--speed", type=float, default=600)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cdb-bench-") as folder:
        tables = {"wide": wide(options.seconds, Path(folder))}
        if options.replay:
            tables["replay"] = replay(options.replay, options.speed, options.seconds, Path(folder))
    for name, figures in tables.items():
        for key, value in figures.items():
            print(f"{name + '_' + key:<32}{value:>14,.3f}")


def wide(seconds: float, folder: Path) -> dict[str, float]:
    """Many symbols, one or two trades per frame."""
    port = pick_port()
    load = Process([sys.executable, "-m", "tests.ingest.wide_exchange", str(port)], folder / "wide.log")
    wait_until(lambda: "listening" in load.log, "the load listens")
    symbols = [
        {"symbol": f"S{number:03}USDT", "price_decimals": 2, "quantity_decimals": 2} for number in range(WIDE_SYMBOLS)
    ]
    try:
        return _measure(
            f"ws://127.0.0.1:{port}/ws", "http://127.0.0.1:9", symbols, seconds, folder, WIDE_SHARDS, warmup_bars=0
        )
    finally:
        load.end()


def replay(file: Path, speed: float, seconds: float, folder: Path) -> dict[str, float]:
    """A recording, as many times faster as `speed` says."""
    symbols = [
        {"symbol": symbol, "price_decimals": spec.price_decimals, "quantity_decimals": spec.quantity_decimals}
        for symbol, spec in read_recording(file).instruments.items()
    ]
    exchange = Exchange([file], speed, folder)
    try:
        return _measure(exchange.ws_url, exchange.rest_url, symbols, seconds, folder, 2)
    finally:
        exchange.end()


def _measure(
    ws_url: str, rest_url: str, symbols: list[dict[str, Any]], seconds: float, folder: Path, shards: int, **changes: Any
) -> dict[str, float]:
    """Figures over `seconds` of steady load, after a few seconds of start."""
    own = Path(tempfile.mkdtemp(dir=folder))
    valkey = Valkey(own)
    valkey.start()
    ingest = Ingest(configuration(ws_url, rest_url, valkey.url, symbols=symbols, shard_count=shards, **changes), own)
    try:
        wait_until(lambda: _counts(ingest)["trades"] > 0, "trades flow", 30)
        time.sleep(_SETTLE_SECONDS)
        before, cpu_before, started = _counts(ingest), ingest.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        after, cpu_after, elapsed = _counts(ingest), ingest.cpu_seconds(), time.monotonic() - started
    finally:
        ingest.end()
        valkey.kill()
    rates = {f"{name}_per_second": (after[name] - before[name]) / elapsed for name in ("trades", "quotes", "entries")}
    batches = max(after["latency_count"] - before["latency_count"], 1)
    mean_ms = (after["latency_sum"] - before["latency_sum"]) / batches * 1000
    return {**rates, "core_share": (cpu_after - cpu_before) / elapsed, "publish_mean_ms": mean_ms}


def _counts(ingest: Ingest) -> dict[str, float]:
    return {
        "trades": ingest.metric('cdb_ingest_trades_total{stage="published"}'),
        "quotes": ingest.metric('cdb_ingest_quotes_total{stage="received"}'),
        "entries": ingest.metric("cdb_ingest_entries_total"),
        "latency_sum": ingest.metric("cdb_ingest_publish_latency_seconds_sum"),
        "latency_count": ingest.metric("cdb_ingest_publish_latency_seconds_count"),
    }


if __name__ == "__main__":
    main()
