"""Two real ingests, one lease: whoever dies, sleeps or loses PostgreSQL, one writes and no trade stands there twice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from apps.bus import streams
from apps.engine import timeouts
from apps.engine.events import CoverageStart, Event, TradeBlock
from apps.market.models import FeedEpoch, IngestLease
from tests.faultproxy import FaultProxy
from tests.ingest.leases import database_url, end_sessions, make_epoch
from tests.ingest.processes import Exchange, Ingest, Valkey, configuration, stream_events, wait_until

pytestmark = [pytest.mark.alone, pytest.mark.django_db(transaction=True)]

SYMBOLS = [{"symbol": symbol, "price_decimals": 2, "quantity_decimals": 6} for symbol in ("BTCUSDT", "ETHUSDT")]


class Pair:
    """An exchange, a Valkey, and ingests that contend for the lease of one epoch."""

    def __init__(self, folder: Path, valkey: Valkey, epoch: FeedEpoch) -> None:
        self.folder = folder
        self.valkey = valkey
        self.epoch = epoch
        self.exchange = Exchange([], 1.0, folder, options=["--trades-per-second", "40"])
        self.started: list[Ingest] = []

    def ingest(self, name: str, url: str | None = None) -> Ingest:
        lease = {"database_url": url or database_url(), "holder": name, "standby": name != "first"}
        config = configuration(
            self.exchange.ws_url,
            self.exchange.rest_url,
            self.valkey.url,
            epoch=self.epoch.pk,
            token=None,
            lease=lease,
            symbols=SYMBOLS,
            warmup_bars=3,
        )
        self.started.append(Ingest(config, self.folder))
        return self.started[-1]

    def both(self, url: str | None = None) -> tuple[Ingest, Ingest]:
        """The first one writes, the second one waits."""
        first = self.ingest("first", url)
        wait_until(lambda: self.trades(), "the first one publishes")
        second = self.ingest("second", url)
        wait_until(lambda: "standby" in second.get("/health")[1], "the second one waits")
        return first, second

    def events(self) -> list[Event]:
        with self.valkey.client() as client:
            return [event for shard in stream_events(client, 2, self.epoch.pk) for event in shard]

    def trades(self, token: int | None = None) -> list[tuple[str, str]]:
        """Symbol and id of the published trades, of one token or of all."""
        blocks = [event for event in self.events() if isinstance(event, TradeBlock)]
        return [(block.symbol, each) for block in blocks if token in (None, block.token) for each in block.trade_id]

    def tokens(self) -> set[int]:
        return {event.token for event in self.events() if isinstance(event, TradeBlock)}

    def lease(self) -> IngestLease:
        return IngestLease.objects.get(epoch=self.epoch)

    def state(self) -> dict[str, Any]:
        with self.valkey.client() as client:
            payload = client.get(streams.feed_state_key(self.epoch.pk))
        state: dict[str, Any] = json.loads(payload) if isinstance(payload, bytes) else {}
        return state

    def close(self) -> None:
        for ingest in self.started:
            if ingest.popen.poll() is None:
                os.kill(ingest.popen.pid, signal.SIGCONT)
            ingest.end(signal.SIGKILL)
        self.exchange.end()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    folder = tmp_path / "valkey"
    folder.mkdir()
    valkey = Valkey(folder)
    valkey.start()
    pair = Pair(tmp_path, valkey, make_epoch())
    yield pair
    pair.close()
    valkey.kill()


def test_after_a_kill_the_standby_has_published_within_ten_seconds_and_nothing_stands_there_twice(pair: Pair) -> None:
    first, second = pair.both()
    old = pair.lease().token
    wait_until(lambda: pair.state().get("standby"), "the holder knows of the standby")
    words = '"words": "standby, waiting for the lease held by first"'
    wait_until(lambda: words in second.get("/health")[1], "it says for whom it waits")
    assert second.get("/health")[0] == 503
    assert second.get("/metrics") == (200, "cdb_ingest_standby 1\n")
    first.end(signal.SIGKILL)
    killed_at = time.monotonic()
    new = wait_until(lambda: (token := pair.lease().token) > old and token, "taken over", 20)
    wait_until(lambda: pair.trades(token=new), "it publishes", 20)
    assert time.monotonic() - killed_at < timeouts.LEASE_TAKEOVER_MAX_SECONDS
    wait_until(second.healthy, "healthy")
    trades = pair.trades()
    assert len(set(trades)) == len(trades)
    starts = [event for event in pair.events() if isinstance(event, CoverageStart)]
    assert {start.token for start in starts} == {old, new}
    assert pair.state()["lease"]["holder"] == "second"
    third = pair.ingest("third")
    wait_until(lambda: "held by second" in third.get("/health")[1], "the next one stands by")
    assert second.end() == 0


def test_a_clean_stop_hands_over_at_once_and_the_last_one_gives_the_lease_back(pair: Pair) -> None:
    first, second = pair.both()
    old = pair.lease().token
    assert first.end() == 0
    wait_until(lambda: pair.lease().token > old, "taken over", timeouts.LEASE_QUICK_TAKEOVER_SECONDS)
    wait_until(lambda: pair.trades(token=pair.lease().token), "it publishes")
    assert second.end() == 0
    assert pair.lease().renewed_at is None


def test_a_holder_that_slept_through_its_lease_leaves_no_trace_even_after_redis_was_emptied(pair: Pair) -> None:
    first, second = pair.both()
    old = pair.lease().token
    first.popen.send_signal(signal.SIGSTOP)
    wait_until(lambda: pair.lease().token > old, "taken over", timeouts.LEASE_TAKEOVER_MAX_SECONDS)
    wait_until(lambda: pair.trades(token=pair.lease().token), "it publishes")
    with pair.valkey.client() as client:
        client.flushall()
    first.popen.send_signal(signal.SIGCONT)
    assert first.popen.wait(timeout=60) == 3
    wait_until(lambda: len(pair.trades()) > 40, "the new one goes on", 60)
    assert pair.tokens() == {pair.lease().token}
    with pair.valkey.client() as client:
        assert client.get(streams.fence_key(pair.epoch.pk)) == str(pair.lease().token).encode()
    assert second.healthy()


def test_when_postgresql_ends_every_session_the_same_one_goes_on(pair: Pair) -> None:
    first, second = pair.both()
    old = pair.lease().token
    for _ in range(3):
        renewed_at = pair.lease().renewed_at
        assert end_sessions() >= 1
        wait_until(lambda before=renewed_at: pair.lease().renewed_at != before, "renewed")  # type: ignore[misc]
    count = len(pair.trades())
    wait_until(lambda: len(pair.trades()) > count + 20, "it goes on")
    assert pair.lease().token == old
    assert pair.tokens() == {old}
    assert second.get("/health")[0] == 503
    assert first.healthy()


def test_while_postgresql_does_not_answer_nobody_writes_and_afterwards_the_same_one_goes_on_without_a_loss(
    pair: Pair,
) -> None:
    parts = urlsplit(database_url())
    with FaultProxy(parts.hostname or "", parts.port or 0) as proxy:
        credentials = parts.netloc.rpartition("@")[0]
        url = urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}"))
        first, _ = pair.both(url)
        old = pair.lease().token
        proxy.drop()
        wait_until(lambda: json.loads(first.get("/health")[1] or "{}").get("lease") == {"ok": False}, "not renewed")
        count = len(pair.trades())
        wait_until(lambda: first.metric("cdb_ingest_ring_trades") > 20, "trades wait")
        assert len(pair.trades()) == count
        proxy.heal()
        wait_until(lambda: len(pair.trades()) > count + 20, "it goes on")
        wait_until(first.healthy, "healthy")
        assert pair.tokens() == {old}
        ordinals: dict[str, int] = {}
        for event in pair.events():
            if isinstance(event, TradeBlock):
                assert event.ordinal == ordinals.get(event.symbol, 0) + 1
                ordinals[event.symbol] = event.ordinal + len(event.trade_id) - 1
