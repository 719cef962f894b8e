"""`python -m tests.faults.matrix_seeds`, for people `make faults SEEDS=200`: seeded faults on the whole road.

Some lanes side by side, each with a road of its own. On a road some seeds are run one after the other; then `manage.py
verify` derives everything again, and only if that holds too they count as held and are kept in a file. Whoever starts
again with the same code goes on with the seeds that are missing there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults import strikes
from tests.faults.database import own_folder
from tests.faults.matrix import FAILURES, in_one_line, verified
from tests.faults.matrix_checks import Observer
from tests.faults.matrix_road import Road
from tests.faults.processes import REPOSITORY, wait_until

LANES: Final = 2
SEEDS_PER_ROAD: Final = 10
RUN_SECONDS_MAX: Final = 120
TRADES_SECONDS: Final = 120  # until the road trades: without orders a run would show little
DEAF_WORDS: Final = "this worker takes no messages"
DEAF_LINES: Final = 120
HELD: Final = Path("var") / "faults-held.jsonl"
CODE: Final = ("apps", "workers", "cdb_project", "tests/faults")


@dataclass(frozen=True, slots=True)
class Run:
    """What one seed gave. `failure` is empty where everything held."""

    seed: int
    words: str
    seconds: float
    recovered_seconds: float | None
    failure: str


@dataclass
class Ledger:
    """The seeds to run and what became of them, for all lanes. Held ones are lines of `file`, with the code's hash."""

    waiting: list[int]
    file: Path
    code: str
    failed: list[int] = field(default_factory=list)
    held: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float = field(default_factory=time.monotonic)
    total: int = 0
    told: int = 0

    def take(self) -> int | None:
        with self.lock:
            return self.waiting.pop(0) if self.waiting else None

    def tell(self, run: Run) -> None:
        with self.lock:
            self.told += 1
            left = (time.monotonic() - self.began) / self.told * (self.total - self.told) / 60
            recovered = "" if run.recovered_seconds is None else f", recovered in {run.recovered_seconds:.1f} s"
            verdict = f"FAILED (SEED={run.seed}): {run.failure}" if run.failure else "holds"
            if run.failure:
                self.failed.append(run.seed)
                print(f"seed {run.seed}: {run.words}")
            print(
                f"seed {run.seed:>4}  {run.seconds:5.1f} s{recovered}  {verdict}"
                f"  [{self.told} of {self.total}, {left:.0f} min left]",
                flush=True,
            )

    def close(self, runs: Sequence[Run], fault: str) -> None:
        """The road of these runs has ended; `fault` is what `verify` found, which may be any one's."""
        with self.lock:
            sound = [run for run in runs if not run.failure]
            if fault:
                self.failed += [run.seed for run in sound]
                print(f"verify after seeds {[run.seed for run in runs]} FAILED: {fault}", flush=True)
                return
            self.held += len(sound)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                for run in sound:
                    line = {"seed": run.seed, "code": self.code, "seconds": round(run.seconds, 1)}
                    file.write(json.dumps({**line, "recovered": run.recovered_seconds, "words": run.words}) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix_seeds", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--lanes", type=int, default=LANES, help="how many roads side by side")
    parser.add_argument("--held", type=Path, default=HELD, help="the file of seeds that held")
    parser.add_argument("--again", action="store_true", help="also those that held already")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    wanted, code = list(range(options.first, options.first + options.seeds)), code_hash()
    known = set() if options.again else held_seeds(options.held, code)
    ledger = Ledger([seed for seed in wanted if seed not in known], options.held, code)
    ledger.total = len(ledger.waiting)
    if ledger.total < len(wanted):
        print(f"{len(wanted) - ledger.total} seeds held before with this code")
    lanes = min(options.lanes, max(ledger.total, 1))
    with ThreadPoolExecutor(lanes) as pool:
        try:
            for lane in [pool.submit(_lane, ledger) for _ in range(lanes)]:
                lane.result()
        finally:
            ledger.waiting.clear()  # after Ctrl-C each lane ends its run, and what it has is kept
    print(f"{ledger.total} runs, {ledger.held} held, {len(ledger.failed)} failed")
    for seed in sorted(ledger.failed):
        print(f"  again: make faults SEEDS=1 FIRST={seed}")
    return 1 if ledger.failed or ledger.held < ledger.total else 0


def held_seeds(file: Path, code: str) -> set[int]:
    """Those that held with this code. A line that was cut off by a kill is none."""
    found = set()
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["code"] == code:
            found.add(int(row["seed"]))
    return found


def code_hash() -> str:
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _lane(ledger: Ledger) -> None:
    while (seed := ledger.take()) is not None:
        with own_folder() as folder, Road(Path(folder), seed) as road:
            _on_one_road(road, seed, ledger)


def _on_one_road(road: Road, seed: int | None, ledger: Ledger) -> None:
    """Up to `SEEDS_PER_ROAD` runs, the last of them the first that failed; then what `verify` says of the road."""
    try:
        road.start()
        orders = "SELECT count(*) FROM execution_venueorder"
        wait_until("an order reaches the venue", lambda: road.one(orders), seconds=TRADES_SECONDS, every=0.5)
    except FAILURES as error:
        ledger.tell(Run(seed or 0, "the road starts", 0.0, None, in_one_line(error)))
        return
    observer, runs = Observer(), list[Run]()
    while seed is not None:
        runs.append(perform(road, seed, observer))
        ledger.tell(runs[-1])
        seed = None if runs[-1].failure or len(runs) == SEEDS_PER_ROAD else ledger.take()
    ledger.close(runs, verified(road, runs[-1].seed).failure)


def perform(road: Road, seed: int, observer: Observer, *, within_seconds: float = RUN_SECONDS_MAX) -> Run:
    """One run: strike, heal, recover, check. What took longer than `within_seconds` has failed."""
    steps = strikes.write(seed)
    words = ", ".join(f"{step.at:.1f} {step.words}" for step in steps)
    began, recovered = time.monotonic(), None
    try:
        strikes.play(road, steps)
        strikes.heal(road)
        recovered = road.recovered(within_seconds)
        _tell_of_deaf_workers(road, seed)
        failure = "; ".join(observer.faults(road))
        if time.monotonic() - began > within_seconds:
            failure = failure or f"it took more than {within_seconds:g} s"
    except FAILURES as error:
        failure = in_one_line(error)
        traceback.print_exc()
        print(road.logs(), file=sys.stderr)
    return Run(seed, words, time.monotonic() - began, recovered, failure)


def _tell_of_deaf_workers(road: Road, seed: int) -> None:
    """One that ended itself because it took no message. The road recovered, but how it came to that is unknown."""
    for name, child in road.children.items():
        if DEAF_WORDS in (words := child.last_words(DEAF_LINES)):
            print(f"seed {seed}: {name} took no messages and was started anew\n{words}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
