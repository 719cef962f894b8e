"""Servers for tests.

`make test` runs pytest inside `python -m apps.ops.embedded exec --temporary`, with fresh servers already running. A
bare `pytest` works too: addresses and secrets are made here, and the servers start when the first test asks for a
database or for Redis, so tests of pure code never wait for them. Several processes (`pytest -n 2`) share nothing: each
has servers of its own, whatever its parent was given. Django reads its settings once, at import: that is why
it is set up here and not by pytest-django, which would do so before this file is read.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator

import django
import pytest
import redis
from django.conf import settings

from apps.ops.embedded.temporary import TemporaryServers

ADDRESSES = ("DATABASE_URL", "REDIS_URL", "CDB_DATA_DIR")

_OURS = None if all(os.environ.get(name) for name in ADDRESSES) else TemporaryServers()
if _OURS:
    os.environ.update(_OURS.environment)
    atexit.register(_OURS.stop)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
django.setup()
# Importing the ASGI application sets Django up once more; that must not take away the handler that caplog reads.
settings.LOGGING_CONFIG = None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Before other test processes start: they must find neither these servers nor a reason to read settings early."""
    for name in (*ADDRESSES, "DJANGO_SETTINGS_MODULE"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def servers() -> dict[str, str]:
    """The running servers: `DATABASE_URL`, `REDIS_URL` and `CDB_DATA_DIR`."""
    if _OURS:
        _OURS.start()
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        if client.dbsize():
            pytest.exit("REDIS_URL names a database that is not empty; the tests would erase it", returncode=2)
    return {name: os.environ[name] for name in ADDRESSES}


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: dict[str, str]) -> None:
    """pytest-django asks for this before it makes the test database, so the servers run by then."""


@pytest.fixture
def redis_client(servers: dict[str, str]) -> Iterator[redis.Redis]:
    """A client of the test database, emptied before and after the test. Answers are bytes."""
    with redis.Redis.from_url(servers["REDIS_URL"]) as client:
        client.flushdb()
        yield client
        client.flushdb()
