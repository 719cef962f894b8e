"""What overflows is declared, what is kept stays in order."""

from __future__ import annotations

import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.events import CoverageStart, Event, Loss, QuoteBlock, TradeBlock, WarmupBar, Watermark
from workers.ingest.ring import BATCH_TRADES_MAX, Batch, Ring

TOKEN = 5


def trades(symbol: str, ordinal: int, times: list[int]) -> TradeBlock:
    count = len(times)
    return TradeBlock(symbol, TOKEN, ordinal, 1, times, [1] * count, [1] * count, [1] * count, [""] * count)


def batch(shard: int, *events: Event) -> Batch:
    count = sum(len(event.ts_event) for event in events if isinstance(event, TradeBlock))
    quotes = sum(len(event.ts_event) for event in events if isinstance(event, QuoteBlock))
    return Batch(shard, 0.0, list(events), count, quotes)


def make_ring(trades_max: int = 10, rows_max: int = 1_000) -> Ring:
    return Ring(TOKEN, time.monotonic, trades_max=trades_max, rows_max=rows_max)


def drain(ring: Ring) -> dict[int, list[Event]]:
    shards: dict[int, list[Event]] = {}
    while (taken := ring.take(0)) is not None:
        shards.setdefault(taken.shard, []).extend(taken.events)
        ring.done()
    return shards


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), max_size=60), trades_max=st.integers(1, 40))
def test_every_trade_is_kept_in_order_or_lies_in_a_declared_loss(sizes: list[tuple[int, int]], trades_max: int) -> None:
    ring, ordinals, clock_ms = make_ring(trades_max), dict.fromkeys(range(3), 0), 0
    times: dict[tuple[int, int], int] = {}
    for shard, size in sizes:
        stamps = list(range(clock_ms, clock_ms + size))
        # Full batches, so that nothing is merged and the bound is felt.
        block = trades(f"S{shard}", ordinals[shard] + 1, stamps * BATCH_TRADES_MAX)
        for offset, stamp in enumerate(block.ts_event):
            times[shard, block.ordinal + offset] = stamp
        ordinals[shard] += len(block.ts_event)
        clock_ms += size
        ring.put(batch(shard, block))
        assert ring.trades <= max(trades_max, len(block.ts_event))
    kept: set[tuple[int, int]] = set()
    shards = drain(ring)
    for shard, events in shards.items():
        reached = 0
        for event in events:
            if isinstance(event, TradeBlock):
                assert event.ordinal > reached
                reached = event.ordinal + len(event.ts_event) - 1
                kept |= {(shard, ordinal) for ordinal in range(event.ordinal, reached + 1)}
    lost = set(times) - kept
    assert len(lost) == ring.overflowed
    for shard, ordinal in lost:
        ranges = [(e.from_ms, e.to_ms) for e in shards[shard] if isinstance(e, Loss) and e.symbols == [f"S{shard}"]]
        assert any(begin <= times[shard, ordinal] <= end for begin, end in ranges)
    assert ring.trades == 0
    assert ring.empty


def test_a_loss_stands_before_the_first_batch_that_is_kept() -> None:
    ring = make_ring(BATCH_TRADES_MAX)
    ring.put(batch(0, trades("A", 1, [10, 30] * 200)))
    ring.put(batch(0, trades("A", 401, [40, 50] * 200)))
    taken = ring.take(0)
    assert taken is not None
    assert taken.events[0] == Loss(TOKEN, 10, 30, 1, ["A"], "ring overflow")
    assert isinstance(taken.events[1], TradeBlock)
    assert taken.events[1].ordinal == 401
    assert (ring.overflowed, ring.overflowed_at is not None) == (400, True)


def test_coverage_and_warm_up_survive_an_overflow_and_quotes_are_sent_again() -> None:
    ring = make_ring(BATCH_TRADES_MAX)
    start = CoverageStart(TOKEN, 5, 1, ["A"], "ingest start")
    bar = WarmupBar("A", 0, 1, 1, 1, 1, 1, 1, 1)
    quote = QuoteBlock("A", 1, 1, [12], [1], [1], [2], [1])
    mark = Watermark(TOKEN, 11, 1, {"A": 0})
    ring.put(batch(0, bar, start, mark, quote, trades("A", 1, [11] * 400)))
    assert ring.put(batch(0, trades("A", 401, [20] * 400))) == {"A"}
    taken = ring.take(0)
    assert taken is not None
    assert taken.events[:3] == [bar, start, Loss(TOKEN, 11, 12, 1, ["A"], "ring overflow")]
    assert mark not in taken.events


def test_a_flood_of_quotes_is_bounded_too() -> None:
    ring = make_ring(rows_max=100)
    for number in range(500):
        ring.put(batch(number % 2, QuoteBlock("AB"[number % 2], 1, 1, [number] * 30, *[[1] * 30] * 4)))
    assert sum(len(events) for events in drain(ring).values()) <= 8


def test_what_is_being_published_cannot_overflow() -> None:
    ring = make_ring(BATCH_TRADES_MAX)
    ring.put(batch(0, trades("A", 1, [1] * 400)))
    in_flight = ring.take(0)
    ring.put(batch(0, trades("A", 401, [2] * 400)))
    ring.put(batch(0, trades("A", 801, [3] * 400)))
    assert in_flight is not None
    assert in_flight.events == [trades("A", 1, [1] * 400)]
    ring.done()
    assert ring.overflowed == 400


def test_small_batches_of_a_shard_are_merged_while_they_wait() -> None:
    ring = make_ring(10_000)
    for number in range(100):
        ring.put(batch(0, trades("A", number + 1, [number])))
    taken = ring.take(0)
    assert taken is not None
    assert taken.trades == 100


def test_take_wakes_up_for_a_batch() -> None:
    ring = make_ring()
    timer = threading.Timer(0.05, lambda: ring.put(batch(0, trades("A", 1, [1]))))
    timer.start()
    assert ring.take(5) is not None
    timer.join()
