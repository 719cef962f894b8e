"""A task that is given up leaves an alert, in the process that notices it; other failures leave none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.app.trace import build_tracer
from celery.signals import task_failure
from celery.worker import state
from django.db import connection

from apps.alerts.models import Alert
from apps.alerts.services import acknowledge
from cdb_project import celery, given_up
from cdb_project.given_up import TookTooMuch, give_up, note_failure
from cdb_project.redelivery import BoundedTask
from tests.faults.lane import database_named

pytestmark = pytest.mark.django_db(transaction=True)

STEP: Final = b"x" * 2**20
LOST: Final = WorkerLostError("exitcode 9")


@pytest.fixture
def task() -> Iterator[Any]:
    """A task that was tried again twice."""
    application = Celery("test", task_cls=BoundedTask, set_as_current=False)

    @application.task(name="test.weigh", shared=False)
    def weigh(**_: Any) -> None:
        taken = [STEP]
        raise MemoryError(f"no room beside {len(taken)}")

    found = application.tasks["test.weigh"]
    found.push_request(id="one", retries=2)
    yield found
    found.pop_request()


def fail(task: Any, failure: BaseException, **kwargs: Any) -> None:
    """What Celery does when a task failed, and wait until it has been told."""
    thread = note_failure(sender=task, task_id="one", exception=failure, kwargs=kwargs)
    if thread is not None:
        thread.join()


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (LOST, "its process was ended 3 times"),
        (TimeLimitExceeded(20), "the hard time limit ended its process"),
        (TookTooMuch("all of it"), "it wanted more memory than there is"),
    ],
)
def test_a_task_that_failed_with_its_process_leaves_an_alert(task: Any, failure: Exception, why: str) -> None:
    fail(task, failure, signal_id=17, name="not told", engine=True)
    alert = Alert.objects.get()
    assert (alert.kind, alert.severity, alert.subject) == ("task_given_up", "critical", "test.weigh")
    assert alert.words.startswith(f"test.weigh (signal_id 17) is given up: {why}.")


def test_it_is_counted_while_it_is_open_and_raised_anew_after_a_person_has_seen_it(task: Any) -> None:
    for _ in range(3):
        fail(task, LOST)
    first = Alert.objects.get()
    assert first.count == 3
    acknowledge(alert_id=first.pk, by="mara", reason="seen")
    fail(task, LOST)
    assert Alert.objects.filter(acknowledged_at=None).get().pk != first.pk


@pytest.mark.parametrize("failure", [ValueError("wrong"), SystemExit(1)])
def test_any_other_failure_leaves_none(task: Any, failure: BaseException) -> None:
    fail(task, failure)
    assert not Alert.objects.exists()


@pytest.mark.parametrize("name", ["should_stop", "should_terminate"])
def test_what_was_under_way_when_its_worker_was_told_to_end_leaves_none(
    task: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, name, 0)
    fail(task, LOST)
    assert not Alert.objects.exists()


def test_our_workers_hear_of_every_failure_and_the_memory_is_free_by_then(task: Any) -> None:
    """Run as a worker runs it, tracer and signal included."""
    held: list[bool] = []

    def look(*, exception: BaseException, **_: Any) -> None:
        context = exception.__context__
        while context is not None and (frames := context.__traceback__) is not None:
            while frames is not None:
                held.append("taken" in frames.tb_frame.f_locals)
                frames = frames.tb_next
            context = context.__context__

    task_failure.connect(look, weak=False)
    try:
        assert celery.app is not None
        build_tracer(task.name, task, app=task.app)("one", [], {"signal_id": 17}, {})
    finally:
        task_failure.disconnect(look)
    assert Alert.objects.get().words.startswith(
        "test.weigh (signal_id 17) is given up: it wanted more memory than there is"
    )
    assert held
    assert not any(held)


def test_a_hard_limit_of_which_celery_tells_twice_is_told_once(task: Any) -> None:
    fail(task, TimeLimitExceeded(20))
    assert note_failure(sender=task, task_id="its request is gone", exception=TimeLimitExceeded(20)) is None
    assert Alert.objects.get().count == 1


def test_a_connection_that_was_lost_meanwhile_is_made_anew_and_none_is_left(task: Any, servers: dict[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    url = database_named(servers["DATABASE_URL"], str(connection.settings_dict["NAME"]))
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    give_up(task.name, {}, "for this test")
    assert connection.connection is None
    assert Alert.objects.count() == 1


def test_without_a_database_the_log_has_to_do(
    task: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    give_up(task.name, {}, "for this test")
    said = [(record.levelno, record.message) for record in caplog.records if record.name == given_up.__name__]
    assert said[0] == (logging.CRITICAL, "task test.weigh is given up: for this test")
    assert said[1][1].startswith("no alert tells that task test.weigh is given up: ")
