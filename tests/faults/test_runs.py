"""A few seeded runs of real processes, and the drawing of faults. Many of them: `make faults-feed SEEDS=300`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from tests.faultproxy import Counters
from tests.faults.__main__ import MANY, STRUCK_MIN, last_line, report
from tests.faults.known_seeds import EVERYDAY_SEEDS, KNOWN_SEEDS
from tests.faults.lanes import run_seeds
from tests.faults.run import Result
from tests.faults.script import KINDS, KINDS_MAX, KINDS_MIN, PLAY_SECONDS, write
from tests.faults.struck import struck

pytestmark = pytest.mark.alone


@pytest.mark.timeout(400)
def test_what_the_ledger_claims_is_true_under_every_fault(servers: dict[str, str], tmp_path: Path) -> None:
    results = run_seeds(
        [*EVERYDAY_SEEDS, *KNOWN_SEEDS],
        lane_count=3,
        database_url=servers["DATABASE_URL"],
        folder=tmp_path,
        on_result=lambda result: print(f"seed {result.seed}: {result.summary}, {result.seconds} s"),
    )

    failed = [(result.seed, result.faults[:3], result.evidence) for result in results if not result.ok]
    assert not failed
    assert len(results) == len(EVERYDAY_SEEDS) + len(KNOWN_SEEDS)


def test_over_many_seeds_every_kind_of_fault_is_drawn_often() -> None:
    drawn = Counter(kind for seed in range(1, MANY + 1) for kind in write(seed).kinds)

    assert set(drawn) == set(KINDS)
    assert min(drawn.values()) > 2 * STRUCK_MIN


def test_a_seed_always_writes_the_same_script_and_its_faults_fit_into_the_run() -> None:
    for seed in range(50):
        script = write(seed)
        assert write(seed) == script
        assert KINDS_MIN <= len(set(script.kinds)) == len(script.kinds) <= KINDS_MAX
        assert all(0 < step.at <= step.until <= PLAY_SECONDS for step in script.steps)
        assert script.tls or "corrupt" not in script.kinds


def test_a_kind_counts_as_struck_only_where_it_left_a_trace() -> None:
    kinds = ("reset", "cut_frame", "corrupt", "late", "garbage", "rotation", "redis_stop")

    assert struck(kinds, Counter(), Counters(), 0) == ("redis_stop",)
    assert struck(kinds, Counter(late=1, deep=2), Counters(cuts=1), 3) == (
        "cut_frame", "late", "garbage", "rotation", "redis_stop",
    )  # fmt: skip


def test_the_last_line_says_runs_failures_and_shares() -> None:
    sound = Result(1, ("reset",), minutes={"PROVEN": 6, "BACKFILLED": 3, "UNPROVEN": 1})
    broken = Result(2, ("delay",), faults=["no"])

    assert last_line([sound, broken]) == (
        "2 runs, 1 failures, 10 minutes: 60.0 % PROVEN, 30.0 % BACKFILLED, 10.0 % UNPROVEN"
    )


def test_one_failure_or_a_rare_kind_or_no_run_at_all_fails_the_whole() -> None:
    quiet = Console(quiet=True)
    every = [Result(seed, tuple(KINDS), tuple(KINDS), {"PROVEN": 1}) for seed in range(MANY)]

    assert report(every, quiet) == 0
    assert report([*every[:-1], Result(7, tuple(KINDS), tuple(KINDS), faults=["no"])], quiet) == 1
    assert report([Result(seed, tuple(KINDS), ("reset",), {"PROVEN": 1}) for seed in range(MANY)], quiet) == 1
    assert report([], quiet) == 1
