"""Hundreds of made-up symbols: deterministic, readable at any time, as busy as asked for, behind every endpoint."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest

from tests.exchange.helpers import START_MS, Client, book_ticker, connected, deals, exchange
from workers.exchange.instruments import SYMBOLS_MAX, MarketShape, instrument, symbols_of
from workers.exchange.limits import Limits
from workers.exchange.market import Print, UnknownSymbolError
from workers.exchange.synthetic import SyntheticSource

MINUTE_MS = 60_000
SECONDS = 60
SHAPE = MarketShape(300, trades_per_second=200, quotes_per_second=1_000)
SOURCE = SyntheticSource(1, START_MS, shape=SHAPE)
SOME = ["BTCUSDT", "PEPEUSDT", "C0011USDT", "C0123USDT", "C0300USDT"]


def test_the_feed_makes_what_history_tells_in_any_steps() -> None:
    feed = SOURCE.feed()
    prints: dict[str, list[Print]] = {symbol: [] for symbol in SOME}
    for until_ms in [*range(START_MS, START_MS + 20_000, 100), START_MS + 700_000, START_MS + 1_500_000]:
        moves = feed.advance(until_ms)
        for symbol in SOME:
            prints[symbol] += moves[symbol].prints if symbol in moves else []
            timed = feed.quote(symbol)
            assert timed is not None
            assert timed.quote == SOURCE.quote_at(symbol, until_ms)
    for symbol in SOME:
        assert prints[symbol] == SOURCE.trades(symbol, START_MS, START_MS + 1_500_000).prints()
        assert len(prints[symbol]) > 100


@pytest.mark.parametrize("symbol", SOME)
def test_trades_do_not_depend_on_the_window_and_candles_are_made_of_them(symbol: str) -> None:
    other = SyntheticSource(1, START_MS + 77_777, shape=SHAPE)
    whole = SOURCE.trades(symbol, START_MS, START_MS + 30 * MINUTE_MS - 1).prints()
    cuts = [START_MS - 1, START_MS + 1, START_MS + 599_999, START_MS + 900_000, START_MS + 30 * MINUTE_MS - 1]
    parts = [other.trades(symbol, first + 1, last).prints() for first, last in itertools.pairwise(cuts)]
    assert list(itertools.chain.from_iterable(parts)) == whole
    assert other.last_trades(symbol, START_MS + 30 * MINUTE_MS - 1, 50).prints() == whole[-50:]
    candles = SOURCE.closed_minutes(symbol, START_MS, START_MS + 30 * MINUTE_MS)
    assert sum(candle.trade_count for candle in candles) == len(whole)
    assert sum(candle.volume for candle in candles) == sum(row.quantity_steps for row in whole)
    assert [row.trade_id for row in whole] == sorted({row.trade_id for row in whole})


@pytest.mark.parametrize(("trades", "quotes"), [(200, 1_000)])
def test_all_together_are_as_busy_as_asked_for(trades: float, quotes: float) -> None:
    feed = SyntheticSource(2, START_MS, shape=MarketShape(300, trades, quotes)).feed()
    trade_count = quote_count = 0
    for until_ms in range(START_MS, START_MS + SECONDS * 1_000, 100):
        moves = feed.advance(until_ms).values()
        trade_count += sum(len(move.prints) for move in moves)
        quote_count += sum(len(move.quotes) for move in moves)
    assert 0.7 * trades < trade_count / SECONDS < 1.4 * trades
    assert 0.9 * quotes < quote_count / SECONDS <= 1.01 * quotes


def test_without_a_shape_the_ten_symbols_keep_their_habits() -> None:
    assert list(SyntheticSource(1, START_MS).instruments) == symbols_of(MarketShape())
    assert len(symbols_of(MarketShape())) == 10


def test_thousands_of_symbols_have_names_and_plausible_instruments() -> None:
    symbols = symbols_of(MarketShape(SYMBOLS_MAX))
    assert len(set(symbols)) == SYMBOLS_MAX
    for symbol in symbols[::97]:
        item = instrument(symbol)
        assert item.spec.symbol == symbol
        assert item.start_price * 10**item.spec.price_decimals >= 1_000
        assert Decimal(10) ** -item.spec.quantity_decimals == item.spec.quantity_min
        assert item.start_price * 10**-item.spec.quantity_decimals < item.median_notional / 10


@pytest.mark.parametrize("symbol", ["", "btcusdt", "BTC", "BTC-USDT", "A" * 20 + "USDT", "USDT"])
def test_what_cannot_be_a_symbol_is_refused(symbol: str) -> None:
    with pytest.raises(UnknownSymbolError, match="cannot be a symbol"):
        SyntheticSource(1, START_MS, shape=MarketShape((symbol,)))


def test_a_list_of_symbols_is_served_in_its_order() -> None:
    source = SyntheticSource(1, START_MS, shape=MarketShape(("XRPUSDT", "NEWUSDT", "BTCUSDT")))
    assert list(source.instruments) == ["XRPUSDT", "NEWUSDT", "BTCUSDT"]


def test_every_symbol_is_on_the_wire_and_behind_rest() -> None:
    async def run() -> None:
        source = SyntheticSource(3, START_MS, shape=MarketShape(30, 300, 300, trade_ids=False))
        symbols = list(source.instruments)
        async with (
            exchange(source, speed=60, limits=Limits(start_grace_seconds=0)) as server,
            AsyncExitStack() as stack,
        ):
            for first in (0, 15):
                client = await stack.enter_async_context(connected(server))
                await _sees_trades_of(client, symbols[first : first + 15])
            for path in ("trades?", "aggTrades?", "klines?interval=1m&", "depth?", "ticker/bookTicker?"):
                assert await client.get(f"/api/v3/{path}symbol={symbols[-1]}")
            info = await client.get("/api/v3/exchangeInfo")
            assert [row["symbol"] for row in info["symbols"]] == symbols

    asyncio.run(run())


async def _sees_trades_of(client: Client, symbols: list[str]) -> None:
    await client.subscribe(*map(deals, symbols), *map(book_ticker, symbols))
    await client.collect_until(lambda one: sum(bool(one.trade_ids(symbol)) for symbol in symbols) > 5)
    assert {deal.tradeId for frame in client.frames for deal in frame.publicAggreDeals.deals} == {""}
    assert all(client.frames_of(book_ticker(symbol)) for symbol in symbols)


def test_an_unchanged_quote_is_repeated_as_seldom_as_asked_for() -> None:
    async def counts(ticks: int) -> int:
        source = SyntheticSource(1, START_MS, shape=MarketShape(("BTCUSDT",), 1, 0.05))
        limits = Limits(tick_seconds=0.01, start_grace_seconds=0, quote_repeat_ticks=ticks)
        async with exchange(source, limits=limits) as server, connected(server) as client:
            await client.subscribe(deals("BTCUSDT"), book_ticker("BTCUSDT"))
            first = server.hub._ticks
            await client.collect_until(lambda _: server.hub._ticks > first + 60)
            return len(client.frames_of(book_ticker("BTCUSDT")))

    async def run() -> None:
        assert await counts(1) > 40
        assert await counts(20) < 12

    asyncio.run(run())
