"""Points of failure: off, counted, once over all processes, and a wrong name stops the start."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.bus import failpoints
from apps.bus.failpoints import POINTS, FailpointError, FailpointReached, arm, arm_from, failpoint
from tests.house.sources import REPOSITORY, python_files

PASS = "import sys\nfrom apps.bus.failpoints import arm_from, failpoint\nimport os\narm_from(os.environ)\n"


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    arm("")
    yield
    arm("")


def child(text: str, folder: Path | None = None, *, passes: int = 3, name: str = "risk.after_lock") -> list[str]:
    program = f"{PASS}for n in range({passes}):\n    print(n, flush=True)\n    failpoint({name!r})\n"
    environment = {**os.environ, "CDB_FAIL": text, **({"CDB_FAIL_FOLDER": str(folder)} if folder else {})}
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )
    return [str(answer.returncode), *answer.stdout.split()]


def test_without_a_plan_nothing_happens() -> None:
    assert arm_from({}) == ()
    for name in POINTS:
        failpoint(name)
    assert failpoints._armed is None


def test_a_process_ends_as_if_it_were_killed_at_the_passing_that_is_named() -> None:
    assert child("risk.after_lock:2") == ["137", "0", "1"]
    assert child("risk.before_commit:1") == ["0", "0", "1", "2"]


def test_a_point_with_a_note_does_not_fire_again_in_any_process(tmp_path: Path) -> None:
    assert child("risk.after_lock:2", tmp_path)[0] == "137"
    assert int((tmp_path / "risk.after_lock").read_text()) > 1
    assert child("risk.after_lock:2", tmp_path) == ["0", "0", "1", "2"]


def test_it_raises_only_at_that_passing() -> None:
    assert arm("drain.after_read:2:raise, risk.after_lock:1") == ("drain.after_read", "risk.after_lock")
    failpoint("drain.after_read")
    with pytest.raises(FailpointReached, match=r"drain\.after_read"):
        failpoint("drain.after_read")
    failpoint("drain.after_read")


def test_it_sleeps() -> None:
    arm("drain.after_read:1:sleep_ms=30")
    began = time.monotonic()
    failpoint("drain.after_read")
    assert time.monotonic() - began >= 0.03


def test_it_stands_still_until_it_is_told_to_go_on(tmp_path: Path) -> None:
    program = f"{PASS}failpoint('risk.after_lock')\n"
    environment = {**os.environ, "CDB_FAIL": "risk.after_lock:1:stop"}
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, env=environment) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("drain.lock:1", "CDB_FAIL: 'drain.lock' is none of ingest.recv, "),
        ("drain.after_lock", "'drain.after_lock' does not say at which passing, such as drain.after_lock:1"),
        ("drain.after_lock:0", "does not say at which passing"),
        ("drain.after_lock:-1", "does not say at which passing"),
        ("drain.after_lock:1:explode", "'explode' is none of exit, stop, raise, sleep_ms=0 to"),
        ("drain.after_lock:1:sleep_ms=x", "is none of exit, stop, raise"),
        ("drain.after_lock:1:sleep_ms=6000000", "is none of exit, stop, raise"),
        ("drain.after_lock:1,drain.after_lock:2", "CDB_FAIL names a point twice"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(text: str, words: str) -> None:
    with pytest.raises(FailpointError) as caught:
        arm(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailpointError, match="CDB_FAIL_FOLDER names no folder"):
        arm("drain.after_lock:1", folder=str(tmp_path / "none"))


@pytest.mark.parametrize("command", [["manage.py", "check"], ["-m", "workers.ingest", "--config", "none"]])
def test_a_wrong_name_stops_the_start_of_every_kind_of_process(command: list[str]) -> None:
    answer = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env={**os.environ, "CDB_FAIL": "drain.lock:1"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "CDB_FAIL: 'drain.lock' is none of" in answer.stderr


def test_the_table_and_the_code_name_the_same_points() -> None:
    called = [
        name
        for source in python_files("apps", "workers")
        for name in re.findall(r'\bfailpoint\("([^"]+)"\)', source.text)
        if source.name != "apps/bus/failpoints.py"
    ]
    assert set(called) == set(POINTS)
