"""`make soak HOURS=1`: a long quiet run, in which nothing may break, grow or be lost.

    HOURS=1             300 symbols, 200 trades and 1,000 quotes per second, every clock at its true pace
    HOURS=1 FACTOR=60   20 symbols, event time and all rules sixty times as fast, so that connections come of age

Sampled are memory and processor time of the ingest. At the end the same judge decides as after every fault run, and
every minute must be PROVEN. Exit code 1 if not, or if a connection closed unplanned.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from apps.ops.embedded.home import open_home
from tests.faults import lane as lanes
from tests.faults.checker import PROVEN, Verdict
from tests.faults.lane import Lane
from tests.faults.processes import Stuck, wait_until
from tests.faults.run import judge
from tests.faults.world import Setup, World

SAMPLE_SECONDS: Final = 10.0
SAY_SECONDS: Final = 300.0
STREAM_SECONDS: Final = 60
SETTLE_SECONDS: Final = 180
UNSETTLED_MINUTES: Final = 5  # of the market: the sweep waits for late trades
PLANNED: Final = frozenset({"rotated", "stopped", "lifetime"})
KIB: Final = 1024


@dataclass(frozen=True)
class Sample:
    """`at` in seconds since all connections streamed."""

    at: float
    rss_bytes: int
    cpu_seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description="A long quiet run.")
    parser.add_argument("--hours", type=float, default=1.0, help="of the machine")
    parser.add_argument("--factor", type=float, default=1.0, help="how fast event time and all rules run")
    parser.add_argument("--symbols", type=int, help="300, or 20 with a factor")
    parser.add_argument("--trades", type=float, help="per second, instead of the usual; fills memories sooner")
    parser.add_argument("--figures", type=Path, default=Path("var/bench"), help="the folder for the figures as JSON")
    options = parser.parse_args(arguments)
    database_url = os.environ.get("DATABASE_URL")
    if not database_url:
        sys.stderr.write("soak: DATABASE_URL is not set; `make soak` starts a server of its own\n")
        return 2
    setup = setup_of(options.factor, options.symbols, options.trades)
    folder = Path(tempfile.mkdtemp(prefix="cdb-soak-"))
    figures, faults = soak(setup, options.hours * 3600, database_url, folder)
    _print(figures, faults)
    _write(options.figures, figures, faults)
    if faults:
        print(f"evidence: {folder}")
    return 1 if faults else 0


def setup_of(factor: float, symbols: int | None = None, trades_per_second: float | None = None) -> Setup:
    """Rates are per second of the machine at factor 1, and of event time otherwise."""
    count = symbols or (300 if factor == 1 else 20)
    trades, quotes = (count * 200 / 300, count * 1_000 / 300) if factor == 1 else (count / 5, count / 5)
    rates = ("--trades-per-second", str(trades_per_second or trades), "--quotes-per-second", str(quotes))
    return Setup(seed=1, speed=factor, rate=factor, shards=4, symbols=count, exchange_options=rates)


def soak(setup: Setup, seconds: float, database_url: str, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """(figures, what is wrong). Everything is ended when it returns."""
    workplace = folder / "lane"
    workplace.mkdir()
    home = open_home(folder / "template")
    lanes.make_template(database_url, {**os.environ, "CDB_DATA_DIR": str(home.root)})
    lane = Lane(0, database_url, workplace)
    lane.open()
    world = World(lane, setup, folder)
    try:
        world.start()
        wait_until("all connections stream", world.streaming, seconds=STREAM_SECONDS)
        first_minute = world.event_minute()
        samples = _sample(world, seconds)
        stuck = _settle(world, first_minute)
        answer = world.end()
        world.stop_exchange()
        verdict = judge(world)
        closes = _closes(lane.database_url, world.epoch)
    finally:
        world.destroy()
        lane.close()
        lanes.drop(database_url, lanes.TEMPLATE)
    return _figures(setup, samples, verdict, closes), stuck + _faults(world, verdict, closes, answer)


def _settle(world: World, first_minute: int) -> list[str]:
    """Every minute closed but the running one, and compared with klines as far as those are settled; or why not."""
    running = world.event_minute()
    closed, swept = running - 1, running - UNSETTLED_MINUTES
    try:
        wait_until("all minutes are closed", lambda: world.closed_through(closed), seconds=SETTLE_SECONDS, every=1)
        if swept > first_minute:
            wait_until("all minutes are swept", lambda: world.swept_through(swept), seconds=SETTLE_SECONDS, every=1)
    except Stuck as error:
        return [str(error)]
    return []


def _sample(world: World, seconds: float) -> list[Sample]:
    """Watch the ingest for so long; leaves early if it ended."""
    process = psutil.Process(world.ingests["ingest"].popen.pid)
    began = time.monotonic()
    samples: list[Sample] = []
    said_at = 0.0
    while time.monotonic() - began < seconds and world.ingests["ingest"].alive:
        times = process.cpu_times()
        samples.append(Sample(time.monotonic() - began, process.memory_info().rss, times.user + times.system))
        if samples[-1].at - said_at >= SAY_SECONDS:
            said_at = samples[-1].at
            print(f"{said_at / 60:.0f} min: {samples[-1].rss_bytes / KIB / KIB:.1f} MiB", flush=True)
        time.sleep(min(SAMPLE_SECONDS, seconds / 20))
    return samples


def _closes(database_url: str, epoch: int) -> Counter[str]:
    """Connections that closed, and moves to a successor, by category."""
    statement = """SELECT category, count(*) FROM market_feedtransition
                    WHERE epoch_id = %s AND (to_state LIKE 'CLOSED%%' OR category = 'rotated') GROUP BY category"""
    with psycopg.connect(database_url) as connection:
        return Counter(dict(connection.execute(statement, [epoch]).fetchall()))


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """Least squares over the second half, bytes per hour; what grows at the start is filling, not growing."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return 0.0
    mean_at = sum(sample.at for sample in half) / len(half)
    mean_rss = sum(sample.rss_bytes for sample in half) / len(half)
    above = sum((sample.at - mean_at) * (sample.rss_bytes - mean_rss) for sample in half)
    below = sum((sample.at - mean_at) ** 2 for sample in half)
    return above / below * 3600 if below else 0.0


def _figures(setup: Setup, samples: Sequence[Sample], verdict: Verdict, closes: Counter[str]) -> dict[str, Any]:
    first, last = samples[0], samples[-1]
    seconds = max(last.at - first.at, 1e-9)
    return {
        "hours": round(last.at / 3600, 3),
        "factor": setup.speed,
        "symbols": setup.symbols,
        "minutes_proven": verdict.minutes[PROVEN],
        "minutes_other": verdict.minutes.total() - verdict.minutes[PROVEN],
        "minutes_not_swept": verdict.provisional,
        "trades": verdict.trades,
        "trades_per_second": round(verdict.trades / seconds, 1),
        "rotations": closes["rotated"],
        "unplanned_closes": sum(times for category, times in closes.items() if category not in PLANNED),
        "rss_mib_first": round(first.rss_bytes / KIB / KIB, 1),
        "rss_mib_middle": round(samples[len(samples) // 2].rss_bytes / KIB / KIB, 1),
        "rss_mib_last": round(last.rss_bytes / KIB / KIB, 1),
        "rss_kib_per_hour_second_half": round(slope_per_hour(samples) / KIB, 1),
        "cpu_percent_of_one_core": round(100 * (last.cpu_seconds - first.cpu_seconds) / seconds, 1),
    }


def _faults(world: World, verdict: Verdict, closes: Counter[str], answer: dict[str, Any]) -> list[str]:
    faults = list(verdict.faults) + [f"the keeper met an error:\n{error}" for error in answer["errors"]]
    faults += [f"{times} closes: {name}" for name, times in closes.items() if name not in PLANNED]
    faults += [f"{times} minutes UNPROVEN: {reason}" for reason, times in verdict.reasons.items()]
    if verdict.minutes["BACKFILLED"]:
        faults.append(f"{verdict.minutes['BACKFILLED']} minutes BACKFILLED")
    if code := world.ingests["ingest"].popen.returncode:
        faults.append(f"the ingest ended with exit code {code}")
    return faults


def _print(figures: dict[str, Any], faults: Sequence[str]) -> None:
    table = Table("figure", "value", title="soak")
    for key, value in figures.items():
        table.add_row(key, f"{value:,}")
    console = Console()
    console.print(table)
    for fault in faults:
        console.print(fault, markup=False, highlight=False)
    console.print(f"{figures['hours']} h, {len(faults)} faults", highlight=False)


def _write(folder: Path, figures: dict[str, Any], faults: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = "soak" if figures["factor"] == 1 else f"soak_x{figures['factor']:g}"
    document = {**figures, "faults": list(faults), "date": datetime.now(tz=UTC).isoformat(timespec="seconds")}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
