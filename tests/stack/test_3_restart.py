"""Finding 3: after Valkey was killed and started again, the same worker goes on; kombu below 5.7 could stay deaf."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.stack.conftest import MakeSender, StartWorker
from tests.stack.valkey import OwnValkey
from tests.stack.worker import OURS, lines, wait_until

pytestmark = pytest.mark.stack
RECOVERY_SECONDS_MAX = 20


def wait_for_line(path: Path, line: str) -> float:
    return wait_until(lambda: line in lines(path), RECOVERY_SECONDS_MAX)


def test_a_worker_outlives_every_restart_of_valkey(
    own_valkey: OwnValkey, start_worker: StartWorker, make_sender: MakeSender, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    sender = make_sender(own_valkey.url())
    worker = start_worker("ours", OURS, own_valkey.url(), "ours")
    worker.wait_until_ready()
    for number, down_seconds in enumerate((0.2, 1, 8), 1):
        sender.send("stack.note", str(notes), f"before {number}", queue="ours")
        wait_for_line(notes, f"before {number}")
        own_valkey.kill()
        assert worker.process.poll() is None
        wait_until(partial(own_valkey.has_been_down, down_seconds), down_seconds + 1)
        own_valkey.start()
        sender.send("stack.note", str(notes), f"after {number}", queue="ours")
        took = wait_for_line(notes, f"after {number}")
        print(f"\ndown for {down_seconds:g} s: next task done {took:.1f} s after it was sent")
    assert worker.process.poll() is None
