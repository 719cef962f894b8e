"""`make prove-engine REPLAY=file SPEED=300 SEED=1`: live, backtest, what-if and parity say the same, byte by byte.

A stack of its own plays the recording (without one: a day of 20 synthetic symbols) while drains and the trade worker
are stopped and killed at random. What it signalled, decided and filled is then laid beside

    file      a simulation of the recording, told the recorded inputs (marks, ages, limits, order of the account)
    archive   the same of what the road archived
    alone     `manage.py backtest` of the recording, told nothing: signals must be equal, the rest is counted
    parity    `manage.py parity`: the raw segments in the recorded order
    whatif    `manage.py whatif` without a change

Exit code 1 if anything differs that must not. With --plant a fill is then changed by one tick: the audit must find it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from apps.ops.embedded.home import read_home, remove_servers
from tests.road.disturbing import Disturber
from tests.road.stack import REPOSITORY, Stack, free_port, wait_until
from tests.road.synthetic_day import make_day

KINDS: Final = ("signals", "decisions", "fills")
SYMBOLS: Final = 20
SHOWN_MAX: Final = 2_000  # characters of a difference
OVERTIME_SECONDS: Final = 600
SETTLE_SECONDS: Final = 600
LOOK_SECONDS: Final = 4
COMMAND_SECONDS: Final = 900


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison: per kind what it compared and found, and whether that is as it must be."""

    name: str
    cells: tuple[str, ...]
    holds: bool
    difference: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.road.prove", description=__doc__.splitlines()[0])
    parser.add_argument("--trades", default="", help="FILE[,FILE]; a synthetic day if none is named")
    parser.add_argument("--speed", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1, help="of the disturbance and of a synthetic day")
    parser.add_argument("--plant", action="store_true", help="at the end change one fill by a tick")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work there, and keep it")
    options = parser.parse_args(arguments)
    console = Console(width=150, highlight=False, soft_wrap=True)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="prove-"))
    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(folder / "data", free_port())
    try:
        files = [Path(part).absolute() for part in options.trades.split(",") if part]
        files = files or [make_day(folder, seed=options.seed, symbols=SYMBOLS)]
        return prove(console, stack, files, options.speed, options.seed, plant=options.plant)
    finally:
        stack.manage("stack", "down", check=False)
        if options.keep is None:
            if (stack.folder / "layout").exists():
                remove_servers(read_home(stack.folder))
            shutil.rmtree(folder, ignore_errors=True)


def prove(console: Console, stack: Stack, files: list[Path], speed: float, seed: int, *, plant: bool) -> int:
    """Play, disturb, compare, say. 0 if everything that must be equal is."""
    started = time.monotonic()
    stack.up("--replay", ",".join(map(str, files)), "--speed", f"{speed:g}", "--tier", "NORMAL")
    status = stack.exchange_status()
    disturber = Disturber(stack, random.Random(seed))
    disturber.run(seconds=(status["end_ms"] - status["start_ms"]) / 1000 / speed + OVERTIME_SECONDS)
    settle(stack)
    played = time.monotonic() - started
    found = compare(stack, files)
    table = Table(title=f"{', '.join(path.name for path in files)}, speed {speed:g}, seed {seed}")
    for heading in ("live beside", *KINDS, ""):
        table.add_column(heading)
    for row in found:
        table.add_row(row.name, *row.cells, "equal" if row.holds else "DIFFERENT")
    console.print(table)
    for row in found:
        if row.difference:
            console.print(f"{row.name}: {row.difference}", markup=False)
    console.print(_circumstances(stack, disturber, played), markup=False)
    holds = all(row.holds for row in found)
    if plant:
        holds &= _planted(console, stack)
    return 0 if holds else 1


SETTLED: Final = """
    SELECT (SELECT sum(processed) FROM market_shardcursor),
           (SELECT count(*) FROM outbox_outboxevent WHERE published_at IS NULL)
         + (SELECT count(*) FROM signals_signal s
             WHERE NOT EXISTS (SELECT 1 FROM risk_riskdecision d WHERE d.signal_id = s.id))
         + (SELECT count(*) FROM portfolio_reservation WHERE active),
           (SELECT string_agg(seen_through, ' ' ORDER BY shard) FROM market_shardcursor)
"""


def settle(stack: Stack) -> None:
    """Until every trade that was sent is processed, nothing waits to be decided or filled, and nothing moves."""
    last: list[str] = []

    def settled() -> bool:
        processed, waiting, seen = stack.sql(SETTLED)[0]
        same = [seen] == last
        last[:] = [seen]
        return bool(same and processed == stack.exchange_status()["trades_sent"] and waiting == 0)

    wait_until("everything is read, decided and filled", settled, seconds=SETTLE_SECONDS, every=LOOK_SECONDS)


def compare(stack: Stack, files: list[Path]) -> list[Compared]:
    """Every comparison of the session that has been played."""
    stack.manage("archive", "flush", timeout=COMMAND_SECONDS)
    session, day = str(stack.session_id()), _day(stack)
    beside = _beside(stack, session, day, files)
    found = [_simulated(name, beside[name], strict=True) for name in ("file", "archive")]
    found.append(_simulated("alone", beside["alone"], strict=False))
    found.append(_backtest(stack, files, beside["decision_hash"]))
    found.append(_parity(stack, session, day))
    found.append(_whatif(stack, session, day))
    return [*_expected(stack, files), *found]


def _day(stack: Stack) -> str:
    """The one UTC day in which everything was decided."""
    first, last = stack.sql("SELECT min(ts_event), max(ts_event) FROM risk_riskdecision")[0]
    assert first is not None, "nothing was decided: nothing can be compared"
    days = {datetime.fromtimestamp(ms / 1000, UTC).date().isoformat() for ms in (first, last)}
    assert len(days) == 1, f"a recording of one day is needed, this one decided on {sorted(days)}"
    return days.pop()


def _beside(stack: Stack, session: str, day: str, files: list[Path]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.road.proof_rows", "--session", session, "--day", day, "--trades"]
    answer = subprocess.run(
        [*command, *map(str, files)],
        cwd=REPOSITORY, env=stack.environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def _simulated(name: str, found: dict[str, Any], *, strict: bool) -> Compared:
    """Not strict: only the entries' signals must be equal, for the rest depends on what only history knows."""
    cells, differences = [], []
    must = KINDS if strict else ("entries",)
    for kind in KINDS:
        row = found[kind]
        cells.append(f"{row['same']} of {row['live']} equal" + ("" if row["equal"] else f", {row['simulated']} here"))
    for kind in must:
        row = found[kind]
        if not row["equal"] or not row["live"]:
            differences.append(f"{kind}: {row['difference']}"[:SHOWN_MAX])
    return Compared(name, tuple(cells), not differences, "; ".join(differences))


def _backtest(stack: Stack, files: list[Path], decision_hash: str) -> Compared:
    """The command itself says what `alone` was made of."""
    version = stack.sql("SELECT max(version) FROM signals_strategyversion")[0][0]
    answer = stack.manage(
        "backtest", "--trades", *map(str, files), "--strategy", f"momentum:{version}", "--json", timeout=COMMAND_SECONDS
    )
    said = json.loads(answer.stdout)["decision_hash"]
    return Compared("backtest", (said, "the hash of", "`alone`"), said == decision_hash)


def _parity(stack: Stack, session: str, day: str) -> Compared:
    answer = stack.manage("parity", "--day", day, "--session", session, "--json", check=False, timeout=COMMAND_SECONDS)
    audit = json.loads(answer.stdout)
    cells = tuple(f"{audit['compared'][kind]} compared" for kind in KINDS)
    holds = answer.returncode == 0 and audit["holds"] and audit["compared"]["decisions"] > 0
    return Compared("parity", cells, holds, "" if audit["holds"] else str(audit["difference"]))


def _whatif(stack: Stack, session: str, day: str) -> Compared:
    answer = stack.manage("whatif", "--day", day, "--session", session, "--json", check=False, timeout=COMMAND_SECONDS)
    found = json.loads(answer.stdout)
    moved = [len(found[name]) for name in ("added", "removed", "changed")]
    cells = (f"{found['same']} same", "{} added, {} removed, {} changed".format(*moved), f"net {found['difference']}")
    holds = answer.returncode == 0 and found["identical"] and found["same"] > 0 and found["was"] == found["would"]
    return Compared("whatif", cells, holds, found["first_difference"] or "")


def _expected(stack: Stack, files: list[Path]) -> list[Compared]:
    """The entries beside what a reference written apart from this code expects of the file, if it lies beside it."""
    beside = [path.with_name(path.name.split(".csv")[0] + ".expected_signals.json") for path in files]
    if not all(path.exists() for path in beside):
        return []
    names = ("symbol", "ts_event", "trade_id", "price")
    rows = [row for path in beside for row in json.loads(path.read_text())["NORMAL"]["signals"]]
    wanted = sorted(tuple(str(row[name]) for name in names) for row in rows)
    live = [row for row in stack.json("signals") if row["kind"] == "entry"]
    found = sorted(tuple(str(row[name]) for name in names) for row in live)
    return [Compared("expected", (f"{len(wanted)} entries", "", ""), bool(wanted) and found == wanted)]


def _circumstances(stack: Stack, disturber: Disturber, played: float) -> str:
    """How much it was disturbed, and what that did."""
    rows = stack.sql("SELECT ts_event, signal_age_ms, reasons FROM risk_riskdecision ORDER BY sequence")
    late, newest = 0, 0
    for ts_event, _, _ in rows:
        late += ts_event < newest
        newest = max(newest, ts_event)
    stale = sum("STALE_SIGNAL" in reasons for _, _, reasons in rows)
    oldest = max(age for _, age, _ in rows)
    (processed,) = stack.sql("SELECT sum(processed) FROM market_shardcursor")[0]
    (unproven,) = stack.sql("SELECT count(*) FROM market_coverage WHERE status = 'unproven'")[0]
    stops = ", ".join(f"{name} {count} times" for name, count in sorted(disturber.stops.items()))
    return (
        f"{processed} trades in {played:.0f} s; {unproven} minutes unproven; stopped {stops}; "
        f"killed {', '.join(disturber.kills)}; of {len(rows)} decisions {late} out of the order of event time, "
        f"the oldest signal {oldest} ms old, {stale} denied for its age"
    )


PLANT: Final = """
    UPDATE execution_trade SET price = price + (
        SELECT power(10::numeric, -i.price_decimals) FROM market_instrument i WHERE i.id = instrument_id)
     WHERE id = (SELECT id FROM execution_trade ORDER BY sequence OFFSET (SELECT count(*) / 2 FROM execution_trade)
                  LIMIT 1)
"""


def _planted(console: Console, stack: Stack) -> bool:
    """One fill in the middle is changed by a tick; the audit must name it and show both sides."""
    stack.sql(PLANT)
    found = _parity(stack, str(stack.session_id()), _day(stack))
    console.print(f"planted one tick in a fill; the audit says: {found.difference or 'NOTHING'}", markup=False)
    return "'what': 'fill'" in found.difference and not found.holds


if __name__ == "__main__":
    sys.exit(main())
