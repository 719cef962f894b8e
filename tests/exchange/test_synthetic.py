"""The synthetic market: the same at every asking, plausible, and lively enough to trade on at any moment."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections import Counter

import pytest

from tests.exchange.helpers import START_MS, book_ticker, connected, deals, exchange
from workers.exchange.candles import Candle
from workers.exchange.market import Print
from workers.exchange.synthetic import HOUR_MS, SyntheticSource

MINUTE_MS = 60_000
DAY_MS = 86_400_000
SOURCE = SyntheticSource(seed=1, start_ms=START_MS)
SYMBOLS = list(SOURCE.instruments)


def test_a_second_source_of_the_same_seed_is_the_same_market() -> None:
    again = SyntheticSource(seed=1, start_ms=START_MS + 12_345_000)
    for symbol in SYMBOLS:
        first = SOURCE.trades(symbol, START_MS, START_MS + MINUTE_MS).prints()
        assert first == again.trades(symbol, START_MS, START_MS + MINUTE_MS).prints()
        assert SOURCE.quote_at(symbol, START_MS) == again.quote_at(symbol, START_MS)


def test_another_seed_is_another_market() -> None:
    other = SyntheticSource(seed=2, start_ms=START_MS)
    assert all(SOURCE.quote_at(symbol, START_MS) != other.quote_at(symbol, START_MS) for symbol in SYMBOLS)


def test_trades_do_not_depend_on_the_window_they_are_asked_in() -> None:
    whole = SOURCE.trades("ETHUSDT", START_MS - 90_500, START_MS + 90_500).prints()
    cuts = [START_MS - 90_501, START_MS - 60_000, START_MS - 1, START_MS + 333, START_MS + 90_500]
    parts = [SOURCE.trades("ETHUSDT", first + 1, last).prints() for first, last in itertools.pairwise(cuts)]
    assert list(itertools.chain.from_iterable(parts)) == whole
    assert len(whole) > 100


def test_the_newest_trades_are_the_end_of_the_trades() -> None:
    everything = SOURCE.trades("ADAUSDT", START_MS - HOUR_MS, START_MS).prints()
    assert SOURCE.last_trades("ADAUSDT", START_MS, 1_000).prints() == everything[-1_000:]


EMPTY_FIRST_MINUTE_MS = (START_MS // HOUR_MS - 51) * HOUR_MS  # LINKUSDT has no trade in this minute


@pytest.mark.parametrize(
    ("first_ms", "end_ms"),
    [(START_MS - 90 * MINUTE_MS, START_MS), (EMPTY_FIRST_MINUTE_MS, EMPTY_FIRST_MINUTE_MS + 5 * MINUTE_MS)],
)
def test_closed_minutes_are_what_the_trades_make(first_ms: int, end_ms: int) -> None:
    candles = SOURCE.closed_minutes("LINKUSDT", first_ms, end_ms)
    assert [candle.open_ms for candle in candles] == list(range(first_ms, end_ms, MINUTE_MS))
    carried = SOURCE.last_trades("LINKUSDT", first_ms - 1, 1).prints()[-1].price_ticks
    for candle in candles:
        trades = SOURCE.trades("LINKUSDT", candle.open_ms, candle.open_ms + MINUTE_MS - 1).prints()
        assert candle == _candle(candle.open_ms, trades, carried)
        carried = candle.close


def test_the_hour_that_begins_with_an_empty_minute_does() -> None:
    assert len(SOURCE.trades("LINKUSDT", EMPTY_FIRST_MINUTE_MS, EMPTY_FIRST_MINUTE_MS + MINUTE_MS - 1)) == 0


def _candle(open_ms: int, trades: list[Print], carried: int) -> Candle:
    prices = [trade.price_ticks for trade in trades] or [carried]
    return Candle(
        open_ms,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(trade.quantity_steps for trade in trades),
        sum(trade.price_ticks * trade.quantity_steps for trade in trades),
        len(trades),
    )


def test_ids_look_like_the_real_ones_are_unique_and_grow_with_time() -> None:
    trades = SOURCE.trades("BTCUSDT", START_MS, START_MS + 10 * MINUTE_MS).prints()
    ids = [trade.trade_id.decode() for trade in trades]
    assert len(ids) > 1_000
    assert ids == sorted(set(ids))
    for trade_id in ids:
        match = re.fullmatch(r"(\d{18})X0_(\d{18})X0", trade_id)
        assert match
        assert int(match[2]) == int(match[1]) + 1


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_trades_happen_at_or_beside_the_quotes_and_respect_the_minimum(symbol: str) -> None:
    spec = SOURCE.instruments[symbol]
    for trade in SOURCE.trades(symbol, START_MS, START_MS + 2 * MINUTE_MS).prints():
        quote = SOURCE.quote_at(symbol, trade.time_ms)
        assert 0 < quote.bid_ticks < quote.ask_ticks
        beside = trade.price_ticks - quote.ask_ticks if trade.side == 1 else quote.bid_ticks - trade.price_ticks
        assert beside in (0, 1)
        assert trade.quantity_steps >= max(1, int(spec.quantity_min.scaleb(spec.quantity_decimals)))


def test_the_whole_market_has_thirty_to_sixty_trades_a_second_with_bursts_and_quiet_stretches() -> None:
    minutes = [SOURCE.closed_minutes(symbol, START_MS - 12 * HOUR_MS, START_MS) for symbol in SYMBOLS]
    rate = sum(candle.trade_count for rows in minutes for candle in rows) / (12 * 3_600)
    assert 30 < rate < 60
    for rows in minutes:
        counts = sorted(candle.trade_count for candle in rows)
        median = counts[len(counts) // 2]
        assert counts[-1] > 3 * median
        assert counts[len(counts) // 50] < median / 4


def _rsi(closes: list[int]) -> float:
    """Wilder's RSI(14) seeded with the mean of the first 14 changes."""
    changes = [after - before for before, after in itertools.pairwise(closes)]
    gain = sum(max(change, 0) for change in changes[:14]) / 14
    loss = sum(max(-change, 0) for change in changes[:14]) / 14
    for change in changes[14:]:
        gain = (gain * 13 + max(change, 0)) / 14
        loss = (loss * 13 + max(-change, 0)) / 14
    return 100 * gain / (gain + loss) if gain + loss else 0.0


def _momentum_fires(source: SyntheticSource, symbol: str, start_ms: int) -> bool:
    """Whether a trade of the first 30 seconds is 2 % above the price of 15 minutes earlier with an RSI above 50."""
    closes = [candle.close for candle in source.closed_minutes(symbol, start_ms - 100 * MINUTE_MS, start_ms)]
    trades = source.trades(symbol, start_ms, start_ms + 30_000).prints()
    return _rsi(closes) > 50 and any(trade.price_ticks / closes[-16] - 1 >= 0.02 for trade in trades)


@pytest.mark.parametrize("seed", [1, 2, 42])
def test_at_any_start_at_least_two_symbols_rise_enough_to_trade_at_once(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(12):
        start_ms = (1_790_000_000_000 + dice.randrange(365 * DAY_MS)) // MINUTE_MS * MINUTE_MS
        source = SyntheticSource(seed, start_ms)
        rising = [symbol for symbol in SYMBOLS if _momentum_fires(source, symbol, start_ms)]
        assert len(rising) >= 2, (seed, start_ms, rising)


def _outcome(entry: int, later: list[Candle]) -> str:
    """How a position entered at a close ends: stop loss 2 %, take profit 4 %, or the end of the candles."""
    for candle in later:
        if candle.low <= entry * 0.98:
            return "stop loss"
        if candle.high >= entry * 1.04:
            return "take profit"
    return "holding time"


def test_entries_after_a_rise_end_in_every_kind_of_exit() -> None:
    outcomes = Counter(
        _outcome(candles[number].close, candles[number + 1 : number + 16])
        for symbol in SYMBOLS
        for candles in [SOURCE.closed_minutes(symbol, START_MS - 4 * HOUR_MS, START_MS)]
        for number in range(15, 220, 3)
        if candles[number].close / candles[number - 15].close > 1.02
    )
    assert set(outcomes) == {"stop loss", "take profit", "holding time"}
    assert all(count > 10 for count in outcomes.values()), outcomes


def test_the_live_feed_sends_what_history_later_tells() -> None:
    async def run() -> None:
        source = SyntheticSource(seed=7, start_ms=START_MS)
        async with exchange(source, speed=60) as server, connected(server) as client:
            await client.subscribe(*map(deals, SYMBOLS), *map(book_ticker, SYMBOLS))
            await client.collect_until(lambda c: c.frames[-1].sendTime > START_MS + 70_000 if c.frames else False)
            for symbol in SYMBOLS:
                frames = client.frames_of(deals(symbol))
                last_ms = frames[-1].sendTime
                told = source.trades(symbol, START_MS, last_ms).prints()
                assert client.trade_ids(symbol) == [trade.trade_id.decode() for trade in told]
                quotes = client.frames_of(book_ticker(symbol))
                times = [frame.sendTime for frame in quotes]
                assert times == sorted(set(times)) or len(times) - len(set(times)) == 1  # the one on subscription
                assert len(quotes) >= 10

    asyncio.run(run())
