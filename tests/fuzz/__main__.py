"""`python -m tests.fuzz N [SEED]`: damage N frames and send each through the decoder and the checks.

Inputs that reach something new (another outcome, or lines of the code that no input had reached) become what further
damage begins with. A failure is written to `tests/fuzz/corpus/` and stays: every later run begins with
it, those of `make test` too.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import random
import resource
import sys
import time
import traceback
import tracemalloc
from collections import Counter
from types import FrameType
from typing import Any, Final

from tests.fuzz.mutate import mutate
from tests.fuzz.seeds import CORPUS, FOUND, kept, seeds
from tests.fuzz.target import FeedTarget, Outcome, Target
from workers.ingest import decoder, numbers, recent, trades

FEED_BATCH: Final = 200
POOL_MAX: Final = 3_000
KEPT_BYTES_MAX: Final = 2_000
TRACED_SHARE: Final = 1 / 100  # of the inputs: their lines and their memory are looked at, which is slow
ALLOCATED_MAX: Final = 1024 * 1024  # bytes for one frame, beside what is in proportion to its size
ALLOCATED_PER_BYTE_MAX: Final = 120  # a row that says nothing takes two bytes and becomes a tuple
ALLOCATED_EVER_MAX: Final = 40 * 1024 * 1024
GROWTH_KILOBYTES_MAX: Final = 400 * 1024  # of the whole process, with the largest frames that are allowed
_TRACED_FILES: Final = {module.__file__ for module in (decoder, numbers, recent, trades)}


class Run:
    """A run of so many inputs. `failures` is empty if everything that must hold held."""

    def __init__(self, seed: int) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.failures: list[str] = []
        self.found: list[tuple[bytes, Outcome]] = []
        self.target = Target()
        self.lines: set[tuple[str, int]] = set()
        self._feed = FeedTarget()
        self._dice = random.Random(seed)
        self._pool = seeds()
        self._batch: list[bytes] = []

    def go(self, count: int) -> None:
        for payload in [*self._pool]:
            self.one(payload, traced=True)
        while self.target.frames < count:
            payload = mutate(self._dice.choice(self._pool), self._dice, self._pool)
            self.one(payload, traced=self._dice.random() < TRACED_SHARE or len(payload) > 100_000)

    def one(self, payload: bytes, *, traced: bool) -> None:
        before = len(self.lines)
        try:
            outcome = self._traced(payload) if traced else self.target.try_one(payload)
            self._batch.append(payload)
            if len(self._batch) >= FEED_BATCH:
                batch, self._batch = self._batch, []
                self._feed.take(batch)
        except Exception:  # noqa: BLE001 - any exception at all is what is looked for
            self._failed(payload)
            return
        is_new = outcome not in self.outcomes or len(self.lines) > before
        self.outcomes[outcome] += 1
        if is_new and len(self._pool) < POOL_MAX and len(payload) <= KEPT_BYTES_MAX:
            self._pool.append(payload)
            self.found.append((payload, outcome))

    def _traced(self, payload: bytes) -> Outcome:
        """With the lines it reaches, and a bound on the memory it asks for."""
        tracemalloc.start()
        sys.settrace(self._enter)
        try:
            outcome = self.target.try_one(payload)
        finally:
            sys.settrace(None)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        bound = min(ALLOCATED_MAX + ALLOCATED_PER_BYTE_MAX * len(payload), ALLOCATED_EVER_MAX)
        assert peak <= bound, f"{peak} bytes for a frame of {len(payload)}"
        return outcome

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in _TRACED_FILES else None

    def _line(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    def _failed(self, payload: bytes) -> None:
        words = traceback.format_exc()
        file = CORPUS / f"failed-{hashlib.sha256(payload).hexdigest()[:16]}.txt"
        file.write_text(f"{payload.hex()}\n{words}")
        self.failures.append(f"{file}: {words.splitlines()[-1]}")


def main(count: int, seed: int) -> int:
    logging.disable(logging.CRITICAL)
    run, began = Run(seed), time.monotonic()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run.go(count)
    gc.collect()
    seconds, grown = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    if grown > GROWTH_KILOBYTES_MAX:
        run.failures.append(f"the process grew by {grown} KiB")
    _keep(run)
    target = run.target
    for outcome, times in run.outcomes.most_common():
        print(f"{times:>10,}  {' '.join(outcome)}")
    print(f"{target.refused:,} refused, {target.trades:,} good trades, {target.quotes:,} good quotes")
    print(f"{len(run.outcomes)} outcomes, {len(run.lines)} lines reached, {grown / 1024:.0f} MiB more at the peak")
    for words in run.failures[:20]:
        print(words)
    rate = f"{target.frames / seconds:,.0f} frames/s"
    print(f"fuzz: {target.frames:,} frames, seed {seed}, {len(run.failures)} failures, {rate}")
    return 1 if run.failures else 0


def _keep(run: Run) -> None:
    """Add what was found and is not kept yet, one input per outcome."""
    known = set(kept())
    lines = FOUND.read_text().splitlines() if FOUND.exists() else []
    outcomes = {line.partition(" ")[2] for line in lines}
    for payload, outcome in run.found:
        words = " ".join(outcome)
        if payload not in known and words not in outcomes:
            outcomes.add(words)
            lines.append(f"{payload.hex()} {words}")
    FOUND.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
