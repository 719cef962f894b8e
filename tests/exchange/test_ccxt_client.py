"""An independent client library, pointed at the local exchange, loads markets and watches trades."""

from __future__ import annotations

import asyncio
from typing import Any

import ccxt.pro

from tests.exchange.helpers import START_MS, connected, exchange
from workers.exchange.server import ExchangeServer
from workers.exchange.synthetic import SyntheticSource


def _client(server: ExchangeServer) -> Any:
    address = f"127.0.0.1:{server.port}"
    client = ccxt.pro.mexc({"enableRateLimit": False})
    client.urls["api"] = {
        "spot": {"public": f"http://{address}", "private": f"http://{address}"},
        "contract": {"public": f"http://{address}/api/v1/contract", "private": f"http://{address}/api/v1/private"},
        "ws": {"spot": f"ws://{address}/ws", "swap": f"ws://{address}/ws"},
    }
    return client


def test_it_loads_markets_and_watches_trades() -> None:
    async def run() -> None:
        source = SyntheticSource(seed=1, start_ms=START_MS)
        async with exchange(source) as server, connected(server) as own:
            client = _client(server)
            try:
                markets = await client.load_markets()
                assert {market["id"] for market in markets.values()} == set(source.instruments)
                market = client.market("BTC/USDT")
                assert (market["precision"]["price"], market["precision"]["amount"]) == (0.01, 0.000001)
                assert market["active"]
                async with asyncio.timeout(20):
                    trades = await client.watch_trades("BTC/USDT")
                assert trades
                known = {row.time_ms for row in source.trades("BTCUSDT", START_MS, START_MS + 60_000).prints()}
                assert {trade["timestamp"] for trade in trades} <= known
                assert (await own.status())["connections"] == 2
            finally:
                await client.close()

    asyncio.run(run())


def test_it_reads_the_rest_answers() -> None:
    async def run() -> None:
        source = SyntheticSource(seed=1, start_ms=START_MS)
        async with exchange(source) as server:
            client = _client(server)
            try:
                assert await client.fetch_time() == START_MS
                candles = await client.fetch_ohlcv("ETH/USDT", "1m", limit=100)
                assert len(candles) == 100
                ticker = await client.fetch_ticker("ETH/USDT")
                assert ticker["bid"] < ticker["ask"]
                book = await client.fetch_order_book("ETH/USDT", limit=20)
                assert len(book["bids"]) == len(book["asks"]) == 20
                trades = await client.fetch_trades("ETH/USDT", limit=50)
                assert len(trades) == 50
                assert trades[0]["timestamp"] <= trades[-1]["timestamp"] <= START_MS
            finally:
                await client.close()

    asyncio.run(run())
