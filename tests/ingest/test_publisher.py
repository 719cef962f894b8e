"""Onto a real stream: ids that only grow, no entry twice, and a fence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from apps.bus import clients, codec, streams
from apps.engine.events import TradeBlock
from tests.ingest.broker import CuttingProxy
from tests.ingest.processes import EPOCH, published_trades, stream_events, wait_until
from workers.ingest import stored
from workers.ingest.clock import Clock
from workers.ingest.config import Config, Instrument
from workers.ingest.log import BoundedLog
from workers.ingest.publisher import EntryIds, Publisher
from workers.ingest.ring import Batch, Ring
from workers.ingest.symbols import make_states
from workers.ingest.tally import Tally


def block(ordinal: int, *ids: str, token: int = 1) -> TradeBlock:
    count = len(ids)
    return TradeBlock("BTCUSDT", token, ordinal, 1, [1] * count, [1] * count, [1] * count, [1] * count, list(ids))


class Running:
    """A publisher over a ring of the test."""

    def __init__(self, url: str, *, token: int = 1, last: dict[int, str] | None = None) -> None:
        clock = Clock()
        self.tally = Tally(BoundedLog(clock.monotonic))
        self.ring = Ring(token, clock.monotonic)
        self.permitted = True
        self.refusals = 0
        self.dirty: list[int] = []
        self.fenced: list[str] = []
        self.latencies: list[float] = []
        self.client = clients.writer(url)
        self.publisher = Publisher(
            self.client,
            EPOCH,
            token,
            EntryIds(last or {0: "0-0", 1: "0-0"}),
            self.ring,
            self.tally,
            clock,
            may_write=self.may_write,
            on_dirty=self.dirty.append,
            on_fenced=self.fenced.append,
            observe_latency=self.latencies.append,
        )
        self.publisher.start()

    def may_write(self) -> bool:
        self.refusals += not self.permitted
        return self.permitted

    def put(self, event: TradeBlock, shard: int = 0) -> None:
        self.ring.put(Batch(shard, 0.0, [event], len(event.ts_event)))

    def close(self) -> None:
        self.publisher.stop(2)
        self.publisher.join(5)
        assert not self.publisher.is_alive()
        self.client.close()


@pytest.fixture
def url(servers: dict[str, str], redis_client: redis.Redis) -> str:
    return servers["REDIS_URL"]


@pytest.fixture
def running(url: str) -> Iterator[Running]:
    running = Running(url)
    yield running
    running.close()


def test_batches_become_entries_and_the_first_one_rings(running: Running, redis_client: redis.Redis) -> None:
    running.put(block(1, "a"))
    wait_until(lambda: running.ring.empty, "published")
    running.put(block(2, "b"))
    wait_until(lambda: running.ring.empty, "published")
    assert [event.trade_id for event in stream_events(redis_client)[0] if isinstance(event, TradeBlock)] == [
        ["a"],
        ["b"],
    ]
    assert running.dirty == [0]  # the flag is still set, so the second one need not ring
    assert running.tally.trades_published == 2
    assert len(running.latencies) == 2


def test_ids_grow_beyond_the_stream_and_beyond_what_postgres_knows_also_when_the_clock_went_back() -> None:
    ids = EntryIds({0: "2000-7", 1: "0-0"})
    drawn = [ids.next(0, wall_ms) for wall_ms in (1000, 1000, 2000, 2001, 2001, 1999)]
    assert drawn == ["2000-8", "2000-9", "2000-10", "2001-0", "2001-1", "2001-2"]
    assert ids.next(1, 1000) == "1000-0"


def test_a_restarted_ingest_appends_after_everything_known(url: str, redis_client: redis.Redis) -> None:
    far = "99999999999999-4"
    redis_client.xadd(streams.stream_key(EPOCH, 0), {"b": codec.encode([block(1, "old")])}, id=far)
    config = _config(url, {"1": "99999999999999-9"})
    ids = stored.last_ids(redis_client, config)
    assert ids == {0: far, 1: "99999999999999-9"}
    running = Running(url, last=ids)
    running.put(block(1, "new"))
    running.put(block(1, "new"), shard=1)
    wait_until(lambda: running.ring.empty, "published")
    running.close()
    assert streams.last_id(redis_client, EPOCH, 0) == "99999999999999-5"
    assert streams.last_id(redis_client, EPOCH, 1) == "99999999999999-10"


def test_the_memory_of_trade_ids_is_refilled_from_the_tail(url: str, redis_client: redis.Redis) -> None:
    for number in range(350):
        payload = codec.encode([block(number + 1, f"t{number}")])
        redis_client.xadd(streams.stream_key(EPOCH, 0), {"b": payload})
    redis_client.xadd(streams.stream_key(EPOCH, 0), {"b": b"damaged"})
    states = make_states([Instrument("BTCUSDT", 2, 2)], 2)
    assert stored.refill(redis_client, _config(url, {}), states) == 350
    assert not states["BTCUSDT"].recent.add("t0")
    assert not states["BTCUSDT"].recent.add("t349")
    assert states["BTCUSDT"].recent.add("t350")


@pytest.mark.parametrize("after_the_server", [True, False])
def test_an_append_whose_answer_was_lost_is_on_the_stream_once(
    url: str, redis_client: redis.Redis, after_the_server: bool
) -> None:
    with CuttingProxy(url) as proxy:
        running = Running(proxy.url)
        running.put(block(1, "a"))
        wait_until(lambda: running.ring.empty, "published")
        redis_client.delete(streams.dirty_key(EPOCH, 0))
        running.dirty.clear()
        proxy.cut_next_append(after_the_server=after_the_server)
        running.put(block(2, "b"))
        running.put(block(3, "c"))
        wait_until(lambda: running.ring.empty, "published after the cut")
        running.close()
    assert proxy.cuts == 1
    assert [row[2] for row in published_trades(redis_client)] == ["a", "b", "c"]
    assert running.dirty[0] == 0
    assert running.tally.redis_errors["append"] >= 1


def test_a_newer_token_fences_the_older_one(running: Running, url: str, redis_client: redis.Redis) -> None:
    running.put(block(1, "a"))
    wait_until(lambda: running.ring.empty, "published")
    newer = Running(url, token=2, last={0: streams.last_id(redis_client, EPOCH, 0)})
    newer.put(block(1, "b", token=2))
    wait_until(lambda: newer.ring.empty, "published")
    running.put(block(2, "c"))
    wait_until(lambda: running.fenced, "fenced")
    newer.close()
    assert [row[2] for row in published_trades(redis_client)] == ["a", "b"]


def test_a_stop_publishes_what_waits_and_gives_up_in_time_if_it_cannot(url: str, redis_client: redis.Redis) -> None:
    running = Running(url)
    for number in range(2_000):
        running.put(block(number + 1, f"t{number}"))
    running.close()
    assert len(published_trades(redis_client)) == 2_000
    away = Running("redis://127.0.0.1:9/0")
    away.put(block(1, "a"))
    wait_until(lambda: away.tally.redis_errors["append"], "an error")
    away.publisher.stop(0.3)
    away.publisher.join(3)
    assert not away.publisher.is_alive()
    assert away.ring.trades == 1
    away.client.close()


def test_without_permission_it_waits_with_what_it_has_and_goes_on_when_it_is_given_again(running: Running) -> None:
    running.put(block(1, "a"))
    wait_until(lambda: running.tally.entries_published == 1, "published")
    running.permitted = False
    for ordinal, trade_id in ((2, "b"), (3, "c")):
        running.put(block(ordinal, trade_id))
    wait_until(lambda: running.refusals > 1, "it noticed")
    assert [row[2] for row in published_trades(running.client)] == ["a"]
    assert running.ring.trades == 2
    running.permitted = True
    wait_until(lambda: running.ring.empty, "published")
    assert [row[2] for row in published_trades(running.client)] == ["a", "b", "c"]
    assert running.publisher.reachable
    assert not running.fenced


def _config(url: str, first_entry_ids: dict[str, str]) -> Config:
    return Config(
        epoch=EPOCH,
        shard_count=2,
        token=1,
        ws_url="ws://x",
        rest_url="http://x",
        redis_url=url,
        drain_task="signals.drain_shard",
        http_host="127.0.0.1",
        http_port=0,
        symbols=[Instrument("BTCUSDT", 2, 2)],
        warmup_bars=0,
        first_entry_ids=first_entry_ids,
    )
