"""The doorbell rings seldom enough, again after a failure, and never holds anybody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from tests.ingest.processes import wait_until
from workers.ingest.bell import PAUSE_SECONDS, Bell
from workers.ingest.clock import Clock
from workers.ingest.log import BoundedLog
from workers.ingest.tally import Tally


@contextmanager
def running(ring: Callable[[int], None]) -> Iterator[tuple[Bell, Tally]]:
    clock = Clock()
    tally = Tally(BoundedLog(clock.monotonic))
    bell = Bell(ring, tally, clock)
    bell.start()
    try:
        yield bell, tally
    finally:
        bell.stop()
        bell.join(5)
        assert not bell.is_alive()


def test_many_orders_are_few_rings_and_the_last_order_is_not_forgotten() -> None:
    rung: list[tuple[int, float]] = []
    with running(lambda shard: rung.append((shard, time.monotonic()))) as (bell, tally):
        begun = time.monotonic()
        ordered_until = begun + 0.2
        while time.monotonic() < ordered_until:
            bell.order(0)
            bell.order(1)
            last = time.monotonic()
            time.sleep(PAUSE_SECONDS / 10)
        wait_until(
            lambda: all(any(rang == shard and at >= last for rang, at in rung) for shard in (0, 1)), "the last ring"
        )
    for shard in (0, 1):
        times = [at for rang, at in rung if rang == shard]
        assert 2 < len(times) <= (times[-1] - begun) / PAUSE_SECONDS + 1
    assert tally.rings["rung"] == len(rung)


def test_a_ring_that_fails_is_repeated() -> None:
    attempts: list[int] = []

    def ring(shard: int) -> None:
        attempts.append(shard)
        if len(attempts) == 1:
            raise redis.ConnectionError("away")

    with running(ring) as (bell, tally):
        bell.order(3)
        wait_until(lambda: tally.rings["rung"], "rung")
    assert attempts == [3, 3]
    assert tally.rings["failed"] == 1


def test_a_broker_that_hangs_holds_nobody_up() -> None:
    released = threading.Event()

    def hang(_: int) -> None:
        released.wait(5)

    with running(hang) as (bell, _):
        begun = time.monotonic()
        for _ in range(1_000):
            bell.order(0)
        assert time.monotonic() - begun < 1
        released.set()
