"""A message that comes again is run twice more, then given up; no task leaves a connection that the next cannot use."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import cast

import psycopg
import pytest
import redis
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from django.db import connection

from apps.alerts.models import Alert
from cdb_project import celery, redelivery
from cdb_project.given_up import TookTooMuch
from cdb_project.redelivery import REDELIVERIES_MAX, BoundedTask
from tests.faults.lane import database_named
from tests.faults.processes import wait_until

SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60)'"


@pytest.fixture
def runs(redis_client: redis.Redis) -> Iterator[list[int]]:
    redelivery._client.cache_clear()
    yield []
    redelivery._client().close()
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


@pytest.mark.django_db(transaction=True)
def test_one_that_comes_again_and_again_is_given_up(runs: list[int], caplog: pytest.LogCaptureFixture) -> None:
    task = made(runs)
    for _ in range(5):
        deliver(task, "one", again=True)
    deliver(task, "another", again=True)
    assert len(runs) == REDELIVERIES_MAX + 1
    given_up = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(given_up) == 3
    assert "task test.note is given up: its process was ended 3 times" in given_up[0].message
    alert = Alert.objects.get()
    assert (alert.kind, alert.severity, alert.subject, alert.count) == ("task_given_up", "critical", "test.note", 3)


def test_a_task_without_memory_fails_alone() -> None:
    application = Celery("test", task_cls=BoundedTask, set_as_current=False)

    @application.task(name="test.take_all", shared=False)
    def take_all() -> None:
        raise MemoryError

    with pytest.raises(TookTooMuch, match=r"MemoryError in task test\.take_all"):
        deliver(cast("BoundedTask", application.tasks["test.take_all"]), "one", again=False)


def interrupt_the_query(url: str) -> None:
    """As the soft time limit does: a signal while the task waits for the database."""
    with psycopg.connect(url, autocommit=True) as watcher:

        def waits() -> bool:
            row = watcher.execute(SLEEPS).fetchone()
            return bool(row and row[0])

        wait_until("the query runs", waits, seconds=60)
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.django_db(transaction=True)
def test_a_soft_limit_in_the_middle_of_a_query_leaves_the_next_task_a_connection(servers: dict[str, str]) -> None:
    application = Celery("test", task_cls=BoundedTask, set_as_current=False)

    @application.task(name="test.sleep", shared=False)
    def sleep() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")

    def limit(*_: object) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGUSR1, limit)
    url = database_named(servers["DATABASE_URL"], str(connection.settings_dict["NAME"]))
    interrupter = threading.Thread(target=interrupt_the_query, args=[url])
    try:
        interrupter.start()
        with pytest.raises(SoftTimeLimitExceeded):
            deliver(cast("BoundedTask", application.tasks["test.sleep"]), "one", again=False)
    finally:
        interrupter.join()
        signal.signal(signal.SIGUSR1, before)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
