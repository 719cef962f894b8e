"""The version fence: a schema that is newer or older than the code is named in one line, and stops a worker."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from celery.signals import worker_init
from django.core.management.base import CommandError
from django.db import connection

from apps.ops.management.commands.steward import refuse_other_schema
from apps.ops.schema import differing_schema
from apps.ops.steward.loop import Chore, Loop
from cdb_project import celery

pytestmark = pytest.mark.django_db


def execute(statement: str, *parameters: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@pytest.fixture(autouse=True)
def kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's transaction lies on this connection."""
    monkeypatch.setattr(connection, "close", lambda: None)


@pytest.fixture
def asked_to_end() -> Iterator[list[int]]:
    """How often this process was told to end meanwhile."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_the_schema_of_this_code_passes() -> None:
    assert differing_schema() == ""


def test_a_migration_of_tomorrow_is_named() -> None:
    execute("INSERT INTO django_migrations (app, name, applied) VALUES ('risk', '9999_tomorrow', now())")
    assert differing_schema() == (
        "the schema is newer than this code (risk 9999_tomorrow): start the code that belongs to it"
    )


def test_one_that_was_not_applied_is_named() -> None:
    execute("DELETE FROM django_migrations WHERE app = 'risk' AND name LIKE %s", "0001%")
    assert differing_schema() == "the schema is older than this code (risk 0001_initial): run `manage.py migrate`"


def test_a_migration_of_an_app_that_is_not_ours_is_none_of_our_business() -> None:
    execute("INSERT INTO django_migrations (app, name, applied) VALUES ('elsewhere', '0001_initial', now())")
    assert differing_schema() == ""


def test_a_worker_does_not_start_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    execute("INSERT INTO django_migrations (app, name, applied) VALUES ('risk', '9999_tomorrow', now())")
    assert celery.refuse_other_schema in [receiver() for _, receiver in worker_init.receivers]
    with pytest.raises(SystemExit) as caught:
        celery.refuse_other_schema()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("cdb: the schema is newer than this code (risk 9999_tomorrow)")


def test_a_worker_that_runs_goes_on_while_the_schema_is_its_own(asked_to_end: list[int]) -> None:
    assert not celery.leave_other_schema()
    assert asked_to_end == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "INSERT INTO django_migrations (app, name, applied) VALUES ('risk', '9999_tomorrow', now())",
            "the schema is newer than this code (risk 9999_tomorrow): start the code that belongs to it",
        ),
        (
            "DELETE FROM django_migrations WHERE app = 'risk' AND name LIKE '0001%%'",
            "the schema is older than this code (risk 0001_initial): run `manage.py migrate`",
        ),
    ],
)
def test_somebody_migrates_while_processes_run(
    statement: str, words: str, asked_to_end: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """A worker ends after the task under way, the steward at once, each with one line."""
    execute(statement)
    assert celery.leave_other_schema()
    assert asked_to_end == [signal.SIGTERM]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("CRITICAL", f"this worker ends after the task under way: {words}")
    ]
    with pytest.raises(CommandError) as caught:
        Loop([Chore("look at the schema", 5, refuse_other_schema)]).turn()
    assert str(caught.value) == words
