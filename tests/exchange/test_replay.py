"""A replay over real sockets: every trade once and in order, every quote change, and the map of event time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from apps.engine.quotes import EMPTY, Quote, QuoteState, derive
from proto.gen.push_pb2 import PushDataV3ApiWrapper
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
from workers.exchange.event_clock import EventClock
from workers.exchange.frames import decimal_text
from workers.exchange.limits import Limits
from workers.exchange.replay import ReplaySource

ALL_CHANNELS = [*map(deals, SYMBOLS), *map(book_ticker, SYMBOLS)]


def _collect(source: ReplaySource, speed: float, limits: Limits | None = None) -> Client:
    """Everything one client receives from before the start of event time to after its end."""

    async def run() -> Client:
        async with exchange(source, speed=speed, limits=limits) as server, connected(server) as client:
            await client.subscribe(*ALL_CHANNELS)
            ticks = _tick_counter(source.end_ms)
            await client.collect_until(lambda c: ticks(c) == 2)
            status = await client.status()
            assert status["finished"]
            assert status["event_time_ms"] == source.end_ms == status["end_ms"]
            return client

    return asyncio.run(run())


def _tick_counter(event_ms: int) -> Callable[[Client], int]:
    """Asked after each frame: how many ticks sent at this event time have begun to arrive."""
    first = book_ticker(min(SYMBOLS))  # a tick's frames are sorted by symbol
    count = 0

    def counted(client: Client) -> int:
        nonlocal count
        if client.frames and client.frames[-1].channel == first and client.frames[-1].sendTime == event_ms:
            count += 1
        return count

    return counted


def _written(symbol: str, quote: Quote) -> tuple[str, str, str, str]:
    price, quantity = decimal_text(SPECS[symbol].price_decimals), decimal_text(SPECS[symbol].quantity_decimals)
    return price(quote.bid_ticks), quantity(quote.bid_steps), price(quote.ask_ticks), quantity(quote.ask_steps)


def _expected_changes(rows: Iterable[str]) -> dict[str, list[tuple[int, tuple[str, str, str, str]]]]:
    """(time, quote) of every change per symbol: the state after the last trade of a millisecond, if it differs."""
    states: dict[str, QuoteState] = dict.fromkeys(SYMBOLS, EMPTY)
    by_time: dict[str, dict[int, Quote]] = {symbol: {} for symbol in SYMBOLS}
    for row in recording_of(list(rows)).rows():
        state = derive(states[row.symbol], row.side, row.price_ticks, row.quantity_steps)
        states[row.symbol] = state
        if state.quote is not None:
            by_time[row.symbol][row.time_ms] = state.quote
    changes: dict[str, list[tuple[int, tuple[str, str, str, str]]]] = {}
    for symbol, quotes in by_time.items():
        last = None
        changes[symbol] = []
        for time_ms, quote in quotes.items():
            if quote != last:
                changes[symbol].append((time_ms, _written(symbol, quote)))
            last = quote
    return changes


def _body(frame: PushDataV3ApiWrapper) -> tuple[str, str, str, str]:
    body = frame.publicAggreBookTicker
    return body.bidPrice, body.bidQuantity, body.askPrice, body.askQuantity


@pytest.mark.parametrize(("speed", "count"), [(600, 3_000), (60_000, 30_000)])
def test_every_trade_is_sent_exactly_once_and_in_order(speed: float, count: int) -> None:
    rows = random_rows(count, minutes=10 if speed < 1_000 else 600)
    client = _collect(replay_of(rows), speed)
    for symbol in SYMBOLS:
        expected = [row.split(",")[2] for row in rows if row.startswith(symbol)]
        assert client.trade_ids(symbol) == expected
    sent = {deal.tradeId: deal for frame in client.frames for deal in frame.publicAggreDeals.deals}
    for row in recording_of(rows).rows():
        deal, spec = sent[row.trade_id], SPECS[row.symbol]
        assert (deal.time, deal.tradeType) == (row.time_ms, row.side)
        assert deal.price == decimal_text(spec.price_decimals)(row.price_ticks)
        assert deal.quantity == decimal_text(spec.quantity_decimals)(row.quantity_steps)


@pytest.mark.parametrize("speed", [600, 6_000])
def test_every_change_of_the_quote_is_sent_at_the_time_of_its_trade(speed: float) -> None:
    rows = random_rows(3_000, minutes=10)
    client = _collect(replay_of(rows), speed)
    for symbol, expected in _expected_changes(rows).items():
        greeting, *frames = client.frames_of(book_ticker(symbol))
        assert greeting.sendTime == START_MS
        assert not greeting.publicAggreBookTicker.bidPrice  # nobody has quoted yet, but the time is told
        times = [frame.sendTime for frame in frames]
        assert times == sorted(times)
        changes = [
            (frame.sendTime, _body(frame))
            for before, frame in zip([None, *frames], frames, strict=False)
            if before is None or _body(before) != _body(frame)
        ]
        assert changes == expected


def test_a_trade_is_never_sent_before_its_time_nor_after_a_later_send_time() -> None:
    client = _collect(replay_of(random_rows(2_000, minutes=10)), 2_000, Limits(trades_per_step_max=50))
    for symbol in SYMBOLS:
        reached_ms = 0
        for frame in client.frames_of(deals(symbol)):
            times = [deal.time for deal in frame.publicAggreDeals.deals]
            assert 0 < len(times) <= 60  # steps of 50, and the rest of a millisecond
            assert reached_ms < times[0]
            assert times[-1] <= frame.sendTime
            reached_ms = frame.sendTime


def test_a_quote_that_returns_within_a_millisecond_has_not_changed() -> None:
    at = START_MS + 5
    rows = [f"ETHUSDT,{at},1,buy,3400,1", f"ETHUSDT,{at},2,sell,3390,1", f"ETHUSDT,{at + 1},3,buy,3405,1"]
    rows += [f"ETHUSDT,{at + 1},4,buy,3400,1", f"ETHUSDT,{at + 2},5,sell,3391,1", f"ETHUSDT,{at + 2},6,sell,3392,1"]
    feed = replay_of(rows).feed()
    quotes = feed.advance(START_MS + 60_000)["ETHUSDT"].quotes
    assert [(timed.time_ms, timed.quote.bid_ticks, timed.quote.ask_ticks) for timed in quotes] == [
        (at, 339_000, 340_000),
        (at + 2, 339_200, 340_000),
    ]


def test_unchanged_quotes_are_repeated_every_tick_and_go_on_after_the_end() -> None:
    async def run() -> None:
        rows = ["ETHUSDT,1700000045000,1,buy,3400,1"]
        source = replay_of(rows)
        async with exchange(source, speed=600_000) as server, connected(server) as client:
            await client.subscribe(book_ticker("ETHUSDT"), deals("ETHUSDT"))
            await client.collect_until(lambda c: sum(frame.sendTime == source.end_ms for frame in c.frames) > 5)
            quotes = [frame for frame in client.frames_of(book_ticker("ETHUSDT")) if frame.sendTime == source.end_ms]
            assert {_body(frame) for frame in quotes} == {("3399.99", "1.00000", "3400.00", "1.00000")}
            assert source.end_ms == START_MS + 120_000

    asyncio.run(run())


def test_event_time_stands_until_every_symbols_trades_are_subscribed() -> None:
    async def run() -> None:
        source = replay_of(random_rows(100))
        async with exchange(source, limits=Limits(start_grace_seconds=60)) as server, connected(server) as one:
            assert await one.get("/api/v3/time") == {"serverTime": START_MS}
            await one.subscribe(deals("ETHUSDT"), deals("BTCUSDT"), book_ticker("XRPUSDT"))
            await asyncio.sleep(0.3)  # nothing may start: silence cannot be awaited
            assert not (await one.status())["started"]
            async with connected(server) as two:
                await two.subscribe(deals("XRPUSDT", "10ms"))
                status = await two.status()
                assert status["started"]
                assert status["connections"] == 2

    asyncio.run(run())


def test_event_time_starts_after_the_grace_even_if_symbols_are_missing() -> None:
    async def run() -> None:
        async with (
            exchange(replay_of(random_rows(100)), limits=Limits(start_grace_seconds=0.3)) as server,
            connected(server) as client,
        ):
            await client.subscribe(deals("ETHUSDT"))
            assert not (await client.status())["started"]
            await eventually(lambda: server.hub.clock.started)
            assert (await client.status())["started"]

    asyncio.run(run())


def test_a_resumed_replay_sends_what_follows_and_knows_the_quote_of_what_came_before() -> None:
    rows = random_rows(600, minutes=10)
    resume_ms = int(rows[300].split(",")[1])
    source = replay_of(rows, resume_ms)
    client = _collect(source, 6_000)
    late = [row for row in rows if int(row.split(",")[1]) >= resume_ms]
    early = [row for row in rows if int(row.split(",")[1]) < resume_ms]
    for symbol in SYMBOLS:
        assert client.trade_ids(symbol) == [row.split(",")[2] for row in late if row.startswith(symbol)]
        first = client.frames_of(book_ticker(symbol))[0]
        assert (first.sendTime, _body(first)) == (resume_ms, _expected_changes(early)[symbol][-1][1])
    assert source.resumed_from_ms == resume_ms


def test_the_status_counts_distinct_trades_whose_time_has_passed() -> None:
    rows = random_rows(500, minutes=5)
    client = _collect(replay_of(rows), 60_000)
    assert len({deal.tradeId for frame in client.frames for deal in frame.publicAggreDeals.deals}) == len(rows)


def test_two_clients_get_the_same_trades() -> None:
    async def run() -> None:
        rows = random_rows(500, minutes=5)
        source = replay_of(rows)
        async with exchange(source, speed=3_000) as server, connected(server) as one, connected(server) as two:
            await two.subscribe(deals("ETHUSDT"))
            await one.subscribe(*ALL_CHANNELS)
            wanted = [row.split(",")[2] for row in rows if row.startswith("ETHUSDT")]
            for client in (one, two):
                await client.collect_until(lambda c: len(c.trade_ids("ETHUSDT")) >= len(wanted))
                assert client.trade_ids("ETHUSDT") == wanted

    asyncio.run(run())


def test_the_event_clock_scales_wall_time_and_stops_at_its_end() -> None:
    now = [100.0]
    clock = EventClock(1_000, 61_000, 600.0, lambda: now[0])
    assert clock.now_ms() == 1_000
    now[0] = 200.0
    assert (clock.now_ms(), clock.started) == (1_000, False)
    clock.start()
    now[0] = 200.05
    assert clock.now_ms() == 31_000
    clock.start()
    now[0] = 999.0
    assert clock.now_ms() == 61_000
