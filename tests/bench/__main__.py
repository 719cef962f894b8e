"""`make bench` and `make bench-NAME`: print a table and write `$CDB_DATA_DIR/bench/NAME.json`.

`make bench-engine ARGS="--trades 200000"` runs the engine's on a smaller market, for a first look.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.bench import engine, feed, growth, killswitch, latency, receive

BENCHES: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "engine": engine.measure,
    "ingest": feed.measure,
    "feed": receive.measure,
    "growth": growth.measure,
    "killswitch": killswitch.measure,
    "latency": latency.measure,
}
PACKAGES: Final = ("numba", "numpy", "protobuf", "websocket-client", "redis", "aiohttp", "ccxt")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("names", nargs="*", default=["all"])
    parser.add_argument("--trades", type=int, default=engine.TRADES, help="how many the engine's benchmark takes")
    options = parser.parse_args(arguments)
    wanted = list(BENCHES) if options.names == ["all"] else options.names
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        print(f"no benchmark {unknown[0]} (there are: {', '.join(BENCHES)})", file=sys.stderr)
        return 2
    for name in wanted:
        figures = engine.measure(options.trades) if name == "engine" else BENCHES[name]()
        _print(name, figures)
        _write(name, figures)
    return 0


def _print(name: str, figures: dict[str, Any]) -> None:
    table = Table("figure", "value", title=name)
    for key, value in _flat(figures):
        table.add_row(key, value if isinstance(value, str) else f"{value:,.{2 if abs(value) < 1e6 else 0}f}")
    Console().print(table)


def _flat(figures: dict[str, Any]) -> Iterator[tuple[str, float | str]]:
    """What is nested carries the names above it."""
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from ((f"{key} {inner}", number) for inner, number in _flat(value))
        else:
            yield key, value


def _write(name: str, figures: dict[str, Any]) -> None:
    folder = Path(os.environ.get("CDB_DATA_DIR", "var")) / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        **figures,
        "date": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **{f"version_{package}": version(package) for package in PACKAGES},
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
