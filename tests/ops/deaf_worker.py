"""A worker with one task that makes its main process deaf: `python -m tests.ops.deaf_worker REDIS_URL QUEUE`.

The task has that process never ask the broker again, as after a connection that was lost without a word. All of its
connections stay open, and its threads go on.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final

from celery import Celery
from celery.signals import task_received, worker_init, worker_ready

from apps.bus import clients
from cdb_project import attention

LOOK_SECONDS: Final = 0.2
LOOKS: Final = 5
_consumer: list[Any] = []


def build(url: str, queue: str) -> Celery:
    application = Celery("deaf", broker=url, set_as_current=False)
    application.conf.task_ignore_result = True

    @application.task(name="test.work", shared=False)
    def work() -> None:
        print("worked", flush=True)

    @application.task(name="test.go_deaf", shared=False)
    def go_deaf() -> None:
        print("deaf from here on", flush=True)

    return application


def main(url: str, queue: str) -> None:
    application = build(url, queue)

    def watch(sender: Any, **_: Any) -> None:
        _consumer.append(sender)
        listening = attention.Attention(clients.glance(url), [queue], looks=LOOKS)
        task_received.connect(listening.took, weak=False)
        given = {"look_seconds": LOOK_SECONDS, "ended": threading.Event(), "end": attention.end_this_process}
        threading.Thread(target=attention.watch, args=(listening,), kwargs=given, daemon=True).start()

    def go_deaf(request: Any, **_: Any) -> None:
        if request.name == "test.go_deaf":
            _consumer[0].task_consumer.channel.qos.can_consume = lambda: False

    for told in (worker_init, worker_ready):  # no database is here, and no other worker to be told of this one
        told.receivers.clear()
    worker_ready.connect(watch, weak=False)
    task_received.connect(go_deaf, weak=False)
    application.worker_main(
        ["worker", "--concurrency=1", f"--queues={queue}", "--without-gossip", "--without-mingle", "--loglevel=WARNING"]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
