"""The ground truth: every trade that was made, numbered without a hole, and what was sent to whom."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.exchange.helpers import (
    START_MS,
    SYMBOLS,
    connected,
    deals,
    eventually,
    exchange,
    numbers_sent,
    random_rows,
    recording_of,
    replay_of,
    rows_of,
)
from workers.exchange.frames import decimal_text
from workers.exchange.instruments import MarketShape
from workers.exchange.journal import Journal, spans_of
from workers.exchange.limits import Limits
from workers.exchange.synthetic import SyntheticSource

AT_ONCE = Limits(start_grace_seconds=0)


def test_every_trade_is_journaled_once_in_order_and_as_it_is_on_the_wire(tmp_path: Path) -> None:
    rows = random_rows(400, minutes=5)
    journal = tmp_path / "journal.jsonl"

    async def run() -> None:
        source = replay_of(rows)
        async with exchange(source, speed=60_000, journal=journal) as server, connected(server) as client:
            await client.subscribe(*map(deals, SYMBOLS))
            await eventually(lambda: server.hub.finished)

    asyncio.run(run())
    made = rows_of(journal, "made")
    for symbol in SYMBOLS:
        own = [row for row in made if row["s"] == symbol]
        assert [row["n"] for row in own] == list(range(1, len(own) + 1))
        expected = []
        for trade in recording_of(rows).rows():
            spec = replay_of(rows).instruments[symbol]
            price, quantity = decimal_text(spec.price_decimals), decimal_text(spec.quantity_decimals)
            if trade.symbol == symbol:
                texts = price(trade.price_ticks), quantity(trade.quantity_steps)
                expected.append((trade.time_ms, trade.trade_id, *texts, trade.side))
        assert [(row["t"], row["id"], row["p"], row["q"], row["side"]) for row in own] == expected


def test_sent_lines_say_which_connection_was_sent_what(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def run() -> dict[str, list[str]]:
        source = SyntheticSource(1, START_MS)
        async with (
            exchange(source, speed=60, journal=journal, limits=AT_ONCE) as server,
            connected(server) as one,
            connected(server) as two,
        ):
            await one.subscribe(deals("BTCUSDT"), deals("ETHUSDT"))
            await two.subscribe(deals("ETHUSDT"))
            for client in (one, two):
                await client.collect_until(lambda c: len(c.trade_ids("ETHUSDT")) > 200)
            return {"one": one.trade_ids("ETHUSDT"), "two": two.trade_ids("ETHUSDT")}

    received = asyncio.run(run())
    ids = {row["n"]: row["id"] for row in rows_of(journal, "made") if row["s"] == "ETHUSDT"}
    for number, name in ((1, "one"), (2, "two")):
        sent = [ids[found] for found in numbers_sent(journal, number, "ETHUSDT")]
        assert sent[: len(received[name])] == received[name]
    assert numbers_sent(journal, 1, "BTCUSDT")
    assert not numbers_sent(journal, 2, "BTCUSDT")
    assert [row["c"] for row in rows_of(journal, "opened")] == [1, 2]
    assert sorted(row["c"] for row in rows_of(journal, "closed")) == [1, 2]


def test_trades_of_symbols_that_nobody_asked_for_are_made_all_the_same(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    source = SyntheticSource(1, START_MS)

    async def run() -> int:
        async with exchange(source, speed=600, journal=journal, limits=AT_ONCE) as server, connected(server) as client:
            await client.subscribe(deals("BTCUSDT"))
            await eventually(lambda: server.hub.reached_ms > START_MS + 120_000)
            return server.hub.reached_ms

    reached_ms = asyncio.run(run())
    assert rows_of(journal, "time")[-1]["t"] >= reached_ms
    for symbol in source.instruments:
        told = source.trades(symbol, START_MS, START_MS + 119_999).prints()
        made = [row for row in rows_of(journal, "made") if row["s"] == symbol and row["t"] < START_MS + 120_000]
        assert [row["id"] for row in made] == [row.trade_id.decode() for row in told]


def test_a_time_line_follows_the_trades_it_completes(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def run() -> None:
        source = SyntheticSource(1, START_MS)
        async with exchange(source, speed=600, journal=journal, limits=AT_ONCE) as server, connected(server) as client:
            await client.subscribe(deals("BTCUSDT"))
            await eventually(lambda: server.hub.reached_ms > START_MS + 60_000)

    asyncio.run(run())
    complete_ms = 0
    for row in rows_of(journal, "made", "time"):
        if row["k"] == "time":
            complete_ms = row["t"]
        else:
            assert row["t"] > complete_ms


def test_without_ids_they_are_empty_in_the_journal_too(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def run() -> None:
        source = SyntheticSource(1, START_MS, shape=MarketShape(trade_ids=False))
        async with exchange(source, speed=60, journal=journal, limits=AT_ONCE) as server, connected(server) as client:
            await client.subscribe(deals("BTCUSDT"))
            await client.collect_until(lambda c: len(c.trade_ids("BTCUSDT")) > 20)
            assert set(client.trade_ids("BTCUSDT")) == {""}

    asyncio.run(run())
    assert {row["id"] for row in rows_of(journal, "made")} == {""}


def test_a_reader_sees_whole_lines_while_it_grows(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    source = SyntheticSource(1, START_MS)
    written = Journal(journal, source, lambda: 5)
    trades = source.trades("BTCUSDT", START_MS, START_MS + 600_000).prints()
    for number, row in enumerate(trades, 1):
        written.made("BTCUSDT", number, [row])
        if number % 100 == 0:
            written.flush()
            assert [json.loads(line)["n"] for line in journal.read_text().splitlines()] == list(range(1, number + 1))
    written.close()
    again = Journal(journal, source, lambda: 6)
    again.event("start")
    again.close()
    assert json.loads(journal.read_text().splitlines()[-1]) == {"k": "start", "wall_ms": 6}
    assert len(journal.read_text().splitlines()) == len(trades) + 1


@pytest.mark.parametrize(
    ("numbers", "spans"),
    [
        ([], []),
        ([5], [(5, 5)]),
        (range(1, 4), [(1, 3)]),
        ([1, 2, 4, 5, 9], [(1, 2), (4, 5), (9, 9)]),
    ],
)
def test_numbers_become_stretches_without_a_hole(numbers: list[int], spans: list[tuple[int, int]]) -> None:
    assert spans_of(numbers) == spans
