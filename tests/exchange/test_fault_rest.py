"""REST that fails, lags or tells the wrong time, and upgrades that get something else than a WebSocket."""

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
    rows_of,
)
from workers.exchange.faults.commands import REST_MODES, UPGRADE_STATUSES
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer
from workers.exchange.synthetic import SyntheticSource

LIMITS = Limits(start_grace_seconds=0, tick_seconds=0.02)
KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m"
Story = Callable[[ExchangeServer, Client], Awaitable[None]]


def _play(story: Story, journal: Path | None = None) -> None:
    async def run() -> None:
        source = SyntheticSource(1, START_MS)
        async with (
            exchange(source, speed=50, limits=LIMITS, journal=journal) as server,
            connected(server) as client,
        ):
            await story(server, client)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "retry_after"), [(418, 120), (429, 3), (429, None), (500, None), (503, 1), (504, None)]
)
def test_a_status_comes_once_with_the_seconds_to_wait(tmp_path: Path, status: int, retry_after: float | None) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("rest", status=status, retry_after=retry_after or 0)
        async with client.http.get(f"{client.address}{KLINES}") as answer:
            assert answer.status == status
            assert answer.headers.get("Retry-After") == str(retry_after or 0)
            assert (await answer.json())["code"] == status
        assert await client.get(KLINES)

    _play(story, journal)
    assert [(row["do"], row["status"]) for row in rows_of(journal, "fault")] == [("rest", status)]


def test_answers_that_are_no_answers() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("rest", mode="html")
        async with client.http.get(f"{client.address}{KLINES}") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
        await client.command("rest", mode="wrong_json")
        assert isinstance(await client.get(KLINES), dict)
        await client.command("rest", mode="broken_json")
        async with client.http.get(f"{client.address}{KLINES}") as answer:
            with pytest.raises(ValueError):
                await answer.json()
        await client.command("rest", mode="reset", seconds=60)  # this client tries a second time by itself
        with pytest.raises(aiohttp.ClientError):
            await client.get(KLINES)
        await client.command("heal")
        await client.command("rest", mode="timeout")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.get(KLINES)
        assert await client.get(KLINES)

    _play(story)
    played = {"status", "timeout", "html", "wrong_json", "broken_json", "reset"}
    assert set(REST_MODES) == played | {"error", "late"}  # these two: test_private_faults


def test_a_fault_of_one_path_leaves_the_others_alone_and_holds_as_often_as_said() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("rest", path="klines", times=2)
        assert await client.get("/api/v3/ping") == {}
        for _ in range(2):
            await client.get(KLINES, 500)
        assert await client.get(KLINES)
        await client.command("rest", path="klines", seconds=60)
        for _ in range(5):
            await client.get(KLINES, 500)
        assert (await client.status())["source"] == "synthetic"
        await client.command("heal")
        assert await client.get(KLINES)

    _play(story)


def test_rest_lags_behind_the_stream_on_command() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.subscribe(deals("BTCUSDT"))
        await client.command("rest_lag", ms=30_000)
        await eventually(lambda: server.hub.reached_ms > START_MS + 90_000)
        newest_ms = (await client.get("/api/v3/trades?symbol=BTCUSDT&limit=1"))[0]["time"]
        assert newest_ms <= server.hub.reached_ms - 30_000
        await client.command("rest_lag", ms=0)
        assert (await client.get("/api/v3/trades?symbol=BTCUSDT&limit=1"))[0]["time"] > newest_ms

    _play(story)


@pytest.mark.parametrize("skew_ms", [-300_000, 5_000, 300_000])
def test_a_wrong_clock_shows_in_time_and_send_times_but_not_in_trades(skew_ms: int) -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.subscribe(deals("BTCUSDT"), book_ticker("BTCUSDT"))
        await client.collect_until(lambda one: bool(one.frames_of(deals("BTCUSDT"))))
        await client.command("clock_skew", ms=skew_ms)
        told_ms = (await client.get("/api/v3/time"))["serverTime"]
        assert abs(told_ms - skew_ms - server.hub.clock.now_ms()) < 60_000
        assert abs((await client.get("/api/v3/exchangeInfo"))["serverTime"] - told_ms) < 60_000
        client.frames.clear()
        await client.collect_until(lambda one: len(one.frames_of(deals("BTCUSDT"))) > 5)
        for frame in client.frames_of(deals("BTCUSDT"))[3:]:
            ages = [frame.sendTime - deal.time - skew_ms for deal in frame.publicAggreDeals.deals]
            assert all(0 <= age < 30_000 for age in ages)

    _play(story)


@pytest.mark.parametrize("status", UPGRADE_STATUSES)
def test_an_upgrade_is_answered_with_a_status_instead(status: int) -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("http_status", status=status, retry_after=7)
        async with client.http.get(f"{client.address}/ws", allow_redirects=False) as answer:
            assert answer.status == status
            assert answer.headers["Retry-After"] == "7"
            assert ("Location" in answer.headers) == (status == 301)
        await client.command("http_status", status=status)
        with pytest.raises((aiohttp.WSServerHandshakeError, aiohttp.ClientError)):
            await client.http.ws_connect(f"{client.address}/ws")
        async with connected(server) as other:
            assert await other.subscribe(deals("BTCUSDT")) == deals("BTCUSDT")

    _play(story)


def test_an_upgrade_may_hang() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("http_status", stall=60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.http.ws_connect(f"{client.address}/ws")

    _play(story)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "Expecting property name"),
        ("5", "a command is an object"),
        ('{"do": "explode"}', "do: 'explode' is none of reset, close"),
        ('{"do": "close", "code": 5}', "code: must be a whole number from 1,000 to 4,999"),
        ('{"do": "reset", "force": true}', "reset has no option force"),
        ('{"do": "swallow"}', "swallow needs symbols"),
        ('{"do": "swallow", "s": "NOPEUSDT"}', "NOPEUSDT is not listed"),
        ('{"do": "list", "s": "nope"}', "'nope' cannot be a symbol"),
        ('[{"do": "mute_market"}, {"do": "explode"}]', "do: 'explode'"),
    ],
)
def test_a_bad_command_is_refused_with_the_reason_and_does_nothing(document: str, words: str) -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        async with client.http.post(f"{client.address}/exchange/control", data=document) as answer:
            assert answer.status == 400
            assert words in (await answer.json())["msg"]
        assert all(one.faults is None for one in server.hub.connections)

    _play(story)


def test_commands_from_another_machine_are_refused() -> None:
    from workers.exchange.faults.rest import control

    class Request:
        remote = "192.0.2.7"

    async def run() -> Any:
        handler = control(None, lambda: None)  # type: ignore[arg-type]  # it is not reached
        return await handler(Request())  # type: ignore[arg-type]

    assert asyncio.run(run()).status == 403
