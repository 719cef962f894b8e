"""A hole made by a reset, repaired by the whole ingest from the local exchange's REST, and compared with its klines."""

from __future__ import annotations

import json
import signal
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

from apps.bus.orders import FeedOrders, Repair, RepairOutcome, WantedSymbol, read_outcomes, write_orders
from apps.engine.events import Backfill, CoverageStart
from tests.faultproxy import FaultProxy
from tests.ingest.processes import EPOCH, Exchange, Ingest, Valkey, configuration, wait_until
from tests.ingest.test_worker import DECIMALS, MINUTES, START_MS, Road, make_rows, write_recording

FIRST = START_MS // 60_000
WANTED = [WantedSymbol(symbol, *decimals) for symbol, decimals in DECIMALS.items()]


def klines(exchange: Exchange, symbol: str) -> dict[int, tuple[Decimal, ...]]:
    """Open, high, low, close, volume, turnover by minute, as the exchange tells them."""
    address = f"{exchange.rest_url}/api/v3/klines?symbol={symbol}&interval=1m&limit=1000"
    with urllib.request.urlopen(address, timeout=10) as answer:
        rows = json.load(answer)
    return {row[0] // 60_000: tuple(map(Decimal, (*row[1:6], row[7]))) for row in rows}


def sums(event: Backfill) -> tuple[Decimal, ...]:
    ticks, steps = DECIMALS[event.symbol]
    price = [Decimal(value).scaleb(-ticks) for value in event.price]
    quantity = [Decimal(value).scaleb(-steps) for value in event.quantity]
    turnover = sum((p * q for p, q in zip(price, quantity, strict=True)), Decimal(0))
    return price[0], max(price), min(price), price[-1], sum(quantity, Decimal(0)), turnover


def test_a_hole_is_filled_with_what_the_klines_say(tmp_path: Path, valkey: Valkey) -> None:
    rows = make_rows()
    exchange = Exchange([write_recording(rows, tmp_path / "recording.csv")], 120.0, tmp_path)
    road = Road(tmp_path, valkey, exchange, rows)
    repairs = [Repair(symbol, FIRST + ahead, 1) for symbol in DECIMALS for ahead in range(MINUTES)]
    with FaultProxy("127.0.0.1", exchange.port) as proxy, valkey.client() as client:
        ws_url = f"ws://127.0.0.1:{proxy.port}/ws"
        ingest = Ingest(configuration(ws_url, exchange.rest_url, valkey.url, clock_rate=10.0), tmp_path)
        try:
            road.until(0.3)
            proxy.drop(discard=True)
            cut_at = event_minute(exchange)
            wait_until(lambda: event_minute(exchange) >= cut_at + 3, "two whole minutes pass by", 60)
            proxy.heal()  # by a reset, because bytes were lost
            wait_until(lambda: len(starts(road)) >= 4, "covered again in both shards", 60)
            write_orders(client, EPOCH, FeedOrders(0, WANTED, repairs))
            wait_until(lambda: len(outcomes(client)) == len(repairs), "every minute is answered", 90)
            assert {outcome.status for outcome in outcomes(client)} == {"filled"}
            events = [event for shard in road.events() for event in shard if isinstance(event, Backfill)]
            told = {symbol: klines(exchange, symbol) for symbol in DECIMALS}
            assert sorted((event.symbol, event.minute) for event in events) == sorted(
                (repair.symbol, repair.minute) for repair in repairs
            )
            for event in events:
                assert sums(event) == told[event.symbol][event.minute]
            with_hole = road.count()
            assert with_hole < len(rows)
            assert sum(len(event.ts_event) for event in events) == len(rows)  # nothing was merged in this recording
            state = wait_until(lambda: (s := road.state())["repairs"]["waiting"] == 0 and s, "the feed state says so")
            assert state["repairs"]["filled"] == len(repairs)
            assert state["budget"]["taken"] > 0
            assert ingest.end() == 0
        finally:
            ingest.end(signal.SIGKILL)
            exchange.end()


def event_minute(exchange: Exchange) -> int:
    with urllib.request.urlopen(f"{exchange.rest_url}/exchange/status", timeout=10) as answer:
        return int(json.load(answer)["event_time_ms"]) // 60_000


def starts(road: Road) -> list[Any]:
    return [event for shard in road.events() for event in shard if isinstance(event, CoverageStart)]


def outcomes(client: Any) -> list[RepairOutcome]:
    return list(read_outcomes(client, EPOCH).values())
