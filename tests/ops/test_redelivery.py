"""A message that comes again is run twice more, then given up with a critical line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import cast

import pytest
import redis
from celery import Celery

from cdb_project import celery, redelivery
from cdb_project.redelivery import REDELIVERIES_MAX, BoundedTask


@pytest.fixture
def runs(redis_client: redis.Redis) -> Iterator[list[int]]:
    redelivery._client.cache_clear()
    yield []
    redelivery._client.cache_clear()


def made(runs: list[int]) -> BoundedTask:
    application = Celery("test", task_cls=BoundedTask, set_as_current=False)

    @application.task(name="test.note", shared=False)
    def note() -> None:
        runs.append(1)

    return cast("BoundedTask", application.tasks["test.note"])


def deliver(task: BoundedTask, name: str, *, again: bool) -> None:
    task.push_request(id=name, delivery_info={"redelivered": again})
    try:
        task()
    finally:
        task.pop_request()


def test_every_task_of_ours_is_bounded() -> None:
    assert issubclass(celery.app.Task, BoundedTask)
    assert all(isinstance(task, BoundedTask) for name, task in celery.app.tasks.items() if name.startswith("risk."))


def test_a_first_delivery_is_never_counted(runs: list[int]) -> None:
    task = made(runs)
    for _ in range(10):
        deliver(task, "one", again=False)
    assert len(runs) == 10


def test_one_that_comes_again_and_again_is_given_up(runs: list[int], caplog: pytest.LogCaptureFixture) -> None:
    task = made(runs)
    for _ in range(5):
        deliver(task, "one", again=True)
    deliver(task, "another", again=True)
    assert len(runs) == REDELIVERIES_MAX + 1
    given_up = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(given_up) == 3
    assert "task test.note is given up: its process ended 3 times" in given_up[0].message
