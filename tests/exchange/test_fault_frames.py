"""Frames that are wrong on command, as a client receives them, and what the journal says about each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf.message import DecodeError

from proto.gen.push_pb2 import PushDataV3ApiWrapper
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
from workers.exchange.faults.commands import FRAME_FAULTS
from workers.exchange.faults.frames import BAD_VALUES, SPOILERS
from workers.exchange.instruments import MarketShape
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer
from workers.exchange.synthetic import SyntheticSource

SYMBOL = "BTCUSDT"
CHANNEL = deals(SYMBOL)
LIMITS = Limits(start_grace_seconds=0, tick_seconds=0.02)
Story = Callable[[ExchangeServer, Client], Awaitable[Any]]


def _play(story: Story, journal: Path, *channels: str, trades_per_second: float = 10) -> Any:
    """A story with one client of one symbol that trades in nearly every tick."""

    async def run() -> Any:
        source = SyntheticSource(1, START_MS, shape=MarketShape((SYMBOL,), trades_per_second))
        async with (
            exchange(source, speed=100, limits=LIMITS, journal=journal, fault_seed=5) as server,
            connected(server) as client,
        ):
            await client.subscribe(*(channels or (CHANNEL,)))
            await client.collect_until(lambda one: len(one.frames_of(CHANNEL)) > 5)
            return await story(server, client)

    return asyncio.run(run())


def _decoded(message: aiohttp.WSMessage) -> PushDataV3ApiWrapper | None:
    """The deals of a binary message, None if they cannot be read or are none of this channel."""
    if message.type is not aiohttp.WSMsgType.BINARY:
        return None
    try:
        frame = PushDataV3ApiWrapper.FromString(message.data)
    except DecodeError:
        return None
    right = frame.channel == CHANNEL and frame.WhichOneof("body") == "publicAggreDeals"
    return frame if right and frame.publicAggreDeals.deals else None


def _faults(journal: Path, do: str) -> list[dict[str, Any]]:
    return [row for row in rows_of(journal, "fault") if row["do"] == do]


def _lost(journal: Path) -> list[int]:
    return [
        number
        for row in rows_of(journal, "fault")
        for first, last in row.get("lost", [])
        for number in range(first, last + 1)
    ]


def _until_a_frame_was_wrong(do: str, **options: Any) -> Story:
    async def story(server: ExchangeServer, client: Client) -> None:
        assert await client.command(do, **options) == [1]
        await client.messages_until(lambda message: _decoded(message) is None)
        # What follows is whole again.
        assert _decoded(await client.socket.receive()) is not None

    return story


CLOSES = {"binary_in_text"}  # a client must close when a text is not UTF-8


@pytest.mark.parametrize("do", sorted(set(SPOILERS) - CLOSES))
def test_a_wrong_frame_instead_of_a_right_one_loses_exactly_the_trades_the_journal_names(
    tmp_path: Path, do: str
) -> None:
    journal = tmp_path / "journal.jsonl"
    _play(_until_a_frame_was_wrong(do, replace=True), journal)
    (fault,) = _faults(journal, do)
    assert fault["replaced"]
    lost, sent = _lost(journal), numbers_sent(journal, 1, SYMBOL)
    assert lost
    assert sorted(lost + sent) == list(range(1, max(lost + sent) + 1))


@pytest.mark.parametrize("do", sorted(set(SPOILERS) - CLOSES))
def test_a_wrong_frame_beside_the_right_ones_loses_nothing(tmp_path: Path, do: str) -> None:
    journal = tmp_path / "journal.jsonl"
    _play(_until_a_frame_was_wrong(do, replace=False), journal)
    assert len(_faults(journal, do)) == 1
    sent = numbers_sent(journal, 1, SYMBOL)
    assert sent == list(range(1, max(sent) + 1))


def test_a_binary_message_in_a_text_frame_arrives_as_no_valid_text(tmp_path: Path) -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("binary_in_text", replace=True)
        messages = await client.messages_until(lambda message: message.type is not aiohttp.WSMsgType.BINARY)
        assert messages[-1].type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSED)

    _play(story, tmp_path / "journal.jsonl")


def test_a_huge_frame_is_as_large_as_asked_for(tmp_path: Path) -> None:
    async def story(server: ExchangeServer, client: Client) -> int:
        await client.command("huge_frame", bytes=10_000_000)
        messages = await client.messages_until(lambda message: _decoded(message) is None)
        return len(messages[-1].data)

    assert _play(story, tmp_path / "journal.jsonl") == 10_000_000


@pytest.mark.parametrize("bytewise", [False, True])
def test_a_split_frame_is_the_same_message(tmp_path: Path, bytewise: bool) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> list[str]:
        await client.command("split", frames=3, bytewise=bytewise)
        await eventually(lambda: len(_faults(journal, "split")) == 3)
        seen = len(client.trade_ids(SYMBOL))
        await client.collect_until(lambda one: len(one.trade_ids(SYMBOL)) > seen + 100)
        return client.trade_ids(SYMBOL)

    received = _play(story, journal)
    assert received == [row["id"] for row in rows_of(journal, "made")][: len(received)]


def test_a_duplicate_is_an_exact_copy_of_the_newest_frames(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> list[bytes]:
        await client.command("duplicate", frames=2)
        await client.collect_until(lambda one: len(set(one.raw_frames)) <= len(one.raw_frames) - 2)
        return client.raw_frames

    frames = _play(story, journal)
    twice = [frame for place, frame in enumerate(frames) if frame in frames[:place]]
    assert len(twice) == 2
    ids = [deal.tradeId for frame in twice for deal in PushDataV3ApiWrapper.FromString(frame).publicAggreDeals.deals]
    made = {row["n"]: row["id"] for row in rows_of(journal, "made")}
    again = [row["n"] for row in rows_of(journal, "sent") if row.get("why") == "duplicate"]
    assert ids == [made[number] for first, last in again for number in range(first, last + 1)]


def test_reordered_frames_keep_their_own_times(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> list[int]:
        await client.command("reorder")
        await client.collect_until(lambda one: bool(_steps_back(one)))
        return _steps_back(client)

    assert len(_play(story, journal)) == 1
    sent = numbers_sent(journal, 1, SYMBOL)
    assert sent != sorted(sent)
    assert sorted(sent) == list(range(1, max(sent) + 1))


def _steps_back(client: Client) -> list[int]:
    times = [frame.sendTime for frame in client.frames_of(CHANNEL)]
    return [place for place in range(1, len(times)) if times[place] < times[place - 1]]


def test_late_trades_come_later_once_and_with_their_own_times(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> list[Any]:
        await client.command("late", trades=3, seconds=0.2)
        await eventually(lambda: sum(_span(row) for row in _faults(journal, "late")) == 3)
        await client.collect_until(lambda one: bool(_late_frames(one)))
        seen = len(client.trade_ids(SYMBOL))
        await client.collect_until(lambda one: len(one.trade_ids(SYMBOL)) > seen + 50)
        return _late_frames(client)

    frames = _play(story, journal)
    for frame in frames:
        assert all(frame.sendTime - deal.time >= 0.2 * 100 * 1_000 for deal in frame.publicAggreDeals.deals)
    assert sum(len(frame.publicAggreDeals.deals) for frame in frames) == 3
    sent = numbers_sent(journal, 1, SYMBOL)
    assert len(sent) == len(set(sent))


def _span(row: dict[str, Any]) -> int:
    return sum(last - first + 1 for first, last in row["n"])


def _late_frames(client: Client) -> list[Any]:
    late = []
    newest_ms = 0
    for frame in client.frames_of(CHANNEL):
        if frame.publicAggreDeals.deals[0].time < newest_ms:
            late.append(frame)
        newest_ms = max(newest_ms, max(deal.time for deal in frame.publicAggreDeals.deals))
    return late


BAD = [(field, value) for field, values in BAD_VALUES.items() for value in values] + [("id", "")]


@pytest.mark.parametrize("field", ["price", "quantity", "side", "time", "id"])
def test_bad_values_reach_the_wire_as_they_are_in_one_row_of_a_frame(tmp_path: Path, field: str) -> None:
    journal = tmp_path / "journal.jsonl"
    values = [value for name, value in BAD if name == field]
    names = {"price": "price", "quantity": "quantity", "side": "tradeType", "time": "time", "id": "tradeId"}

    async def story(server: ExchangeServer, client: Client) -> set[Any]:
        for value in values:
            await client.command("bad_values", field=field, value=value)
        await eventually(lambda: len(_faults(journal, "bad_values")) == len(values))
        seen = len(client.frames)
        await client.collect_until(lambda one: len(one.frames) > seen + 5 and set(values) <= found(one))
        return found(client)

    def found(client: Client) -> set[Any]:
        rows = [deal for frame in client.frames for deal in frame.publicAggreDeals.deals]
        return {getattr(deal, names[field]) for deal in rows}

    assert set(values) <= _play(story, journal)
    bad = [number for row in _faults(journal, "bad_values") for number, _ in row["n"]]
    sent = numbers_sent(journal, 1, SYMBOL)
    assert (set(bad) <= set(sent)) == (field == "id")  # a trade without its id is still a trade


@pytest.mark.parametrize("then", ["nothing", "close", "reset"])
def test_a_cut_frame_is_followed_by_nothing_at_all(tmp_path: Path, then: str) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("cut_frame", then=then)
        await eventually(lambda: bool(_faults(journal, "cut_frame")))
        if then == "nothing":
            await client.send("PING")
            with pytest.raises(TimeoutError):  # nothing may come: silence cannot be awaited
                await client.messages_until(lambda message: message.type is aiohttp.WSMsgType.TEXT, 0.4)
            return
        assert await client.closed() == 1006

    _play(story, journal)
    lost, sent = _lost(journal), numbers_sent(journal, 1, SYMBOL)
    assert sent == list(range(1, min(lost)))


@pytest.mark.parametrize("rest", [True, False])
def test_swallowed_trades_are_made_and_in_the_candles_but_sent_to_nobody(tmp_path: Path, rest: bool) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("swallow", s=SYMBOL, trades=5, rest=rest)
        await eventually(lambda: len(_lost(journal)) == 5)
        seen = len(client.trade_ids(SYMBOL))
        await client.collect_until(lambda one: len(one.trade_ids(SYMBOL)) > seen + 20)
        made = {row["n"]: row for row in rows_of(journal, "made")}
        lost = [made[number] for number in _lost(journal)]
        assert not {row["id"] for row in lost} & set(client.trade_ids(SYMBOL))
        told = {(row["time"], row["qty"]) for row in await client.get(f"/api/v3/trades?symbol={SYMBOL}&limit=1000")}
        assert ({(row["t"], row["q"]) for row in lost} <= told) == rest
        minute_ms = lost[0]["t"] // 60_000 * 60_000
        await eventually(lambda: server.hub.reached_ms > minute_ms + 120_000)
        query = f"symbol={SYMBOL}&interval=1m&startTime={minute_ms}&endTime={minute_ms}"
        ((_, _, _, _, _, volume, *_),) = await client.get(f"/api/v3/klines?{query}")
        rows = [row for row in rows_of(journal, "made") if row["t"] // 60_000 * 60_000 == minute_ms]
        assert round(float(volume) * 10**6) == sum(round(float(row["q"]) * 10**6) for row in rows)

    _play(story, journal)


def test_a_fault_of_frames_waits_for_the_symbol_it_names(tmp_path: Path) -> None:
    async def run() -> None:
        source = SyntheticSource(1, START_MS, shape=MarketShape(("BTCUSDT", "ETHUSDT"), 40))
        journal = tmp_path / "journal.jsonl"
        async with (
            exchange(source, speed=100, limits=LIMITS, journal=journal) as server,
            connected(server) as client,
            connected(server) as other,
        ):
            await client.subscribe(deals("BTCUSDT"), deals("ETHUSDT"), book_ticker("ETHUSDT"))
            await other.subscribe(deals("BTCUSDT"))
            assert await client.command("truncate", s="ETHUSDT", frames=2) == [1]
            await eventually(lambda: len(_faults(journal, "truncate")) == 2)
            assert {row["s"] for row in _faults(journal, "truncate")} == {"ETHUSDT"}
            assert server.hub.connections
            await eventually(lambda: all(one.faults is None for one in server.hub.connections))

    asyncio.run(run())


def test_every_fault_of_frames_has_a_test() -> None:
    tested = {*SPOILERS, "split", "reorder", "late", "bad_values", "cut_frame"}
    assert set(FRAME_FAULTS) == tested
