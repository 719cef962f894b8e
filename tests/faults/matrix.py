"""`python -m tests.faults.matrix`, for people `make faults`: every row of the fault matrix on real processes.

A road is started, its rows are run on it one after the other in an order that the seed chooses, and at its end
`manage.py verify` derives everything again. A row that leaves the road broken ends that road; the rest get a new one.
The result of each row is printed as it comes, with the seed of any that failed; `--write` renews the table in the docs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import SubprocessError
from typing import Any, Final

import psutil
import psycopg
import redis

from tests.faults import matrix_database, matrix_processes, matrix_redis
from tests.faults.database import own_folder
from tests.faults.matrix_checks import Observer
from tests.faults.matrix_report import write_report
from tests.faults.matrix_road import Road
from tests.faults.matrix_rows import Row
from tests.faults.processes import Stuck

ROWS: Final[dict[str, Row]] = {
    row.id: row for row in (*matrix_processes.ROWS, *matrix_redis.ROWS, *matrix_database.ROWS)
}
FAILURES: Final = (AssertionError, Stuck, psycopg.Error, redis.RedisError, psutil.Error, SubprocessError, OSError)


@dataclass(frozen=True, slots=True)
class Result:
    """`recovered_seconds` is None where the road did not recover; `failure` is empty where everything held."""

    row: str
    seed: int
    took_seconds: float
    recovered_seconds: float | None
    failure: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix", description=__doc__.splitlines()[0])
    parser.add_argument("--row", action="append", default=[], choices=list(ROWS), help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=None, help="only this one")
    parser.add_argument("--seeds", type=int, default=1, help="so many runs of everything, with seeds from 1 on")
    parser.add_argument("--write", action="store_true", help="add what was found to the table in docs/reliability.md")
    parser.add_argument("--json", type=Path, help="append the results there, a line each")
    options = parser.parse_args(arguments)
    seeds = [options.seed] if options.seed is not None else list(range(1, options.seeds + 1))
    results = []
    for seed in seeds:
        for result in run_rows([ROWS[name] for name in options.row or ROWS], seed):
            results.append(result)
            _tell(result)
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
            if options.write:
                write_report(ROWS, [asdict(result)])
    failed = [result for result in results if result.failure]
    print(f"{len(results)} runs, {len(failed)} failed", *(f"ROW={r.row} SEED={r.seed}" for r in failed), sep="\n  ")
    return 1 if failed else 0


def run_rows(rows: Sequence[Row], seed: int) -> Iterator[Result]:
    """Each row once, on as few roads as its failures allow; after each road what `verify` found of it."""
    dice = random.Random(seed)
    waiting = dice.sample(list(rows), len(rows)) if len(rows) > 1 else list(rows)
    while waiting:
        with own_folder() as folder, Road(Path(folder), seed) as road:
            try:
                road.start()
            except FAILURES as error:
                print(road.logs(), file=sys.stderr)
                yield Result("start", seed, 0.0, None, in_one_line(error))
                return
            observer, result = Observer(), None
            while waiting and not (result and result.failure):
                row = waiting.pop(0)
                result = _run(road, row, observer, random.Random(f"{seed}:{row.id}"), seed)
                yield result
            yield verified(road, seed)


def _run(road: Road, row: Row, observer: Observer, dice: random.Random, seed: int) -> Result:
    began = time.monotonic()
    recovered = None
    try:
        row.work(road, dice)
        recovered = road.recovered()
        faults = observer.faults(road)
        failure = "; ".join(faults)
    except FAILURES as error:
        failure = in_one_line(error)
        traceback.print_exc()
        print(road.logs(), file=sys.stderr)
    return Result(row.id, seed, time.monotonic() - began, recovered, failure)


def verified(road: Road, seed: int) -> Result:
    """Everything derived again from what is stored (I1 to I7)."""
    began = time.monotonic()
    try:
        road.come_to_rest()
        code, words = road.manage("verify", "--json")
        rows: list[dict[str, Any]] = json.loads(words.splitlines()[0]) if words.startswith("[") else []
        wrong = [f"{row['id']}: {row['detail']}" for row in rows if not row["ok"]]
        failure = "; ".join(wrong) or ("" if code == 0 and rows else f"verify ended with {code}: {words[-300:]}")
    except FAILURES as error:
        failure = in_one_line(error)
    return Result("verify", seed, time.monotonic() - began, None, failure)


def in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _tell(result: Result) -> None:
    recovered = "" if result.recovered_seconds is None else f", recovered in {result.recovered_seconds:.1f} s"
    verdict = f"FAILED: {result.failure} (SEED={result.seed})" if result.failure else "holds"
    print(f"{result.row:>6}  {result.took_seconds:6.1f} s{recovered}  {verdict}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
