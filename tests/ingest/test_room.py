"""A Redis that is slow slows the sender; only one that is away costs trades."""

from __future__ import annotations

import threading
import time

from apps.engine.events import TradeBlock
from workers.ingest.ring import Batch, Ring

TRADES_MAX = 1_000


def batch(trades: int) -> Batch:
    block = TradeBlock("A", 1, 1, 1, [1] * trades, [1] * trades, [1] * trades, [1] * trades, [""] * trades)
    return Batch(0, 0.0, [block], trades)


def crowded() -> Ring:
    """A ring that is more than half full behind a reader that gets on."""
    ring = Ring(1, time.monotonic, trades_max=TRADES_MAX)
    ring.put(batch(1))
    assert ring.take(0) is not None
    ring.done()
    ring.reader_gets_on()
    ring.put(batch(400))
    ring.put(batch(400))
    return ring


def waiting(ring: Ring) -> threading.Thread:
    thread = threading.Thread(target=ring.wait_for_room, daemon=True)
    thread.start()
    return thread


def test_who_fills_the_ring_waits_until_the_reader_has_made_room() -> None:
    ring = crowded()
    thread = waiting(ring)
    thread.join(0.1)
    assert thread.is_alive()
    assert ring.take(0) is not None
    ring.done()
    thread.join(20)
    assert not thread.is_alive()
    assert ring.overflowed == 0


def test_nobody_waits_for_a_reader_that_is_stuck() -> None:
    ring = crowded()
    thread = waiting(ring)
    ring.reader_is_stuck()
    thread.join(20)
    assert not thread.is_alive()
    ring.wait_for_room()
    ring.put(batch(400))
    assert ring.overflowed > 0


def test_nobody_waits_before_anything_has_reached_the_stream() -> None:
    ring = Ring(1, time.monotonic, trades_max=TRADES_MAX)
    ring.put(batch(900))
    ring.wait_for_room()
