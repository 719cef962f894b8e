"""Tasks that behave badly, for the rows that need some, and patience. Only workers of the fault matrix know them."""

from __future__ import annotations

import os
from typing import Final

from celery import shared_task
from django.conf import settings

from apps.bus import clients
from apps.engine import timeouts

STEP_BYTES = 16 * 2**20
TRIES_AFTER = 2  # as the tasks of the road
CIRCLING: Final = "matrix:circling"  # a list of the processes that began to circle
PATIENCE_VARIABLE: Final = "FAULTS_PATIENCE_MS"  # how old signal and intent may be in this worker
_PATIENCE: Final = ("INTENT_TTL_MS", "SIGNAL_AGE_MAX_MS", "FEED_AGE_MAX_MS")


def _be_patient(age_ms: int) -> None:
    """On a busy machine an order is often too old before it can be sent. The order of all timeouts must still hold."""
    for name in _PATIENCE:
        setattr(timeouts, name, age_ms)
    assert not timeouts.broken_relations(), timeouts.broken_relations()


if PATIENCE_VARIABLE in os.environ:
    _be_patient(int(os.environ[PATIENCE_VARIABLE]))


@shared_task(name="test.devour", max_retries=TRIES_AFTER)
def devour() -> None:
    """Take memory until there is none."""
    taken = []
    while True:
        taken.append(b"x" * STEP_BYTES)


@shared_task(name="test.circle", max_retries=TRIES_AFTER)
def circle() -> None:
    """Tell which process it is, then never end, and never listen."""
    clients.writer(settings.REDIS_URL).rpush(CIRCLING, os.getpid())
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001, S110  (the soft limit's exception too is not heard)
            pass
