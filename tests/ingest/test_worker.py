"""The whole worker as a process, between the real local exchange and a real Valkey."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from apps.bus import streams
from apps.engine.events import BUY, SELL, CoverageStart, Loss, TradeBlock, WarmupBar, Watermark
from tests.ingest.market import deals_frame, quote_frame
from tests.ingest.processes import (
    EPOCH,
    Exchange,
    Ingest,
    Valkey,
    configuration,
    published_trades,
    stream_events,
    wait_until,
)
from tests.ingest.scripted import Visit, scripted
from workers.ingest.__main__ import ends
from workers.ingest.clock import Clock
from workers.ingest.config import parse
from workers.ingest.web import StatusServer
from workers.ingest.worker import Worker

START_MS: Final = 1_700_000_040_000
DECIMALS: Final = {"BTCUSDT": (2, 6), "XRPUSDT": (4, 2)}
SPEED: Final = 300.0
SLOW: Final = 80.0
MINUTES: Final = 20
ROWS: Final = 4_000

Row = tuple[str, int, str, int, int, int]  # symbol, time, trade id, side, ticks, steps


def make_rows(seed: int = 1) -> list[Row]:
    dice = random.Random(seed)
    times = sorted(START_MS + dice.randrange(MINUTES * 60_000) for _ in range(ROWS))
    rows = []
    for number, time_ms in enumerate(times):
        symbol = dice.choice(sorted(DECIMALS))
        ticks = 9_000_000 + dice.randrange(-5_000, 5_000) if symbol == "BTCUSDT" else 2_400 + dice.randrange(-20, 20)
        rows.append((symbol, time_ms, str(100_000 + number), dice.choice((BUY, SELL)), ticks, dice.randrange(1, 10**6)))
    return rows


def write_recording(rows: list[Row], file: Path) -> Path:
    lines = ["symbol,time_ms,trade_id,aggressor_side,price,quantity"]
    for symbol, time_ms, trade_id, side, ticks, steps in rows:
        price, quantity = (Decimal(v).scaleb(-d) for v, d in zip((ticks, steps), DECIMALS[symbol], strict=True))
        lines.append(f"{symbol},{time_ms},{trade_id},{'buy' if side == BUY else 'sell'},{price:f},{quantity:f}")
    file.write_text("\n".join(lines) + "\n")
    return file


@dataclass
class Road:
    """An exchange, a Valkey and what runs between them."""

    folder: Path
    valkey: Valkey
    exchange: Exchange
    rows: list[Row]

    def ingest(self, **changes: Any) -> Ingest:
        config = configuration(self.exchange.ws_url, self.exchange.rest_url, self.valkey.url, **changes)
        ingest = Ingest(config, self.folder)
        self.started.append(ingest)
        return ingest

    def __post_init__(self) -> None:
        self.started: list[Ingest] = []

    def count(self) -> int:
        with self.valkey.client() as client:
            return len(published_trades(client))

    def until(self, share: float) -> None:
        """Wait until this share of the recording has been published."""
        wait_until(lambda: self.count() >= share * len(self.rows), f"{share:.0%} published", 40)

    def state(self) -> dict[str, Any]:
        with self.valkey.client() as client:
            payload = client.get(streams.feed_state_key(EPOCH))
        state: dict[str, Any] = json.loads(payload) if isinstance(payload, bytes) else {}
        return state

    def events(self) -> list[list[Any]]:
        with self.valkey.client() as client:
            return stream_events(client)


@pytest.fixture
def road(tmp_path: Path, valkey: Valkey, request: pytest.FixtureRequest) -> Iterator[Road]:
    """At the speed that is asked for indirectly; what starts a process on the way needs a slower one."""
    rows = make_rows()
    speed = getattr(request, "param", SPEED)
    exchange = Exchange([write_recording(rows, tmp_path / "recording.csv")], speed, tmp_path)
    road = Road(tmp_path, valkey, exchange, rows)
    yield road
    for ingest in road.started:
        ingest.end(signal.SIGKILL)
    road.exchange.end()


def gaps_in_ordinals(events: list[Any], token: int) -> int:
    """How many ordinals of this token are absent from a shard."""
    seen: dict[str, int] = {}
    gaps = 0
    for event in events:
        if isinstance(event, TradeBlock) and event.token == token:
            gaps += event.ordinal - seen.get(event.symbol, 0) - 1
            seen[event.symbol] = event.ordinal + len(event.ts_event) - 1
    return gaps


def test_the_stream_holds_the_recording_exactly_once_with_coverage_before_and_watermarks_after(road: Road) -> None:
    ingest = road.ingest()
    wait_until(ingest.healthy, "healthy")
    road.until(1.0)
    end_ms = START_MS + MINUTES * 60_000
    wait_until(lambda: min(last_watermark(events) for events in road.events()) >= end_ms, "the last minute is closed")
    with road.valkey.client() as client:
        assert published_trades(client) == sorted(road.rows)
    for events in road.events():
        assert isinstance(events[0], CoverageStart)
        assert events[0].reason == "ingest start"
        assert gaps_in_ordinals(events, 1) == 0
        assert not any(isinstance(event, Loss) for event in events)
        check_watermarks(events)
    wait_until(lambda: road.state()["counts"]["published"] == ROWS, "the feed state says so")
    state = road.state()
    assert state["counts"] == {"received": ROWS, "decoded": ROWS, "published": ROWS}
    assert (state["dropped"], state["ring"]["trades"], state["token"]) == ({}, 0, 1)
    assert [connection["state"] for connection in state["connections"]] == ["STREAMING"]
    check_metrics(ingest)
    assert ingest.end() == 0


def last_watermark(events: list[Any]) -> int:
    return max((event.ts_event for event in events if isinstance(event, Watermark)), default=0)


def check_watermarks(events: list[Any]) -> None:
    """No trade at or before a watermark stands behind it; ordinals name the last trade before it."""
    claimed: dict[str, int] = {}
    ordinals: dict[str, int] = {}
    for event in events:
        if isinstance(event, TradeBlock):
            assert min(event.ts_event) > claimed.get(event.symbol, 0)
            ordinals[event.symbol] = event.ordinal + len(event.ts_event) - 1
        elif isinstance(event, Watermark):
            for symbol, ordinal in event.ordinals.items():
                assert ordinal == ordinals.get(symbol, 0)
                claimed[symbol] = event.ts_event
    assert claimed


def check_metrics(ingest: Ingest) -> None:
    assert ingest.metric('cdb_ingest_trades_total{stage="published"}') == ROWS
    assert ingest.metric('cdb_ingest_transitions_total{category="subscribed",state="STREAMING"}') == 1
    assert ingest.metric('cdb_ingest_connection_state{connection="feed-0",state="STREAMING"}') == 1
    # Watermarks go on: the two are read one after the other, with entries between.
    counted = ("cdb_ingest_publish_latency_seconds_count", "cdb_ingest_entries_total")
    wait_until(lambda: len({ingest.metric(name) for name in counted}) == 1, "every entry's latency is counted")
    assert ingest.metric("cdb_ingest_entries_total") > 0
    assert ingest.metric('cdb_ingest_doorbell_total{outcome="rung"}') >= 1
    assert ingest.metric('cdb_ingest_frames_total{kind="deals"}') > 0
    assert ingest.metric("cdb_ingest_healthy") == 1


def test_redis_killed_and_started_again_loses_and_doubles_nothing(road: Road) -> None:
    ingest = road.ingest()
    road.until(0.2)
    road.valkey.kill()
    wait_until(lambda: ingest.get("/health")[0] == 503, "not healthy")
    wait_until(lambda: ingest.metric("cdb_ingest_ring_trades") > 300, "the ring fills")
    road.valkey.start()
    wait_until(ingest.healthy, "healthy again")
    road.until(1.0)
    with road.valkey.client() as client:
        assert published_trades(client) == sorted(road.rows)
    assert all(gaps_in_ordinals(events, 1) == 0 for events in road.events())
    assert ingest.metric("cdb_ingest_redis_errors_total") > 0
    assert ingest.end() == 0


@pytest.mark.parametrize("road", [SLOW], indirect=True)
def test_an_ingest_killed_and_started_anew_publishes_no_trade_twice(road: Road) -> None:
    first = road.ingest()
    road.until(0.2)
    first.end(signal.SIGKILL)
    with road.valkey.client() as client:
        known = {str(shard): streams.last_id(client, EPOCH, shard) for shard in range(2)}
    second = road.ingest(token=2, first_entry_ids=known)
    last_id = road.rows[-1][2]
    wait_until(
        lambda: any(last_id in e.trade_id for s in road.events() for e in s if isinstance(e, TradeBlock)), "end", 60
    )
    with road.valkey.client() as client:
        published = published_trades(client)
    assert len(set(published)) == len(published)
    assert set(published) <= set(road.rows)
    for events in road.events():
        (start,) = [event for event in events if isinstance(event, CoverageStart) and event.token == 2]
        after = events[events.index(start) :]
        assert all(event.token == 2 for event in after if isinstance(event, TradeBlock))
        missing = {row for row in road.rows if row not in set(published)}
        assert all(row[1] <= start.since_ms for row in missing)
    assert second.end() == 0


def test_an_exchange_that_comes_back_is_covered_anew_and_repeated_trades_are_dropped(road: Road) -> None:
    ingest = road.ingest()
    road.until(0.1)
    road.exchange.end(signal.SIGKILL)
    wait_until(lambda: ingest.get("/health")[0] == 503, "not healthy")
    road.exchange = Exchange([road.folder / "recording.csv"], SPEED, road.folder, port=road.exchange.port)
    road.until(1.0)
    with road.valkey.client() as client:
        assert published_trades(client) == sorted(road.rows)
    starts = [event for event in road.events()[0] if isinstance(event, CoverageStart)]
    assert [start.reason.split(":")[0] for start in starts] == ["ingest start", "reconnect"]
    assert ingest.metric('cdb_ingest_dropped_total{reason="duplicate"}') > 0
    assert ingest.end() == 0


def test_a_symbol_the_exchange_does_not_offer_shows_as_refused_while_the_others_flow(road: Road) -> None:
    symbols = [
        {"symbol": symbol, "price_decimals": DECIMALS.get(symbol, (2, 2))[0], "quantity_decimals": 6}
        for symbol in ("BTCUSDT", "NOPEUSDT")
    ]
    ingest = road.ingest(symbols=symbols)
    wait_until(lambda: road.count() > 50, "trades flow")
    (connection,) = road.state()["connections"]
    assert connection["state"] == "STREAMING"
    assert sorted(name.rpartition("@")[2] for name in connection["refused"]) == ["NOPEUSDT"] * 2
    assert set(connection["refused"].values()) == {"Blocked!"}
    covered = [e.symbols for s in road.events() for e in s if isinstance(e, CoverageStart)]
    assert covered == [["BTCUSDT"]]
    assert ingest.healthy()


def test_when_nothing_is_offered_it_is_blocked_visible_and_not_healthy(road: Road) -> None:
    ingest = road.ingest(symbols=[{"symbol": "NOPEUSDT", "price_decimals": 2, "quantity_decimals": 2}])
    wait_until(lambda: road.state() and road.state()["connections"][0]["state"] == "BLOCKED", "blocked")
    status, body = ingest.get("/health")
    assert status == 503
    assert json.loads(body)["connections"]["feed-0"]["state"] == "BLOCKED"
    assert ingest.metric('cdb_ingest_transitions_total{category="started",state="CONNECTING"}') == 1


def test_a_second_token_fences_the_first(road: Road) -> None:
    first = road.ingest()
    road.until(0.05)
    second = road.ingest(token=2)
    assert first.popen.wait(timeout=15) == 3
    road.until(0.5)
    tokens = [event.token for event in road.events()[0] if isinstance(event, TradeBlock)]
    assert tokens == sorted(tokens)
    assert second.end() == 0


def test_an_ingest_with_nothing_to_publish_notices_a_newer_token_too(road: Road) -> None:
    ingest = road.ingest(symbols=[{"symbol": "NOPEUSDT", "price_decimals": 2, "quantity_decimals": 2}])
    wait_until(road.state, "it reports")
    with road.valkey.client() as client:
        client.set(streams.fence_key(EPOCH), 2)
    assert ingest.popen.wait(timeout=5) == 3


def test_an_ingest_with_nothing_to_publish_keeps_older_tokens_out_also_after_redis_was_emptied(road: Road) -> None:
    ingest = road.ingest(token=7, symbols=[{"symbol": "NOPEUSDT", "price_decimals": 2, "quantity_decimals": 2}])
    wait_until(road.state, "it reports")
    with road.valkey.client() as client:
        for _ in range(2):
            wait_until(lambda: client.get(streams.fence_key(EPOCH)) == b"7", "the fence stands")
            client.flushall()
    assert ingest.end() == 0


def test_warm_up_bars_come_first_and_end_before_the_minute_of_the_coverage(tmp_path: Path, valkey: Valkey) -> None:
    exchange = Exchange([], 1.0, tmp_path)
    symbols = [{"symbol": symbol, "price_decimals": 2, "quantity_decimals": 6} for symbol in ("BTCUSDT", "ETHUSDT")]
    config = configuration(exchange.ws_url, exchange.rest_url, valkey.url, symbols=symbols, shard_count=1)
    ingest = Ingest(config, tmp_path)
    try:
        wait_until(ingest.healthy, "healthy")
        with valkey.client() as client:
            wait_until(lambda: published_trades(client, 1), "trades")
            events: list[Any] = list(stream_events(client, 1)[0])
    finally:
        ingest.end()
        exchange.end()
    kinds = [type(event) for event in events]
    assert kinds[:121] == [WarmupBar] * 120 + [CoverageStart]
    first_minute = events[120].since_ms // 60_000
    for symbol in ("BTCUSDT", "ETHUSDT"):
        minutes = [event.minute for event in events[:120] if event.symbol == symbol]
        assert minutes == list(range(first_minute - 60, first_minute))


def test_an_error_of_our_own_in_any_thread_ends_the_process_with_code_1(tmp_path: Path) -> None:
    config = parse(json.dumps(configuration("ws://x/ws", "http://x", "redis://127.0.0.1:9/0")).encode(), "file")
    server = StatusServer("127.0.0.1", 0)
    worker = Worker(config, server, Clock(), random.Random(1))
    try:
        ends(worker)(threading.ExceptHookArgs((ValueError, ValueError("planted"), None, threading.current_thread())))
        assert worker.run() == 1
    finally:
        server.server_close()


def test_it_waits_for_redis_at_the_start_and_ends_cleanly_while_waiting(road: Road) -> None:
    road.valkey.kill()
    waiting = road.ingest()
    wait_until(lambda: waiting.get("/health")[0] == 503, "starting")
    assert waiting.end() == 0
    ingest = road.ingest()
    wait_until(lambda: "redis_error" in ingest.log, "it has tried")
    road.valkey.start()
    wait_until(ingest.healthy, "healthy")


def test_bad_frames_are_counted_logged_within_bounds_and_stop_nothing(tmp_path: Path, valkey: Valkey) -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        now_ms = int(time.time() * 1000)
        send: Callable[[bytes], None] = visit.connection.send
        send(quote_frame("BTCUSDT", "1.00", "2.00", now_ms))
        for number in range(300):
            send(b"\xff\xff\xff")
            send(deals_frame("DOGEUSDT", [("1", "1", 1, now_ms, str(number))], now_ms))
            bad = [(text, "1", 1, now_ms, f"x{number}") for text in ("0", "-1", "abc", "1e5", "")]
            send(deals_frame("BTCUSDT", [*bad, ("1.50", "1", 1, now_ms, f"good{number}")], now_ms + number))
        visit.serve_pings()

    with scripted(script) as server:
        config = configuration(server.url, "http://127.0.0.1:9", valkey.url, warmup_bars=0)
        ingest = Ingest(config, tmp_path)
        try:
            with valkey.client() as client:
                wait_until(lambda: len(published_trades(client)) == 300, "the good ones")
                losses = [e for s in stream_events(client) for e in s if isinstance(e, Loss)]
            assert {loss.reason for loss in losses} == {"bad trade", "malformed_frame"}
            dropped = 'cdb_ingest_dropped_total{reason="%s"}'
            assert ingest.metric(dropped % "malformed_frame") == 300
            assert ingest.metric(dropped % "unknown_symbol") == 300
            assert ingest.metric(dropped % "not_decimal") == 1_200
            assert ingest.metric(dropped % "not_positive") == 300
            assert ingest.log.count("dropped") < 20
            assert ingest.end() == 0
        finally:
            ingest.end(signal.SIGKILL)
