"""Connections that end, fall silent or hang on command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.exchange.helpers import (
    START_MS,
    Client,
    book_ticker,
    connected,
    deals,
    eventually,
    exchange,
    numbers_sent,
    rows_of,
)
from workers.exchange.faults.commands import CONNECTION_FAULTS
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer
from workers.exchange.synthetic import SyntheticSource

SYMBOL = "BTCUSDT"
LIMITS = Limits(start_grace_seconds=0, tick_seconds=0.02)
Story = Callable[[ExchangeServer, Client], Awaitable[None]]
TEXT, BINARY = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY


def _play(story: Story, journal: Path | None = None, limits: Limits = LIMITS) -> None:
    async def run() -> None:
        source = SyntheticSource(1, START_MS)
        async with (
            exchange(source, speed=50, limits=limits, journal=journal) as server,
            connected(server) as client,
        ):
            await client.subscribe(deals(SYMBOL), book_ticker(SYMBOL))
            await client.collect_until(lambda one: len(one.trade_ids(SYMBOL)) > 5)
            await story(server, client)

    asyncio.run(run())


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4000])
def test_a_close_carries_the_code_and_the_reason(tmp_path: Path, code: int) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> None:
        assert await client.command("close", code=code, reason="because") == [1]
        messages = await client.messages_until(lambda message: message.type is not BINARY)
        assert (messages[-1].type, messages[-1].data, messages[-1].extra) == (aiohttp.WSMsgType.CLOSE, code, "because")

    _play(story, journal)
    (closed,) = rows_of(journal, "closed")
    assert (closed["c"], closed["reason"]) == (1, "because")
    assert [row["do"] for row in rows_of(journal, "fault")] == ["close"]


def test_code_1006_is_an_end_without_a_close_frame() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("close", code=1006)
        assert await client.closed() == 1006
        await eventually(lambda: not server.hub.connections)

    _play(story)


def test_a_reset_is_a_reset_of_the_tcp_connection() -> None:
    async def run() -> None:
        source = SyntheticSource(1, START_MS)
        async with exchange(source, limits=LIMITS) as server, connected(server) as other:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            writer.write(
                f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            await reader.readuntil(b"\r\n\r\n")
            await eventually(lambda: len(server.hub.connections) == 2)
            assert await other.command("reset", c="newest") == [2]
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    asyncio.run(run())


def test_a_half_open_connection_answers_nothing_and_outlives_every_rule() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        assert await client.command("half_open") == [1]
        await client.send("PING")
        with pytest.raises(TimeoutError):  # nothing may come: silence cannot be awaited
            await client.messages_until(lambda message: message.type is not BINARY, 0.8)
        assert len(server.hub.connections) == 1
        assert (await client.get("/exchange/connections"))[0]["faulty"]

    _play(story, limits=Limits(start_grace_seconds=0, tick_seconds=0.02, idle_seconds=0.3, lifetime_seconds=0.7))


def test_a_half_open_connection_ends_after_its_seconds_or_when_the_client_goes() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("half_open", seconds=0.2)
        assert await client.closed() == 1006
        async with connected(server) as second:
            await second.subscribe(deals(SYMBOL))
            assert await second.command("half_open") == [2]
        await eventually(lambda: not server.hub.connections)

    _play(story)


@pytest.mark.parametrize("lose", [False, True])
def test_after_a_silence_the_connection_goes_on_with_or_without_what_was_due(tmp_path: Path, lose: bool) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> None:
        assert await client.command("silence", seconds=0.5, lose=lose) == [1]
        await client.send("PING")
        with pytest.raises(TimeoutError):
            await client.messages_until(lambda message: message.type is TEXT, 0.3)
        seen = len(client.frames)
        if not lose:
            assert (await client.next_text())["msg"] == "PONG"
        await client.collect_until(lambda one: len(one.frames) > seen + 20)
        assert (await client.get("/exchange/connections"))[0]["faulty"] is False

    _play(story, journal)
    sent = numbers_sent(journal, 1, SYMBOL)
    assert sent == sorted(set(sent))
    assert (len(sent) < max(sent)) == lose


def test_a_muted_market_still_answers(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("mute_market")
        await client.send("PING")
        assert (await client.next_text())["msg"] == "PONG"
        client.frames.clear()
        with pytest.raises(TimeoutError):
            await client.collect_until(lambda one: bool(one.frames), 0.4)
        await client.command("heal")
        await client.collect_until(lambda one: len(one.trade_ids(SYMBOL)) > 5)

    _play(story, journal)
    sent = numbers_sent(journal, 1, SYMBOL)
    assert len(sent) < max(sent)


def test_a_slow_reader_is_closed_with_1008_on_command() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("slow_reader")
        assert await client.closed() == 1008

    _play(story)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, [1, 2, 3]),
        ({"c": "all"}, [1, 2, 3]),
        ({"c": "oldest"}, [1]),
        ({"c": "newest"}, [3]),
        ({"c": 2}, [2]),
        ({"c": [3, 1, 9]}, [1, 3]),
        ({"c": 9}, []),
        ({"s": "ETHUSDT"}, [2]),
        ({"s": ["ETHUSDT", SYMBOL]}, [1, 2]),
        ({"s": "ETHUSDT", "c": 1}, []),
    ],
)
def test_a_command_reaches_the_connections_it_names(selector: dict[str, Any], expected: list[int]) -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        async with connected(server) as two, connected(server):
            await two.subscribe(deals("ETHUSDT"))
            assert await client.command("mute_market", **selector) == expected

    _play(story)


def test_random_connections_depend_on_the_seed_alone() -> None:
    async def picks(seed: int) -> list[int]:
        source = SyntheticSource(1, START_MS)
        async with (
            exchange(source, fault_seed=seed) as server,
            connected(server) as one,
            connected(server),
            connected(server),
        ):
            return [(await one.command("mute_market", c="random"))[0] for _ in range(12)]

    async def run() -> None:
        first = await picks(1)
        assert first == await picks(1)
        assert first != await picks(2)
        assert set(first) == {1, 2, 3}

    asyncio.run(run())


def test_a_symbol_that_is_delisted_falls_silent_and_comes_back_with_its_numbers(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("delist", s=SYMBOL)
        assert (await client.get(f"/api/v3/klines?symbol={SYMBOL}&interval=1m", 400))["code"] == -1121
        assert SYMBOL not in (await client.get("/api/v3/defaultSymbols"))["data"]
        answer = await client.subscribe(deals(SYMBOL), deals("ETHUSDT"))
        assert answer.startswith(f"Subscribed successful! [{deals('ETHUSDT')}]. Not Subscribed")
        gone_ms = server.hub.reached_ms
        await client.collect_until(lambda one: one.frames[-1].sendTime > gone_ms + 20_000)
        assert not [deal for frame in client.frames_of(deals(SYMBOL)) for deal in frame.publicAggreDeals.deals
                    if deal.time > gone_ms]  # fmt: skip
        await client.command("list", s=[SYMBOL, "NEWUSDT"])
        await client.subscribe(deals(SYMBOL), deals("NEWUSDT"))
        back = len(client.trade_ids(SYMBOL))
        await client.collect_until(lambda one: len(one.trade_ids(SYMBOL)) > back and bool(one.trade_ids("NEWUSDT")))

    _play(story, journal)
    made = [row["n"] for row in rows_of(journal, "made") if row["s"] == SYMBOL]
    assert made == list(range(1, len(made) + 1))


def test_every_fault_of_connections_has_a_test() -> None:
    assert set(CONNECTION_FAULTS) == {
        "reset", "close", "half_open", "silence", "mute_market", "slow_reader", "duplicate",
    }  # fmt: skip
