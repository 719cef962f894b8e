"""A small storm in every test run; the whole of it is `make storm SIGNALS=10000`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.sources import REPOSITORY

SMALL = {"--signals": 120, "--processes": 3, "--connections": 3, "--kills": 4, "--restarts": 2, "--seconds": 80}

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]


def test_no_kill_and_no_restart_lets_a_commit_pass_the_limit(tmp_path: Path) -> None:
    figures = tmp_path / "storm.json"
    options = [str(part) for pair in SMALL.items() for part in pair]
    answer = subprocess.run(
        [sys.executable, "-m", "tests.storm", *options, "--json", str(figures)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr[-3_000:]
    found = json.loads(figures.read_text())
    assert found["kills_in_decision"] >= SMALL["--kills"]
    assert sum(found["restarts_done"].values()) == SMALL["--restarts"]
    assert [row["id"] for row in found["checks"] if row["ok"]] == [
        "every commit", "force", "decisions", "orders", "I4", "I6", "I7",
    ]  # fmt: skip
    assert all(row["compared"] for row in found["checks"])
