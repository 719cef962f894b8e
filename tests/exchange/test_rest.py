"""The public REST over real sockets: shapes, bounds, errors, and agreement with the trades sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest

from apps.engine.recording import BUY, RecordedTrade
from tests.exchange.helpers import (
    SPECS,
    START_MS,
    SYMBOLS,
    Client,
    book_ticker,
    connected,
    deals,
    eventually,
    exchange,
    random_rows,
    recording_of,
    replay_of,
)
from workers.exchange.limits import Limits
from workers.exchange.market import MarketSource
from workers.exchange.synthetic import SyntheticSource

ROWS = random_rows(350, minutes=90)  # sparse: some minutes have no trade
TRADES = list(recording_of(ROWS).rows())
END_MS = START_MS + 91 * 60_000
MINUTE_MS = 60_000


def _at_the_end(story: Callable[[Client], Awaitable[None]], rows: list[str] | None = None) -> None:
    """Run a story against a replay that has been sent completely."""
    _with(replay_of(rows or ROWS), story, finished=True)


def _with(source: MarketSource, story: Callable[[Client], Awaitable[None]], *, finished: bool = False) -> None:
    async def run() -> None:
        speed = 1_000_000.0 if finished else 1.0
        async with exchange(source, speed=speed) as server, connected(server) as client:
            if finished:
                await client.subscribe(*map(deals, SYMBOLS))
                await eventually(lambda: server.hub.reached_ms >= (source.end_ms or 0))
            await story(client)

    asyncio.run(run())


def _price(trade: RecordedTrade) -> Decimal:
    return Decimal(trade.price_ticks).scaleb(-SPECS[trade.symbol].price_decimals)


def _quantity(trade: RecordedTrade) -> Decimal:
    return Decimal(trade.quantity_steps).scaleb(-SPECS[trade.symbol].quantity_decimals)


def test_ping_time_and_symbols() -> None:
    async def story(client: Client) -> None:
        assert await client.get("/api/v3/ping") == {}
        assert await client.get("/api/v3/time") == {"serverTime": START_MS}
        assert await client.get("/api/v3/defaultSymbols") == {"code": 200, "data": sorted(SYMBOLS), "msg": None}
        assert (await client.get("/api/v1/contract/detail"))["data"] == []

    _with(replay_of(ROWS), story)


def test_status_before_the_start() -> None:
    async def story(client: Client) -> None:
        assert await client.status() == {
            "source": "replay",
            "speed": 1.0,
            "start_ms": START_MS,
            "event_time_ms": START_MS,
            "end_ms": TRADES[-1].time_ms // MINUTE_MS * MINUTE_MS + 120_000,
            "started": False,
            "finished": False,
            "trades_sent": 0,
            "connections": 1,
            "resumed_from_ms": None,
            "rest": {"limit": 300, "weight": 0, "weight_peak": 0, "requests": 0, "refused": 0},
        }

    _with(replay_of(ROWS), story)


def test_status_after_the_end_counts_every_trade() -> None:
    async def story(client: Client) -> None:
        status = await client.status()
        assert status["finished"]
        assert status["trades_sent"] == len(ROWS)

    _at_the_end(story)


def test_exchange_info_has_the_filters_of_all_one_or_several_symbols() -> None:
    async def story(client: Client) -> None:
        everything = await client.get("/api/v3/exchangeInfo")
        assert [row["symbol"] for row in everything["symbols"]] == sorted(SYMBOLS)
        one = (await client.get("/api/v3/exchangeInfo?symbol=ETHUSDT"))["symbols"]
        assert len(one) == 1
        expected = {
            "status": "1",
            "baseAsset": "ETH",
            "quoteAsset": "USDT",
            "baseAssetPrecision": 5,
            "quotePrecision": 2,
            "quoteAssetPrecision": 2,
            "baseSizePrecision": "0",
            "maxQuoteAmount": "4000000",
            "takerCommission": "0.0005",
            "isSpotTradingAllowed": True,
            "permissions": ["SPOT"],
        }
        assert expected.items() <= one[0].items()
        two = await client.get("/api/v3/exchangeInfo?symbols=XRPUSDT,BTCUSDT")
        assert [row["symbol"] for row in two["symbols"]] == ["XRPUSDT", "BTCUSDT"]

    _with(replay_of(ROWS), story)


ERRORS = [
    ("exchangeInfo?symbol=NOPEUSDT", -1121, "Invalid symbol."),
    ("exchangeInfo?symbols=ETHUSDT,NOPEUSDT", -1121, "Invalid symbol."),
    ("trades?symbol=NOPEUSDT", -1121, "Invalid symbol."),
    ("trades", 44444, "Parameter null: symbol"),
    ("trades?symbol=ETHUSDT&limit=x", 33333, "Parameter error: limit"),
    ("trades?symbol=ETHUSDT&limit=0", 33333, "Parameter error: limit"),
    ("trades?symbol=ETHUSDT&limit=-5", 33333, "Parameter error: limit"),
    ("depth?symbol=NOPEUSDT", -1121, "Invalid symbol."),
    ("ticker/24hr?symbol=NOPEUSDT", -1121, "Invalid symbol."),
    ("ticker/price?symbol=NOPEUSDT", -1121, "Invalid symbol."),
    ("ticker/bookTicker?symbol=NOPEUSDT", -1121, "Invalid symbol."),
    ("avgPrice", 44444, "Parameter null: symbol"),
    ("klines?symbol=NOPEUSDT&interval=1m", -1121, "Invalid symbol."),
    ("klines?symbol=ETHUSDT", -1120, "Invalid interval."),
    ("klines?symbol=ETHUSDT&interval=1h", -1120, "Invalid interval."),
    ("klines?symbol=ETHUSDT&interval=1m&startTime=soon", 33333, "Parameter error: startTime"),
    (
        f"aggTrades?symbol=ETHUSDT&startTime={START_MS}&endTime={START_MS + 3_600_001}",
        -1127,
        "More than 1 hours between startTime and endTime.",
    ),
    (f"aggTrades?symbol=ETHUSDT&startTime={START_MS}", -1128, "Combination of optional parameters invalid."),
    (f"aggTrades?symbol=ETHUSDT&endTime={START_MS}", -1128, "Combination of optional parameters invalid."),
    (f"aggTrades?symbol=ETHUSDT&startTime={START_MS}&endTime=5", -1128, "Combination of optional parameters invalid."),
]


def test_what_cannot_be_answered_is_refused_with_its_code() -> None:
    async def story(client: Client) -> None:
        for path, code, message in ERRORS:
            assert await client.get(f"/api/v3/{path}", 400) == {"code": code, "msg": message}, path
        assert (await client.get("/api/v3/nothing", 404))["code"] == 404

    _with(replay_of(ROWS), story)


def test_nothing_that_has_not_happened_is_told() -> None:
    async def story(client: Client) -> None:
        assert await client.get("/api/v3/trades?symbol=ETHUSDT") == []
        assert await client.get(f"/api/v3/klines?symbol=ETHUSDT&interval=1m&endTime={END_MS}") == []
        window = f"startTime={START_MS}&endTime={START_MS + 3_600_000}"
        assert await client.get(f"/api/v3/aggTrades?symbol=ETHUSDT&{window}") == []
        assert (await client.get("/api/v3/depth?symbol=ETHUSDT"))["bids"] == []
        assert (await client.get("/api/v3/ticker/bookTicker?symbol=ETHUSDT"))["bidPrice"] == ""
        assert (await client.get("/api/v3/ticker/24hr?symbol=ETHUSDT"))["volume"] == "0"

    _with(replay_of(ROWS), story)


@pytest.mark.parametrize(("query", "count"), [("", 500), ("&limit=7", 7), ("&limit=5000", 1_000)])
def test_trades_are_the_newest_first_without_ids(query: str, count: int) -> None:
    rows = random_rows(4_000, minutes=90, seed=2)
    expected = [trade for trade in recording_of(rows).rows() if trade.symbol == "ETHUSDT"][::-1][:count]

    async def story(client: Client) -> None:
        answer = await client.get(f"/api/v3/trades?symbol=ETHUSDT{query}")
        assert len(answer) == count
        for row, trade in zip(answer, expected, strict=True):
            assert row["id"] is None
            assert (row["time"], Decimal(row["price"]), Decimal(row["qty"])) == (
                trade.time_ms,
                _price(trade),
                _quantity(trade),
            )
            assert Decimal(row["quoteQty"]) == _price(trade) * _quantity(trade)
            assert row["isBuyerMaker"] == (trade.side != BUY)
            assert row["tradeType"] == ("BID" if trade.side == BUY else "ASK")

    _at_the_end(story, rows)


def _merged(trades: list[RecordedTrade]) -> list[tuple[int, Decimal, Decimal, bool]]:
    """(second in ms, price, summed quantity, buyer is maker) as /aggTrades must show them, newest first."""
    sums: dict[tuple[int, int, Decimal], Decimal] = {}
    for trade in trades:
        key = (trade.time_ms, trade.side, _price(trade))
        sums[key] = sums.get(key, Decimal(0)) + _quantity(trade)
    rows = [(time_ms // 1_000 * 1_000, price, total, side != BUY) for (time_ms, side, price), total in sums.items()]
    return rows[::-1]


def _shown(rows: list[dict[str, Any]]) -> list[tuple[int, Decimal, Decimal, bool]]:
    assert all(row["a"] is row["f"] is row["l"] is None for row in rows)
    return [(row["T"], Decimal(row["p"]), Decimal(row["q"]), row["m"]) for row in rows]


def test_aggregate_trades_have_whole_seconds_and_bounds_cut_to_the_second() -> None:
    start_ms, end_ms = START_MS + 300_400, START_MS + 900_400

    async def story(client: Client) -> None:
        path = f"/api/v3/aggTrades?symbol=XRPUSDT&startTime={start_ms}&endTime={end_ms}&limit=1000"
        wanted = [
            trade
            for trade in TRADES
            if trade.symbol == "XRPUSDT" and start_ms // 1_000 <= trade.time_ms // 1_000 <= end_ms // 1_000
        ]
        assert wanted
        assert _shown(await client.get(path)) == _merged(wanted)
        newest = await client.get("/api/v3/aggTrades?symbol=XRPUSDT&limit=3")
        assert _shown(newest) == _merged([trade for trade in TRADES if trade.symbol == "XRPUSDT"])[:3]

    _at_the_end(story)


def test_trades_of_one_taker_at_one_price_are_merged() -> None:
    rows = [f"ETHUSDT,{START_MS + 5},{number},buy,{price},{number}" for number, price in ((1, 5), (2, 5), (3, 6))]
    rows += [f"ETHUSDT,{START_MS + 5},4,sell,5,4", f"ETHUSDT,{START_MS + 6},5,buy,5,5"]
    rows += [f"BTCUSDT,{START_MS + 9},6,buy,5,5", f"XRPUSDT,{START_MS + 9},6,buy,5,5"]

    async def story(client: Client) -> None:
        window = f"startTime={START_MS}&endTime={START_MS}"
        answer = await client.get(f"/api/v3/aggTrades?symbol=ETHUSDT&{window}")
        assert [(row["q"], row["p"]) for row in answer] == [
            ("5.00000", "5.00"),
            ("4.00000", "5.00"),
            ("3.00000", "6.00"),
            ("3.00000", "5.00"),
        ]

    _at_the_end(story, rows)


def _expected_candles(symbol: str, length_ms: int) -> list[list[Any]]:
    """Candles computed straight from the rows, minutes without trades carried on until the replay's end."""
    trades = [trade for trade in TRADES if trade.symbol == symbol]
    minutes = {minute: list(rows) for minute, rows in groupby(trades, lambda trade: trade.time_ms // length_ms)}
    candles: list[list[Any]] = []
    close = Decimal(0)
    end_ms = TRADES[-1].time_ms // MINUTE_MS * MINUTE_MS + 120_000
    for number in range(min(minutes), end_ms // length_ms + 1):
        prices = [_price(trade) for trade in minutes.get(number, [])] or [close]
        volume = sum((_quantity(trade) for trade in minutes.get(number, [])), Decimal(0))
        turnover = sum((_price(trade) * _quantity(trade) for trade in minutes.get(number, [])), Decimal(0))
        close = prices[-1]
        open_ms = number * length_ms
        candles.append([open_ms, prices[0], max(prices), min(prices), close, volume, open_ms + length_ms, turnover])
    return candles


def _numbers(rows: list[list[Any]]) -> list[list[Any]]:
    return [[row[0], *map(Decimal, row[1:6]), row[6], Decimal(row[7])] for row in rows]


@pytest.mark.parametrize(
    ("interval", "minutes"), [("1m", 1), ("5m", 5), ("15m", 15), ("30m", 30), ("60m", 60), ("4h", 240)]
)
def test_klines_are_exactly_what_the_trades_make(interval: str, minutes: int) -> None:
    async def story(client: Client) -> None:
        expected = _expected_candles("ETHUSDT", minutes * MINUTE_MS)
        assert _numbers(await client.get(f"/api/v3/klines?symbol=ETHUSDT&interval={interval}&limit=1000")) == expected
        newest = await client.get(f"/api/v3/klines?symbol=ETHUSDT&interval={interval}&limit=2")
        assert _numbers(newest) == expected[-2:]

    _at_the_end(story)


def test_klines_from_a_start_are_the_first_and_up_to_an_end_the_last() -> None:
    async def story(client: Client) -> None:
        expected = _expected_candles("ETHUSDT", MINUTE_MS)
        base = "/api/v3/klines?symbol=ETHUSDT&interval=1m"
        start_ms, end_ms = START_MS + 10 * MINUTE_MS, START_MS + 20 * MINUTE_MS
        assert _numbers(await client.get(f"{base}&startTime={start_ms}&limit=3")) == expected[10:13]
        assert _numbers(await client.get(f"{base}&startTime={start_ms + 1}&limit=3")) == expected[11:14]
        assert _numbers(await client.get(f"{base}&endTime={end_ms}&limit=3")) == expected[18:21]
        assert _numbers(await client.get(f"{base}&startTime={start_ms}&endTime={end_ms}")) == expected[10:21]
        assert await client.get(f"{base}&startTime={end_ms + 10**9}") == []

    _at_the_end(story)


@pytest.mark.parametrize("interval", ["1d", "1W", "1M"])
def test_long_klines_hold_the_whole_replay(interval: str) -> None:
    async def story(client: Client) -> None:
        rows = await client.get(f"/api/v3/klines?symbol=ETHUSDT&interval={interval}")
        volume = sum(_quantity(trade) for trade in TRADES if trade.symbol == "ETHUSDT")
        assert sum(Decimal(row[5]) for row in rows) == volume
        assert all(row[0] <= START_MS < row[6] for row in rows[:1])

    _at_the_end(story)


def test_the_open_candle_grows_with_the_trades_sent() -> None:
    async def run() -> None:
        source = replay_of(ROWS)
        async with (
            exchange(source, speed=300, limits=Limits(start_grace_seconds=0)) as server,
            connected(server) as client,
        ):
            await client.subscribe(deals("ETHUSDT"))
            await client.collect_until(lambda c: len(c.frames) > 3)
            reached_ms = server.hub.reached_ms
            rows = await client.get("/api/v3/klines?symbol=ETHUSDT&interval=1m&limit=1")
            assert rows[-1][0] >= reached_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
            newest = await client.get("/api/v3/trades?symbol=ETHUSDT&limit=1")
            assert newest[0]["time"] <= server.hub.reached_ms

    asyncio.run(run())


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_depth_starts_at_the_quote_in_force_and_falls_away_from_it(limit: int) -> None:
    async def story(client: Client) -> None:
        top = await client.get("/api/v3/ticker/bookTicker?symbol=ETHUSDT")
        book = await client.get(f"/api/v3/depth?symbol=ETHUSDT&limit={limit}")
        assert book["bids"][0] == [top["bidPrice"], top["bidQty"]]
        assert book["asks"][0] == [top["askPrice"], top["askQty"]]
        bids, asks = ([Decimal(price) for price, _ in book[side]] for side in ("bids", "asks"))
        assert len(bids) == len(asks) == limit
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert bids[0] < asks[0]
        assert all(Decimal(quantity) > 0 for _, quantity in book["bids"] + book["asks"])
        assert await client.get(f"/api/v3/depth?symbol=ETHUSDT&limit={limit}") == book

    _at_the_end(story)


def test_tickers_agree_with_the_trades() -> None:
    async def story(client: Client) -> None:
        trades = [trade for trade in TRADES if trade.symbol == "BTCUSDT"]
        day = await client.get("/api/v3/ticker/24hr?symbol=BTCUSDT")
        assert Decimal(day["lastPrice"]) == _price(trades[-1])
        assert Decimal(day["openPrice"]) == _price(trades[0])
        assert Decimal(day["highPrice"]) == max(map(_price, trades))
        assert Decimal(day["lowPrice"]) == min(map(_price, trades))
        assert Decimal(day["volume"]) == sum(map(_quantity, trades))
        assert Decimal(day["quoteVolume"]) == sum(_price(trade) * _quantity(trade) for trade in trades)
        assert Decimal(day["priceChange"]) == _price(trades[-1]) - _price(trades[0])
        fraction = (_price(trades[-1]) - _price(trades[0])) / _price(trades[0])
        assert abs(Decimal(day["priceChangePercent"]) - fraction) < Decimal("0.0001")
        assert len(await client.get("/api/v3/ticker/24hr")) == len(SYMBOLS)
        assert await client.get("/api/v3/ticker/price?symbol=BTCUSDT") == {
            "symbol": "BTCUSDT",
            "price": day["lastPrice"],
        }
        assert [row["symbol"] for row in await client.get("/api/v3/ticker/price")] == sorted(SYMBOLS)
        assert [row["symbol"] for row in await client.get("/api/v3/ticker/bookTicker")] == sorted(SYMBOLS)
        assert (await client.get("/api/v3/avgPrice?symbol=BTCUSDT"))["mins"] == 5

    _at_the_end(story)


def test_the_synthetic_market_has_history_before_its_start() -> None:
    async def story(client: Client) -> None:
        rows = await client.get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1000")
        assert len(rows) == 1_000
        assert [row[0] for row in rows] == list(range(START_MS - 1_000 * MINUTE_MS, START_MS, MINUTE_MS))
        assert len(await client.get("/api/v3/trades?symbol=BTCUSDT&limit=1000")) == 1_000
        window = f"startTime={START_MS - 3_600_000}&endTime={START_MS}"
        assert len(await client.get(f"/api/v3/aggTrades?symbol=BTCUSDT&limit=1000&{window}")) == 1_000
        assert Decimal((await client.get("/api/v3/ticker/24hr?symbol=BTCUSDT"))["volume"]) > 0
        await client.subscribe(book_ticker("BTCUSDT"))

    _with(SyntheticSource(seed=1, start_ms=START_MS), story)
