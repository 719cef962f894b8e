"""What the ingest costs: `python -m tests.ingest.bench_ingest FILE [--speed 600] [--seconds 30]`.

Replays a recording through the local exchange into the real worker and a Valkey of its own, and prints rates,
processor use and latency.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.ingest.processes import Exchange, Ingest, Valkey, configuration, wait_until
from workers.exchange.files import read_recording


def main() -> None:
    parser = argparse.ArgumentParser(description="Rates, processor use and latency of the ingest.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--speed", type=float, default=600)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cdb-bench-") as folder:
        figures = measure(options.file, options.speed, options.seconds, Path(folder))
    for name, value in figures.items():
        print(f"{name:<24}{value:>14,.3f}")


def measure(file: Path, speed: float, seconds: float, folder: Path) -> dict[str, float]:
    """Figures over `seconds` of a steady replay, after a few seconds of start."""
    valkey = Valkey(folder)
    valkey.start()
    exchange = Exchange([file], speed, folder)
    ingest = Ingest(configuration(exchange.ws_url, exchange.rest_url, valkey.url, symbols=_symbols(file)), folder)
    try:
        wait_until(lambda: _counts(ingest)["trades"] > 0, "trades flow", 30)
        time.sleep(3)
        before, cpu_before, started = _counts(ingest), ingest.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        after, cpu_after, elapsed = _counts(ingest), ingest.cpu_seconds(), time.monotonic() - started
    finally:
        ingest.end()
        exchange.end()
        valkey.kill()
    rates = {f"{name}_per_second": (after[name] - before[name]) / elapsed for name in ("trades", "quotes", "entries")}
    mean = (after["latency_sum"] - before["latency_sum"]) / max(after["latency_count"] - before["latency_count"], 1)
    return {**rates, "core_share": (cpu_after - cpu_before) / elapsed, "publish_mean_ms": mean * 1000}


def _counts(ingest: Ingest) -> dict[str, float]:
    return {
        "trades": ingest.metric('cdb_ingest_trades_total{stage="published"}'),
        "quotes": ingest.metric('cdb_ingest_quotes_total{stage="received"}'),
        "entries": ingest.metric("cdb_ingest_entries_total"),
        "latency_sum": ingest.metric("cdb_ingest_publish_latency_seconds_sum"),
        "latency_count": ingest.metric("cdb_ingest_publish_latency_seconds_count"),
    }


def _symbols(file: Path) -> list[dict[str, Any]]:
    return [
        {"symbol": symbol, "price_decimals": spec.price_decimals, "quantity_decimals": spec.quantity_decimals}
        for symbol, spec in read_recording(file).instruments.items()
    ]


if __name__ == "__main__":
    main()
