"""`make faults-feed SEEDS=300` or `SEED=7`: seeded faults between an exchange and a ledger, judged by ground truth.

Exit codes: 0 if every run was sound, 1 if one was not, 2 for arguments that cannot be used. See docs/faults.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.faults.checker import BACKFILLED, PROVEN, UNPROVEN
from tests.faults.lanes import evidence_folder, run_seeds
from tests.faults.run import Result
from tests.faults.script import KINDS, write

LANES: Final = 3
STRUCK_MIN: Final = 20
MANY: Final = 300  # from so many seeds on, a kind that struck in less than twenty is a failure


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    database_url = os.environ.get("DATABASE_URL")
    if not database_url:
        sys.stderr.write("faults: DATABASE_URL is not set; `make faults-feed` starts a server of its own\n")
        return 2
    seeds = [options.seed] if options.seed is not None else list(range(options.first, options.first + options.seeds))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is cleared away
    console = Console()
    if len(seeds) == 1:
        console.print(f"seed {seeds[0]}: {write(seeds[0]).words()}", highlight=False)
    results = _run(seeds, options.lanes, database_url, console)
    return report(results, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Seeded faults of the feed.")
    parser.add_argument("--seeds", type=int, default=MANY, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--lanes", type=int, default=LANES, help="how many runs side by side")
    return parser


def _run(seeds: Sequence[int], lane_count: int, database_url: str, console: Console) -> list[Result]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress, evidence_folder() as folder:
        task = progress.add_task("runs", total=len(seeds))
        failed: list[int] = []

        def on_result(result: Result) -> None:
            if not result.ok:
                failed.append(result.seed)
                progress.console.print(_failure(result), highlight=False, markup=False)
            progress.update(task, advance=1, description=f"runs, {len(failed)} failed" if failed else "runs")

        return run_seeds(seeds, lane_count=lane_count, database_url=database_url, folder=folder, on_result=on_result)


def _failure(result: Result) -> str:
    faults = "\n".join(f"  {fault}" for fault in result.faults[:8])
    more = len(result.faults) - 8
    rest = f"\n  and {more} more" if more > 0 else ""
    return (
        f"FAILED seed {result.seed} ({', '.join(result.kinds)})\n{faults}{rest}\n"
        f"  evidence: {result.evidence}\n  again: make faults-feed SEED={result.seed}"
    )


def report(results: Sequence[Result], console: Console) -> int:
    """Print the table of kinds and the last line. Returns the exit code."""
    drawn = Counter(kind for result in results for kind in result.kinds)
    felt = Counter(kind for result in results for kind in result.struck)
    failed_with = Counter(kind for result in results if not result.ok for kind in result.kinds)
    table = Table("kind", "stands for", "matrix", "drawn", "struck", "in failed runs", title="faults drawn")
    for name, kind in KINDS.items():
        table.add_row(name, kind.words, kind.rows, str(drawn[name]), str(felt[name]), str(failed_with[name] or ""))
    console.print(table)
    reasons = sum((Counter(result.reasons) for result in results), Counter[str]())
    for reason, count in reasons.most_common(10):
        console.print(f"UNPROVEN {count}: {reason}", highlight=False, markup=False)
    rare = [name for name in KINDS if felt[name] < STRUCK_MIN] if len(results) >= MANY else []
    if rare:
        console.print(f"struck in less than {STRUCK_MIN} runs: {', '.join(rare)}")
    failures = [result for result in results if not result.ok]
    if failures:
        console.print(f"failed seeds: {', '.join(str(result.seed) for result in sorted(failures, key=_seed))}")
    console.print(last_line(results), highlight=False, soft_wrap=True)
    return 1 if failures or rare or not results else 0


def _seed(result: Result) -> int:
    return result.seed


def last_line(results: Sequence[Result]) -> str:
    minutes = sum((Counter(result.minutes) for result in results), Counter[str]())
    total = max(1, minutes.total())
    shares = ", ".join(f"{100 * minutes[name] / total:.1f} % {name}" for name in (PROVEN, BACKFILLED, UNPROVEN))
    failures = sum(not result.ok for result in results)
    return f"{len(results)} runs, {failures} failures, {minutes.total()} minutes: {shares}"


if __name__ == "__main__":
    sys.exit(main())
