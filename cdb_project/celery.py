"""The Celery application: a doorbell without a result backend, JSON only."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import redis

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")

from celery import Celery
from celery.schedules import crontab
from celery.signals import (
    setup_logging,
    task_failure,
    task_received,
    worker_init,
    worker_process_init,
    worker_ready,
    worker_shutdown,
)

from apps.engine import timeouts
from cdb_project import attention, broker, given_up
from cdb_project.env import exit_on_wrong_setting
from cdb_project.pipeline import TASK_QUEUES

if TYPE_CHECKING:
    from apps.bus.workers import Heart

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
COLLECT_AFTER = (10_000, 20, 20)
BEAT_SECONDS = 5
MINUTE_SECONDS = 60
HOUR_SECONDS = 3600


def build() -> Celery:
    broker.install()
    application = Celery("cdb", amqp=broker.EagerAMQP, task_cls="cdb_project.redelivery:BoundedTask")
    application.config_from_object("django.conf:settings", namespace="CELERY")
    application.conf.task_routes = {task: {"queue": queue} for task, queue in TASK_QUEUES.items()}
    application.conf.beat_schedule = {
        "note-beat": {"task": "ops.note_beat", "schedule": BEAT_SECONDS, "options": {"expires": BEAT_SECONDS}},
        **{
            task: {"task": task, "schedule": MINUTE_SECONDS, "options": {"expires": MINUTE_SECONDS}}
            for task in ("ops.sweep_klines", "ops.choose_symbols", "market.archive_feed")
        },
        "reconcile-orders": _reconcile("orders", timeouts.RECONCILE_ORDERS_SECONDS),
        "reconcile-everything": _reconcile("full", timeouts.RECONCILE_FULL_SECONDS),
        "prune": {"task": "market.prune_archive", "schedule": HOUR_SECONDS, "options": {"expires": HOUR_SECONDS}},
        "audit-parity": {"task": "backtest.audit_parity", "schedule": crontab(hour="0", minute="10")},
    }
    application.autodiscover_tasks()
    task_failure.connect(given_up.note_failure)
    return application


def _reconcile(scope: str, seconds: int) -> dict[str, Any]:
    """A turn that comes too late is left out: the next one compares the same."""
    return {
        "task": "execution.reconcile",
        "kwargs": {"scope": scope},
        "schedule": seconds,
        "options": {"expires": seconds},
    }


with exit_on_wrong_setting():
    app = build()
    app.conf.broker_url  # noqa: B018  (reads the settings now, so that a wrong one stops the start here)


@setup_logging.connect
def keep_django_logging(**_: Any) -> None:
    """Celery would install its own format; one format for all processes reads better."""
    import logging.config

    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)


@worker_init.connect
def refuse_other_schema(**_: Any) -> None:
    """A worker of another version must not write: one line and exit code 2."""
    from apps.ops.schema import differing_schema

    words = differing_schema()
    if words:
        print(f"cdb: {words}", file=sys.stderr)
        sys.exit(2)


@worker_process_init.connect
def look_for_garbage_rarely(**_: Any) -> None:
    """What was read at the start is none, and looking through all of it stops a task for a tenth of a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


@worker_process_init.connect
def die_with_parent(**_: Any) -> None:
    """A killed worker must not leave a child behind that goes on draining next to its successor."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.getLogger(__name__).info("worker process %d ready", os.getpid())


_done = threading.Event()


@worker_ready.connect
def tell_of_this_worker(sender: Any, **_: Any) -> None:
    """A thread of the worker's main process says every few seconds that it is there, and with which code."""
    from django.conf import settings

    from apps.bus import clients
    from apps.bus.workers import Heart

    name = str(sender.hostname).partition("@")[0]
    heart = Heart(clients.writer(settings.REDIS_URL), name=name, version=settings.CODE_HASH)
    threading.Thread(target=_beat, args=(heart,), name="heartbeat", daemon=True).start()
    threading.Thread(target=_watch_schema, name="schema", daemon=True).start()


@worker_ready.connect
def listen_to_its_queues(sender: Any, **_: Any) -> None:
    """A thread of the worker's main process ends it when it no longer takes what waits for it."""
    from django.conf import settings

    from apps.bus import clients

    queues = list(sender.app.amqp.queues.consume_from)
    seconds = attention.patience_seconds(sender.app, queues)
    looks = -(-seconds // timeouts.DEAF_LOOK_SECONDS)
    listening = attention.Attention(clients.glance(settings.REDIS_URL), queues, looks=looks)
    task_received.connect(listening.took, weak=False)
    log.info("this worker ends itself if it takes none of its messages for %d s", seconds)
    watch = partial(attention.watch, listening, look_seconds=timeouts.DEAF_LOOK_SECONDS, ended=_done)
    threading.Thread(target=watch, kwargs={"end": attention.end_this_process}, name="attention", daemon=True).start()


def _beat(heart: Heart) -> None:
    while True:
        try:
            heart.beat(time.time_ns() // 1_000_000)
        except redis.RedisError as error:
            log.warning("the heartbeat was not heard: %s", error)
        if _done.wait(timeouts.HEARTBEAT_SECONDS):
            break
    with contextlib.suppress(redis.RedisError):  # then it counts as silent, which it is
        heart.leave()


def _watch_schema() -> None:
    while not _done.wait(timeouts.SCHEMA_LOOK_SECONDS):
        if leave_other_schema():
            break


def leave_other_schema() -> bool:
    """Whether somebody has migrated away from this code: then no task is taken any more, and the worker ends."""
    from apps.ops.schema import differing_schema

    words = differing_schema()
    if words:
        log.critical("this worker ends after the task under way: %s", words)
        os.kill(os.getpid(), signal.SIGTERM)
    return bool(words)


@worker_shutdown.connect
def stop_telling(**_: Any) -> None:
    _done.set()
