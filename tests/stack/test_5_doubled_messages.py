"""Finding 5: with a socket timeout, which finding 2 demands, one wake-up may become two messages, and that is normal.

Every task looks for itself what there is to do, so a second message finds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
import redis
from celery import Celery
from django.conf import settings

from apps.bus.doorbell import Doorbell
from apps.engine import timeouts
from apps.outbox.services import BROKER_ERRORS
from tests.stack.valkey import OwnValkey
from tests.stack.worker import wait_until

pytestmark = pytest.mark.stack
FROZEN_SECONDS = timeouts.BROKER_SOCKET_SECONDS + 3


def send(broker: Celery, queue: str) -> None:
    broker.send_task("risk.assess_signal", kwargs={"signal_id": 1}, queue=queue, ignore_result=True)


def timed(ring: Callable[[], None]) -> tuple[float, Exception | None]:
    """How long the caller was held, and what it was told."""
    began = time.monotonic()
    try:
        ring()
    except BROKER_ERRORS as error:
        return time.monotonic() - began, error
    return time.monotonic() - began, None


def test_a_pause_of_the_broker_doubles_messages_but_holds_nobody(own_valkey: OwnValkey) -> None:
    url = own_valkey.url()
    ours = Celery("ours", broker=url, set_as_current=False)
    ours.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    ours.conf.task_publish_retry = settings.CELERY_TASK_PUBLISH_RETRY
    patient = Celery("patient", broker=url, set_as_current=False)
    bell = Doorbell(url, "signals.drain_shard")
    rings: list[Callable[[], None]] = [
        lambda: send(ours, "ours"),
        lambda: bell.ring(1, 0),
        lambda: send(patient, "patient"),
    ]
    for ring in rings:
        ring()  # connected before the pause
    own_valkey.freeze()
    with ThreadPoolExecutor(len(rings)) as threads:
        futures = [threads.submit(timed, ring) for ring in rings]
        wait_until(lambda: own_valkey.has_been_down(FROZEN_SECONDS), FROZEN_SECONDS + 1)
        own_valkey.thaw()
        (ours_held, ours_told), (bell_held, bell_told), (patient_held, patient_told) = [
            future.result(timeout=30) for future in futures
        ]
    assert isinstance(ours_told, BROKER_ERRORS)
    assert isinstance(bell_told, BROKER_ERRORS)
    assert max(ours_held, bell_held) < timeouts.BROKER_SOCKET_SECONDS + 1 < timeouts.CELERY_SOFT_LIMIT_SECONDS
    assert patient_told is None
    assert patient_held > FROZEN_SECONDS - 1, "the library alone holds nobody now: socket_timeout may go"
    with redis.Redis.from_url(url) as client:
        # The callers were told that it failed and will ring again; both messages had arrived all the same.
        wait_until(lambda: cast("int", client.llen("ours")) >= 2 and cast("int", client.llen("shard.0")) >= 2, 5)
        assert cast("int", client.llen("patient")) == 2


def test_the_librarys_own_second_try_doubles_without_telling(own_valkey: OwnValkey) -> None:
    """Why publishing is never repeated for us (`task_publish_retry`): one call, no error, two messages."""
    impatient = Celery("impatient", broker=own_valkey.url(), set_as_current=False)
    impatient.conf.broker_transport_options = {"socket_timeout": 3}
    impatient.send_task("stack.note", queue="doubled")
    own_valkey.freeze()
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(lambda: impatient.send_task("stack.note", queue="doubled"))
        wait_until(lambda: own_valkey.has_been_down(5), 6)
        own_valkey.thaw()
        future.result(timeout=20)
    with redis.Redis.from_url(own_valkey.url()) as client:
        assert cast("int", client.llen("doubled")) - 1 == 2, "one call, one message now: finding 5 is history"
