"""Transactions that are run again when PostgreSQL asks for it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from django.db import OperationalError, connection, transaction

log = logging.getLogger(__name__)

TRIES: Final = 5
PAUSE_SECONDS: Final = 0.02
# serialization failure, deadlock, lock timeout: nothing was written, and the same call may succeed a moment later
RETRIED: Final = frozenset({"40001", "40P01", "55P03"})

Result = TypeVar("Result")


def sqlstate(error: OperationalError) -> str:
    """PostgreSQL's code of an error, empty if it has none (a lost connection)."""
    return str(getattr(error.__cause__, "sqlstate", None) or "")


def retry_tx(function: Callable[[], Result], *, tries: int = TRIES) -> Result:
    """Run `function` in a transaction of its own, the whole of it again after a conflict, at most `tries` times.

    The result is committed on return. `function` may therefore do nothing that a second call must not do: it reads and
    writes PostgreSQL and nothing else. Inside an open transaction there is nothing to repeat, which is an error
    (`RuntimeError`, from Django).
    """
    for attempt in range(1, tries + 1):
        try:
            with transaction.atomic(durable=True):
                return function()
        except OperationalError as error:
            if sqlstate(error) not in RETRIED or attempt == tries or connection.in_atomic_block:
                raise
            log.info("transaction is run again (%s, try %d of %d)", sqlstate(error), attempt, tries)
            time.sleep(PAUSE_SECONDS * attempt * random.uniform(0.5, 1.5))
    raise AssertionError("the last try either returned or raised")
