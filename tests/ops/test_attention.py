"""A worker that takes no message although some wait ends itself; one that works, or has nothing to do, stays."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Final

import pytest
import redis
from celery.signals import worker_ready

from apps.bus import clients
from apps.engine import timeouts
from cdb_project import attention, celery
from tests.faults.processes import wait_until
from tests.ops.deaf_worker import build

LOOKS: Final = 3


@pytest.fixture
def listening(redis_client: redis.Redis) -> attention.Attention:
    return attention.Attention(redis_client, ["first", "second"], looks=LOOKS)


def ring(client: redis.Redis, queue: str = "second") -> None:
    client.lpush(queue, "a message")


def looks(listening: attention.Attention, count: int = LOOKS) -> list[dict[str, int]]:
    return [listening.unheard() for _ in range(count)]


def test_messages_that_wait_while_none_is_taken_are_told_after_so_many_looks(
    listening: attention.Attention, redis_client: redis.Redis
) -> None:
    ring(redis_client)
    ring(redis_client)
    assert looks(listening) == [{}, {}, {"second": 2}]


def test_a_worker_without_messages_stays(listening: attention.Attention) -> None:
    assert looks(listening, 10) == [{}] * 10


def test_one_that_takes_messages_slower_than_they_come_stays(
    listening: attention.Attention, redis_client: redis.Redis
) -> None:
    ring(redis_client)
    for _ in range(5):
        assert looks(listening, LOOKS - 1) == [{}] * (LOOKS - 1)
        listening.took(request=None)


def test_a_queue_that_was_empty_in_between_is_begun_anew(
    listening: attention.Attention, redis_client: redis.Redis
) -> None:
    ring(redis_client)
    looks(listening, LOOKS - 1)
    redis_client.delete("second")
    looks(listening, 1)
    ring(redis_client)
    assert looks(listening, LOOKS - 1) == [{}] * (LOOKS - 1)


def test_a_broker_that_is_away_is_not_the_workers_deafness() -> None:
    listening = attention.Attention(clients.glance("redis://127.0.0.1:1/0"), ["first"], looks=1)
    assert looks(listening) == [{}] * LOOKS


@pytest.mark.parametrize(
    ("queues", "longest"),
    [
        (["shard.0", "shard.2"], timeouts.CELERY_HARD_LIMIT_SECONDS),
        (["trade"], timeouts.CELERY_HARD_LIMIT_SECONDS),
        (["misc", "study"], timeouts.BACKTEST_HARD_LIMIT_SECONDS),
    ],
)
def test_a_worker_waits_for_the_longest_task_of_its_queues(queues: list[str], longest: int) -> None:
    celery.app.loader.import_default_modules()  # as every worker does at its start
    assert attention.patience_seconds(celery.app, queues) == longest + timeouts.DEAF_MARGIN_SECONDS


def test_every_worker_of_ours_listens_to_its_queues() -> None:
    assert celery.listen_to_its_queues in [receiver() for _, receiver in worker_ready.receivers]


def test_the_words_name_what_waits_before_the_end(
    listening: attention.Attention, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ring(redis_client)
    ended: list[int] = []
    attention.watch(listening, look_seconds=0.001, ended=threading.Event(), end=lambda: ended.append(1))
    assert ended == [1]
    assert [record.message for record in caplog.records if record.levelno == logging.CRITICAL] == [
        "this worker takes no messages although some wait (1 in second): it ends"
    ]


@pytest.fixture
def worker(servers: dict[str, str], redis_client: redis.Redis) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ops.deaf_worker", servers["REDIS_URL"], "deaf-test"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_worker_that_went_deaf_ends_and_the_message_is_there_for_its_successor(
    worker: subprocess.Popen[str], servers: dict[str, str], redis_client: redis.Redis
) -> None:
    application = build(servers["REDIS_URL"], "deaf-test")
    application.send_task("test.work", queue="deaf-test")
    wait_until("the first message is taken", lambda: not redis_client.llen("deaf-test"), seconds=60, every=0.05)
    application.send_task("test.go_deaf", queue="deaf-test")
    wait_until("the second message is taken", lambda: not redis_client.llen("deaf-test"), seconds=60, every=0.05)
    application.send_task("test.work", queue="deaf-test")
    _, errors = worker.communicate(timeout=60)
    assert "takes no messages although some wait (1 in deaf-test)" in errors
    assert "in asynloop" in errors, "where it stood is written down"
    assert redis_client.llen("deaf-test") == 1
