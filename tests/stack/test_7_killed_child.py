"""Finding 7: a task whose process is killed is lost by default, runs for ever with one option, and thrice with ours."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import redis

from tests.stack.conftest import MakeSender, StartWorker
from tests.stack.valkey import OwnValkey
from tests.stack.worker import DEFAULTS, OURS, lines, wait_until

pytestmark = pytest.mark.stack
RUNS = 3  # the first and max_retries
LATE = {"task_acks_late": True}
REJECT = {**LATE, "task_reject_on_worker_lost": True}


def left_over(url: str) -> dict[str, int]:
    """How many messages wait in the queue, and how many were taken and neither done nor given back."""
    with redis.Redis.from_url(url) as client:
        return {"work": cast("int", client.llen("work")), "unacked": cast("int", client.hlen("unacked"))}


def test_a_deadly_task_is_tried_three_times_and_then_given_up(
    own_valkey: OwnValkey, start_worker: StartWorker, make_sender: MakeSender, tmp_path: Path
) -> None:
    ours, late, reject = (tmp_path / f"{name}.txt" for name in ("ours", "late", "reject"))
    urls = {path: own_valkey.url(database) for database, path in enumerate((ours, late, reject))}
    workers = [
        start_worker("ours", OURS, urls[ours], "work"),
        start_worker("late", DEFAULTS, urls[late], "work", options=LATE),
        start_worker("reject", DEFAULTS, urls[reject], "work", options=REJECT),
    ]
    for worker in workers:
        worker.wait_until_ready()
    for path, url in urls.items():
        sender = make_sender(url)
        sender.send("stack.die", str(path), queue="work")
        sender.send("stack.note", str(path), "next", queue="work")

    wait_until(lambda: lines(ours).count("run") == RUNS and "next" in lines(ours), 30)
    wait_until(lambda: left_over(urls[ours]) == {"work": 0, "unacked": 0}, 10)
    wait_until(lambda: lines(reject).count("run") > RUNS + 1, 30)
    assert lines(ours).count("run") == RUNS
    assert left_over(urls[ours]) == {"work": 0, "unacked": 0}

    wait_until(lambda: "next" in lines(late), 10)
    assert lines(late).count("run") == 1, "the library alone tries again now"
    assert left_over(urls[late]) == {"work": 0, "unacked": 0}, "the library alone keeps the message now"
