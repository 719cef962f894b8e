"""The version fence: a schema that is newer or older than the code is named in one line, and stops a worker."""

from __future__ import annotations

import pytest
from celery.signals import worker_init
from django.db import connection

from apps.ops.schema import differing_schema
from cdb_project import celery

pytestmark = pytest.mark.django_db


def execute(statement: str, *parameters: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@pytest.fixture(autouse=True)
def kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's transaction lies on this connection."""
    monkeypatch.setattr(connection, "close", lambda: None)


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
