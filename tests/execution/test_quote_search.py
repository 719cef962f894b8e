"""Finding the quote in force: on the stream in any split, further back when needed, in segments when it was lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.bus import codec
from apps.bus.streams import Appender, stream_key
from apps.engine.events import Event
from apps.execution.venues.quotes import Reader, Wanted
from apps.market.segments import SegmentWriter
from tests.worlds import quotes, trades, watermark

EPOCH, SHARD = 7, 0
T = 1_700_000_100_500
WALL = 1_800_000_000_000


def append(client: redis.Redis, entry_id: str, *events: Event) -> str:
    Appender(client, EPOCH, 1).append(SHARD, entry_id, codec.encode(list(events)))
    return entry_id


def wanted(entry_id: str, key: str = "c1") -> Wanted:
    return Wanted(key, "XRPUSDT", entry_id, T, T + 150)


def row(ts_event: int, bid: int = 5_000) -> tuple[int, int, int, int, int]:
    return (ts_event, bid, 1, bid + 2, 1)


def reader(client: redis.Redis, segments: Path) -> Reader:
    return Reader(client, segments, EPOCH, SHARD)


def found_bid(client: redis.Redis, segments: Path, entry_id: str) -> int | None:
    search = reader(client, segments).find([wanted(entry_id)])["c1"]
    return None if search.quote is None else search.quote[1]


def test_the_latest_quote_up_to_the_maturity_is_found(redis_client: redis.Redis, tmp_path: Path) -> None:
    append(redis_client, f"{WALL}-0", quotes(row(T - 10, 1)))
    trigger = append(redis_client, f"{WALL}-1", trades((T, 5_000)))
    append(redis_client, f"{WALL}-2", quotes(row(T + 50, 2), row(T + 150, 3), row(T + 151, 4)))
    append(
        redis_client,
        f"{WALL}-3",
        quotes(
            row(
                T + 50,
                9,
            ),
            symbol="ADAUSDT",
        ),
        watermark(T + 150),
    )
    assert found_bid(redis_client, tmp_path, trigger) == 3


def test_of_two_quotes_of_one_millisecond_the_last_holds(redis_client: redis.Redis, tmp_path: Path) -> None:
    trigger = append(redis_client, f"{WALL}-1", trades((T, 5_000)))
    append(redis_client, f"{WALL}-2", quotes(row(T + 150, 2)), quotes(row(T + 150, 3)), watermark(T + 150))
    assert found_bid(redis_client, tmp_path, trigger) == 3


def test_an_older_quote_that_comes_late_does_not_come_into_force(redis_client: redis.Redis, tmp_path: Path) -> None:
    trigger = append(redis_client, f"{WALL}-1", trades((T, 5_000)), quotes(row(T + 100, 2)))
    append(redis_client, f"{WALL}-2", quotes(row(T + 90, 3)), watermark(T + 150))
    assert found_bid(redis_client, tmp_path, trigger) == 2


def test_quotes_far_ahead_of_the_trigger_are_found_by_looking_further_back(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    """The quotes waited longer on their way than usual: 20 s of wall time lie between them and the trade."""
    append(redis_client, f"{WALL - 21_000}-0", quotes(row(T - 10, 1)))
    append(redis_client, f"{WALL - 20_000}-0", quotes(row(T + 100, 2)))
    trigger = append(redis_client, f"{WALL}-0", trades((T, 5_000)), watermark(T + 150))
    assert found_bid(redis_client, tmp_path, trigger) == 2


def test_a_quote_that_is_younger_than_the_maturity_does_not_end_the_look_back(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    append(redis_client, f"{WALL - 20_000}-0", quotes(row(T + 100, 2)))
    append(redis_client, f"{WALL - 100}-0", quotes(row(T + 200, 3)))
    trigger = append(redis_client, f"{WALL}-0", trades((T, 5_000)), watermark(T + 150))
    assert found_bid(redis_client, tmp_path, trigger) == 2


def test_older_trades_of_the_symbol_end_the_look_back(redis_client: redis.Redis, tmp_path: Path) -> None:
    """Behind two older frames of the symbol every quote is older than the trigger."""
    append(redis_client, f"{WALL - 20_000}-0", quotes(row(T - 9_000, 2)))
    for number in (3, 2):
        append(redis_client, f"{WALL - number}-0", trades((T - number * 100, 5_000)))
    trigger = append(redis_client, f"{WALL}-0", trades((T, 5_000)), watermark(T + 150))
    search = reader(redis_client, tmp_path)
    assert search.find([wanted(trigger)])["c1"].quote is None
    assert search.entries_read == 3


def test_the_scan_ends_with_the_watermark_that_passes_the_last_order(redis_client: redis.Redis, tmp_path: Path) -> None:
    trigger = append(redis_client, f"{WALL}-0", quotes(row(T)), trades((T, 5_000)))
    append(redis_client, f"{WALL}-1", watermark(T + 149))
    append(redis_client, f"{WALL}-2", watermark(T + 150, "ADAUSDT"))
    append(redis_client, f"{WALL}-3", watermark(T + 150))
    for number in range(4, 40):
        append(redis_client, f"{WALL}-{number}", quotes(row(T + number)))
    one = reader(redis_client, tmp_path)
    assert one.find([wanted(trigger)])["c1"].complete
    assert one.entries_read == 4


def test_several_orders_share_one_scan(redis_client: redis.Redis, tmp_path: Path) -> None:
    first = append(redis_client, f"{WALL}-0", quotes(row(T, 1)), trades((T, 5_000)))
    second = append(redis_client, f"{WALL}-1", quotes(row(T + 10, 2)), trades((T, 5_000), ordinal=2))
    append(redis_client, f"{WALL}-2", watermark(T + 150))
    one = reader(redis_client, tmp_path)
    found = one.find([wanted(first, "a"), wanted(second, "b")])
    assert {key: search.quote and search.quote[1] for key, search in found.items()} == {"a": 2, "b": 2}
    assert one.entries_read == 3


def test_a_search_that_no_watermark_ends_is_not_answered(redis_client: redis.Redis, tmp_path: Path) -> None:
    trigger = append(redis_client, f"{WALL}-0", quotes(row(T)), watermark(T + 149))
    assert reader(redis_client, tmp_path).find([wanted(trigger)]) == {}


def test_a_trigger_that_is_not_on_the_stream_any_more_is_not_answered(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    append(redis_client, f"{WALL}-5", quotes(row(T)), watermark(T + 150))
    assert reader(redis_client, tmp_path).find([wanted(f"{WALL}-4")]) == {}


def test_what_the_stream_has_lost_is_found_in_the_segments(redis_client: redis.Redis, tmp_path: Path) -> None:
    trigger = f"{WALL}-1"
    entries = [
        (f"{WALL}-0", codec.encode([quotes(row(T - 10, 1))])),
        (trigger, codec.encode([trades((T, 5_000))])),
        (f"{WALL}-2", codec.encode([quotes(row(T + 100, 2)), watermark(T + 150)])),
    ]
    writer = SegmentWriter(tmp_path, EPOCH, SHARD)
    writer.append(entries)
    writer.close()
    append(redis_client, f"{WALL}-3", watermark(T + 900))
    assert found_bid(redis_client, tmp_path, trigger) == 2


def test_an_entry_that_cannot_be_read_is_passed_over(redis_client: redis.Redis, tmp_path: Path) -> None:
    trigger = append(redis_client, f"{WALL}-0", quotes(row(T, 4)), trades((T, 5_000)))
    redis_client.xadd(stream_key(EPOCH, SHARD), {"b": b"\xff"}, id=f"{WALL}-1")
    redis_client.xadd(stream_key(EPOCH, SHARD), {"x": b"?"}, id=f"{WALL}-2")
    append(redis_client, f"{WALL}-3", watermark(T + 150))
    assert found_bid(redis_client, tmp_path, trigger) == 4


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.integers(T - 300, T + 400), min_size=1, max_size=15).map(sorted),
    cuts=st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_however_quotes_are_packed_into_entries_the_same_one_is_in_force(
    redis_client: redis.Redis, tmp_path: Path, times: list[int], cuts: list[bool]
) -> None:
    redis_client.flushdb()
    expected = max(((ts, number) for number, ts in enumerate(times) if ts <= T + 150), default=None)
    pending: list[Event] = []
    place, trigger = 0, ""
    for number, ts in enumerate(times):
        if not trigger and ts > T:
            pending.append(trades((T, 5_000)))
        pending.append(quotes(row(ts, number + 1)))
        if cuts[number]:
            entry = append(redis_client, f"{WALL}-{place}", *pending)
            trigger = trigger or (entry if ts > T else "")
            pending, place = [], place + 1
    if not trigger:
        trigger = f"{WALL}-{place}"
        pending.append(trades((T, 5_000)))
    append(redis_client, f"{WALL}-{place}", *pending, watermark(T + 150))
    assert found_bid(redis_client, tmp_path, trigger) == (None if expected is None else expected[1] + 1)


@pytest.mark.parametrize("missing", ["stream", "segments"])
def test_an_empty_place_has_no_answer(redis_client: redis.Redis, tmp_path: Path, missing: str) -> None:
    assert reader(redis_client, tmp_path / missing).find([wanted(f"{WALL}-0")]) == {}
