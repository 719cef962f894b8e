"""Answers to subscriptions that are refusals, late, partial, missing or worded in another way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.helpers import START_MS, Client, book_ticker, connected, deals, eventually, exchange, rows_of
from workers.exchange.faults.commands import ACK_MODES
from workers.exchange.faults.script import read_script
from workers.exchange.faults.wording import AckFault, spoilt
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer
from workers.exchange.synthetic import SyntheticSource

A, B, C = deals("BTCUSDT"), deals("ETHUSDT"), book_ticker("BTCUSDT")
NOT_C = f"Not Subscribed successfully! [{C}]."
NOT_ALL = f"Not Subscribed successfully! [{A},{B}]."
LIMITS = Limits(start_grace_seconds=0, tick_seconds=0.02)
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


# mode, accepted and refused as asked for -> channels that are delivered, text
WORDINGS = [
    ("drop", [A, B], [], [A, B], None),
    ("delay", [A, B], [], [A, B], f"{A},{B}"),
    ("no_id", [A], [], [A], A),
    ("partial", [A, B, C], [], [A], A),
    ("partial", [A], [], [], None),
    ("partial", [A, B], [C], [A], f"Subscribed successful! [{A}]. {NOT_C} Reason\uff1a Blocked! "),
    ("mixed", [A, B, C], [], [A, B], f"Subscribed successful! [{A},{B}]. {NOT_C} Reason\uff1a Blocked! "),
    ("mixed", [C], [], [], f"{NOT_C}  Reason\uff1a Blocked! "),
    ("no_blank", [A, B, C], [], [A, B], f"Subscribed successful! [{A},{B}]. {NOT_C[:-1]}.Reason\uff1aBlocked!"),
    ("no_blank", [], [A, B], [], f"{NOT_ALL[:-1]}.Reason\uff1aBlocked!"),
    ("ascii_colon", [A], [C], [A], f"Subscribed successful! [{A}]. {NOT_C} Reason: Blocked! "),
    ("unlisted", [A, B], [], [], "Not Subscribed successfully!  Reason\uff1a Blocked! "),
    ("error", [A, B], [], [], "system busy"),
]


@pytest.mark.parametrize(("mode", "accepted", "refused", "delivered", "text"), WORDINGS)
def test_an_answer_is_worded_as_its_mode_says(
    mode: str, accepted: list[str], refused: list[str], delivered: list[str], text: str | None
) -> None:
    answer = spoilt(AckFault(mode, 1.0, None), accepted, refused)
    assert (list(answer.accepted), answer.text) == (delivered, text)
    assert answer.code == (1 if mode == "error" else 0)


def test_every_mode_is_in_the_table() -> None:
    assert {row[0] for row in WORDINGS} == set(ACK_MODES)


def test_a_dropped_answer_is_missing_once_and_the_channels_are_delivered(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"

    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("ack", mode="drop")
        await client.send("SUBSCRIPTION", A)
        await client.collect_until(lambda one: bool(one.frames_of(A)))
        assert await client.subscribe(A) == A

    _play(story, journal)
    assert [(row["do"], row["mode"]) for row in rows_of(journal, "fault")] == [("ack", "drop")]


def test_a_delayed_answer_comes_after_data() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("ack", mode="delay", seconds=0.3)
        assert await client.subscribe(A) == A
        assert client.frames_of(A)

    _play(story)


def test_an_answer_without_its_id_has_id_zero_and_an_error_a_code() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("ack", mode="no_id")
        await client.send("SUBSCRIPTION", A, request_id=7)
        assert await client.next_text() == {"id": 0, "code": 0, "msg": A}
        await client.command("ack", mode="error")
        await client.send("SUBSCRIPTION", B, request_id=8)
        assert await client.next_text() == {"id": 8, "code": 1, "msg": "system busy"}

    _play(story)


def test_answers_of_some_connections_only_and_so_many_times() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        async with connected(server) as other:
            await client.command("ack", mode="unlisted", c=2, times=2)
            assert await client.subscribe(A) == A
            for _ in range(2):
                assert (await other.subscribe(A)).startswith("Not Subscribed successfully!  Reason")
            assert await other.subscribe(A) == A

    _play(story)


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({}, [A, B, C]),
        ({"s": "BTCUSDT"}, [A, C]),
        ({"s": ["BTCUSDT", "ETHUSDT"]}, [A, B, C]),
        ({"channels": [C]}, [C]),
        ({"channels": [C], "s": "ETHUSDT"}, [B, C]),
    ],
)
def test_refused_channels_are_refused_until_healed(options: dict[str, Any], refused: list[str]) -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        await client.command("refuse", **options)
        text = await client.subscribe(A, B, C)
        assert f"Not Subscribed successfully! [{','.join(refused)}]." in text
        assert {channel.text for one in server.hub.connections for channel in one.channels} == {A, B, C} - set(refused)
        await client.command("heal")
        assert await client.subscribe(A, B, C) == f"{A},{B},{C}"

    _play(story)


def test_a_refusal_ends_by_itself_and_leaves_what_is_subscribed_alone() -> None:
    async def story(server: ExchangeServer, client: Client) -> None:
        assert await client.subscribe(A) == A
        await client.command("refuse", seconds=0.2)
        seen = len(client.frames)
        await client.collect_until(lambda one: len(one.frames) > seen + 3)
        await eventually(lambda: not server.rules.refuses(B))
        assert await client.subscribe(B) == B

    _play(story)


def test_a_script_orders_refusals_before_anybody_comes(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps([{"at_s": 0, "do": "refuse"}]))

    async def run() -> None:
        async with (
            exchange(SyntheticSource(1, START_MS), script=read_script(path)) as server,
            connected(server) as client,
        ):
            assert (await client.subscribe(A)).startswith("Not Subscribed")

    asyncio.run(run())
