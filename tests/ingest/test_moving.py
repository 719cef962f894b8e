"""The whole worker while its connections are replaced and its symbols change, at a real exchange and a real Valkey."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from apps.bus import codec, streams
from apps.bus.orders import Doubt, FeedOrders, Repair, WantedSymbol, write_orders
from apps.engine.events import CoverageEnd, CoverageStart, Loss, TradeBlock
from tests.ingest.processes import EPOCH, Exchange, Ingest, Valkey, configuration, published_trades, wait_until
from tests.ingest.test_worker import MINUTES, START_MS, Road, check_watermarks, make_rows, write_recording
from workers.ingest.status import Category, State

pytestmark = pytest.mark.alone

SLOW: Final = 150.0  # so that a recording of twenty minutes lasts eight seconds


def transitions(client: redis.Redis) -> list[dict[str, Any]]:
    rows: Any = client.xrange(streams.transitions_key(EPOCH))
    return [json.loads(fields[streams.FIELD]) for _, fields in rows]


def categories(client: redis.Redis) -> Counter[str]:
    return Counter(each["category"] for each in transitions(client))


@pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
def test_connections_are_replaced_many_times_with_nothing_lost_or_doubled(
    tmp_path: Path, valkey: Valkey, ids: bool
) -> None:
    rows = make_rows()
    options = [] if ids else ["--no-trade-ids"]
    exchange = Exchange([write_recording(rows, tmp_path / "recording.csv")], SLOW, tmp_path, options=options)
    config = configuration(exchange.ws_url, exchange.rest_url, valkey.url, clock_rate=10.0, rotation_seconds=15.0)
    road = Road(tmp_path, valkey, exchange, rows)
    ingest = Ingest(config, tmp_path)
    try:
        wait_until(lambda: road.count() >= len(rows), "everything is published", 60)
        end_ms = START_MS + MINUTES * 60_000
        wait_until(lambda: (road.state().get("event_time_ms") or 0) >= end_ms, "the end is reached")
        with valkey.client() as client:
            expected = sorted((symbol, at, name if ids else "", *rest) for symbol, at, name, *rest in rows)
            assert published_trades(client) == expected
            made = transitions(client)
        assert ingest.metric("cdb_ingest_rotations_total") >= 3
        for events in road.events():
            assert sum(isinstance(event, CoverageStart) for event in events) == 1
            assert not [event for event in events if isinstance(event, Loss)]
            check_watermarks(events)
        assert road.state()["connections"][0]["rotations"] >= 3
    finally:
        ingest.end()
        exchange.end()
    moved = [each for each in made if each["category"] == Category.ROTATED]
    assert {(each["from"], each["to"], each["closed_by"]) for each in moved} == {("ROTATING", "STREAMING", "us")}
    assert all(each["age_ms"] > 10_000 and each["bytes_in"] > 0 and each["subscriptions"] == 4 for each in moved)
    assert {each["category"] for each in made} <= {
        Category.STARTED,
        Category.CONNECTED,
        Category.SUBSCRIBED,
        Category.ROTATING,
        Category.ROTATED,
        Category.ROTATION_GIVEN_UP,
    }


class Market:
    """A running synthetic exchange and an ingest that follows orders."""

    def __init__(self, folder: Path, valkey: Valkey) -> None:
        self.exchange = Exchange([], 1.0, folder)
        self.valkey = valkey
        config = configuration(
            self.exchange.ws_url,
            self.exchange.rest_url,
            valkey.url,
            symbols=[self.instrument("BTCUSDT"), self.instrument("ETHUSDT")],
            warmup_bars=0,
            shard_count=1,
        )
        self.ingest = Ingest(config, folder)

    @staticmethod
    def instrument(symbol: str) -> dict[str, Any]:
        return {"symbol": symbol, "price_decimals": 6, "quantity_decimals": 6}

    def order(self, *symbols: str, doubts: tuple[Doubt, ...] = (), repairs: tuple[Repair, ...] = ()) -> None:
        wanted = [WantedSymbol(symbol, 6, 6) for symbol in symbols]
        with self.valkey.client() as client:
            write_orders(client, EPOCH, FeedOrders(1, wanted, list(repairs), list(doubts)))

    def events(self, kind: type[Any]) -> list[Any]:
        with self.valkey.client() as client:
            found: list[Any] = []
            for _, payload in streams.scan(client, EPOCH, 0, start="0-1"):
                assert payload is not None
                found += codec.decode(payload)
            return [event for event in found if isinstance(event, kind)]

    def covered(self) -> list[str]:
        return [symbol for start in self.events(CoverageStart) for symbol in start.symbols]

    def state(self) -> dict[str, Any]:
        with self.valkey.client() as client:
            payload = client.get(streams.feed_state_key(EPOCH))
        state: dict[str, Any] = json.loads(payload) if isinstance(payload, bytes) else {}
        return state

    def subscriptions(self) -> int:
        return sum(each["subscriptions"] for each in self.state().get("connections", []))

    def symbols(self) -> set[str]:
        return {symbol for each in self.state().get("connections", []) for symbol in each["symbols"]}


@pytest.fixture
def market(tmp_path: Path, valkey: Valkey) -> Iterator[Market]:
    market = Market(tmp_path, valkey)
    yield market
    market.ingest.end()
    market.exchange.end()


def test_symbols_come_and_go_while_the_others_keep_their_connection(market: Market) -> None:
    wait_until(market.ingest.healthy, "healthy")
    wait_until(lambda: {"BTCUSDT", "ETHUSDT"} <= set(market.covered()), "covered by the configuration")
    market.order("BTCUSDT", "SOLUSDT", "NOPEUSDT", "lowercase")
    wait_until(lambda: "SOLUSDT" in market.covered(), "the new one is covered")
    wait_until(lambda: len(market.events(CoverageEnd)) == 2, "two ends")
    ends = {end.symbols[0]: end.reason for end in market.events(CoverageEnd)}
    assert ends == {"ETHUSDT": "not wanted", "NOPEUSDT": "refused: Blocked!"}
    wait_until(lambda: market.subscriptions() == 4, "the feed state follows")  # it is told now and then
    assert market.symbols() == {"BTCUSDT", "SOLUSDT", "NOPEUSDT"}
    (connection,) = market.state()["connections"]
    assert (connection["state"], connection["reconnects"]) == (State.STREAMING, 0)
    assert sorted(name.rpartition("@")[2] for name in connection["refused"]) == ["NOPEUSDT"] * 2
    assert market.ingest.metric('cdb_ingest_dropped_total{reason="bad_symbol"}') == 1
    count = len([block for block in market.events(TradeBlock) if block.symbol == "SOLUSDT"])
    wait_until(lambda: len([b for b in market.events(TradeBlock) if b.symbol == "SOLUSDT"]) > count, "it trades")
    market.order("ETHUSDT", "BTCUSDT", "SOLUSDT")
    wait_until(lambda: market.covered().count("ETHUSDT") == 2, "it is covered again")
    assert market.covered().count("BTCUSDT") == 1
    with market.valkey.client() as client:
        assert categories(client) == Counter(started=1, connected=1, subscribed=1)


def test_a_connection_without_symbols_ends_and_new_symbols_get_a_new_one(market: Market) -> None:
    wait_until(market.ingest.healthy, "healthy")
    market.order()
    wait_until(lambda: market.state()["connections"] == [], "no connection")
    wait_until(lambda: market.ingest.get("/health")[0] == 503, "not healthy without symbols")
    with market.valkey.client() as client:
        wait_until(lambda: categories(client)["emptied"] == 1, "it says why it ended")
    market.order("SOLUSDT")
    wait_until(market.ingest.healthy, "healthy again")
    assert market.symbols() == {"SOLUSDT"}


def test_doubts_become_losses_of_whole_minutes_and_each_is_declared_once(market: Market) -> None:
    wait_until(market.ingest.healthy, "healthy")
    doubt = Doubt("BTCUSDT", 28_000_000, "volume 5 here, 6 in klines")
    for _ in range(2):
        market.order("BTCUSDT", "ETHUSDT", doubts=(doubt,))
        wait_until(lambda: market.events(Loss), "declared")
    market.order("BTCUSDT", "ETHUSDT", doubts=(doubt, Doubt("NOPEUSDT", 28_000_001, "why")))
    wait_until(lambda: len(market.events(Loss)) == 2, "the second")
    first, second = market.events(Loss)
    assert (first.symbols, first.from_ms, first.to_ms) == (["BTCUSDT"], 28_000_000 * 60_000, 28_000_001 * 60_000 - 1)
    assert (first.reason, second.symbols) == (doubt.reason, ["NOPEUSDT"])


def test_orders_that_cannot_be_read_are_counted_and_change_nothing(market: Market) -> None:
    wait_until(market.ingest.healthy, "healthy")
    with market.valkey.client() as client:
        client.set(streams.feed_orders_key(EPOCH), b"{")
    wait_until(lambda: market.ingest.metric('cdb_ingest_dropped_total{reason="bad_orders"}') > 0, "counted")
    assert market.symbols() == {"BTCUSDT", "ETHUSDT"}
    assert market.ingest.healthy()
