"""Seeded faults on the whole road: how they are drawn, and which seeds count as held. One seed runs in test_matrix."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests.faults.matrix_seeds import Ledger, Run, code_hash, held_seeds
from tests.faults.strikes import GROUPS, PLAY_SECONDS, STRIKES_MAX, STRIKES_MIN, draw, write

SEEDS = 200


def run(seed: int, failure: str = "") -> Run:
    return Run(seed, "0.5 Redis is killed", 12.0, None if failure else 2.0, failure)


def test_a_seed_always_writes_the_same_steps_and_they_fit_into_the_run() -> None:
    for seed in range(SEEDS):
        steps, groups = write(seed), [group for group, _ in draw(seed)]
        assert [(step.at, step.words) for step in steps] == [(step.at, step.words) for step in write(seed)]
        assert STRIKES_MIN <= len(set(groups)) == len(groups) <= STRIKES_MAX
        assert all(0 < step.at <= PLAY_SECONDS for step in steps)
        assert all(before.at <= after.at for before, after in pairwise(steps))


def test_over_two_hundred_seeds_every_kind_of_fault_is_drawn_often() -> None:
    drawn = Counter(kind for seed in range(1, SEEDS + 1) for kind in draw(seed))
    assert set(drawn) == {(group, kind) for group, kinds in GROUPS.items() for kind in kinds}
    assert min(drawn.values()) >= 20


def test_seeds_count_as_held_once_everything_was_derived_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "held.jsonl"
    ledger = Ledger([], file, "c0de")
    ledger.close([run(1), run(2), run(3, "I7: no")], "")
    ledger.close([run(4), run(5)], "I2: a bar differs")
    assert held_seeds(file, "c0de") == {1, 2}
    assert (ledger.held, ledger.failed) == (2, [4, 5])
    assert held_seeds(file, code_hash()) == set()  # of other code: run them again


def test_a_line_that_a_kill_has_cut_off_is_none(tmp_path: Path) -> None:
    file = tmp_path / "held.jsonl"
    assert held_seeds(file, "c0de") == set()
    file.write_text(json.dumps({"seed": 7, "code": "c0de"}) + '\n{"seed": 8, "co')
    assert held_seeds(file, "c0de") == {7}
