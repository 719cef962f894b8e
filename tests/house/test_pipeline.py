"""The road as cdb_project/pipeline.py draws it is the road that Celery knows."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Task

from apps.engine import timeouts
from cdb_project.celery import app
from cdb_project.pipeline import ROUTES, TASK_QUEUES, drain_queues, shard_queue


def our_tasks() -> dict[str, Task[Any, Any]]:
    app.autodiscover_tasks(force=True)
    return {name: task for name, task in app.tasks.items() if type(task).__module__.startswith("apps.")}


def scheduled() -> set[str]:
    return {entry["task"] for entry in app.conf.beat_schedule.values()}


@pytest.mark.parametrize("event", ROUTES)
def test_every_arrow_ends_at_a_task(event: str) -> None:
    assert ROUTES[event] in our_tasks()


@pytest.mark.parametrize("task", sorted(TASK_QUEUES))
def test_every_queue_is_given_to_a_task_that_exists(task: str) -> None:
    assert task in our_tasks()


def test_every_scheduled_task_exists() -> None:
    assert scheduled() <= set(our_tasks())


ASKED_AT_START = {"ops.answer"}  # by the stack, of each worker


def test_every_task_stands_on_the_road_or_in_the_schedule() -> None:
    assert set(our_tasks()) - set(ROUTES.values()) - scheduled() == ASKED_AT_START


def test_every_task_is_named_after_its_app_and_its_verb() -> None:
    for name, task in our_tasks().items():
        assert type(task).__module__ == f"apps.{name.split('.')[0]}.tasks"
        assert name.split(".")[1] == str(task.__name__)


def test_a_task_whose_worker_dies_is_tried_a_bounded_number_of_times() -> None:
    """Without a bound a task that kills its process would do so for ever (finding 7 of `make test-stack`)."""
    assert {name: task.max_retries for name, task in our_tasks().items() if task.max_retries not in (0, 1, 2)} == {}


def test_a_task_whose_worker_dies_is_tried_again_at_once() -> None:
    delays = {name: task.default_retry_delay for name, task in our_tasks().items()}
    assert set(delays.values()) == {timeouts.CELERY_RETRY_DELAY_SECONDS}, delays


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("shard_count", [1, 4, 64])
def test_every_shard_has_exactly_one_drain_process(processes: int, shard_count: int) -> None:
    queues = [queue for process in range(processes) for queue in drain_queues(process, processes, shard_count)]
    assert sorted(queues) == sorted(shard_queue(shard) for shard in range(shard_count))
