"""Scripts of faults: what is read, what is refused, and when each command is due."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.helpers import START_MS, connected, deals, eventually, exchange, rows_of
from workers.exchange.faults.commands import FAULTS, BadCommandError, read_command
from workers.exchange.faults.script import Script, ScriptError, read_cue, read_script
from workers.exchange.limits import Limits
from workers.exchange.synthetic import SyntheticSource


@pytest.mark.parametrize("do", sorted(FAULTS))
def test_every_fault_can_be_ordered_by_its_name_alone_or_with_symbols(do: str) -> None:
    command = read_command({"do": do, "s": "BTCUSDT"})
    assert command.do == do
    assert command.connections == "all"
    assert set(command.options) == set(FAULTS[do])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"do": "silence", "seconds": "5"}, "seconds: must be a number"),
        ({"do": "silence", "seconds": True}, "seconds: must be a number"),
        ({"do": "silence", "seconds": -1}, "seconds: must be from 0"),
        ({"do": "silence", "seconds": float("nan")}, "seconds: must be a number"),
        ({"do": "silence", "lose": 1}, "lose: must be true or false"),
        ({"do": "duplicate", "frames": 0}, "frames: must be a whole number"),
        ({"do": "ack", "mode": "shout"}, "mode: must be one of drop"),
        ({"do": "http_status", "status": 204}, "status: must be one of 200"),
        ({"do": "close", "reason": "x" * 201}, "reason: must be a text of at most 200"),
        ({"do": "bad_values", "value": 1.5}, "value: must be a text or a whole number"),
        ({"do": "reset", "c": "some"}, "c: must be a number"),
        ({"do": "reset", "c": True}, "c: must be a number"),
        ({"do": "reset", "s": [5]}, "s: must be a text or a list of texts"),
        ({}, "do: None is none of"),
        ([], "a command is an object"),
    ],
)
def test_a_command_that_cannot_be_understood_is_refused(document: Any, words: str) -> None:
    with pytest.raises(BadCommandError, match=words.replace("(", r"\(")):
        read_command(document)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "cannot be read"),
        ("{}", "must be a list"),
        ('[{"do": "reset"}]', "command 1: needs exactly one of at_s, at_event_s, on_connection"),
        ('[{"at_s": 1, "at_event_s": 2, "do": "reset"}]', "needs exactly one of"),
        ('[{"at_s": 1, "do": "reset"}, {"at_s": -1, "do": "reset"}]', "command 2: at_s must be"),
        ('[{"at_s": 1, "do": "reset", "every_s": 0}]', "every_s must be at least"),
        ('[{"at_s": 1, "do": "explode"}]', "command 1: do: 'explode'"),
        ("[5]", "command 1: must be an object"),
    ],
)
def test_a_script_that_cannot_be_played_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(text)
    with pytest.raises(ScriptError, match=words):
        read_script(path)


def test_a_missing_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="No such file"):
        read_script(tmp_path / "script.json")


def test_commands_are_due_once_in_the_order_of_their_times() -> None:
    cues = [{"at_s": 2, "do": "reset"}, {"at_s": 1, "do": "heal"}, {"at_event_s": 60, "do": "slow_reader"}]
    script = Script([read_cue(cue) for cue in [*cues, {"on_connection": 3, "do": "half_open"}]])
    assert [command.do for command in script.due(0.9, 0, 0)] == []
    assert [command.do for command in script.due(5.0, 59.9, 2)] == ["heal", "reset"]
    assert [command.do for command in script.due(5.0, 60.0, 4)] == ["slow_reader", "half_open"]
    assert [command.do for command in script.due(99.0, 999.0, 9)] == []


def test_a_repeated_command_comes_again_until_its_end_and_makes_up_for_nothing() -> None:
    script = Script([read_cue({"at_s": 1, "do": "reset", "every_s": 2, "until_s": 10})])
    due = [second for second in range(15) for _ in script.due(second, 0, 0)]
    assert due == [1, 3, 5, 7, 9]
    late = Script([read_cue({"at_event_s": 1, "do": "reset", "every_s": 2})])
    assert len(list(late.due(50, 1, 0))) == 1
    assert len(list(late.due(52, 1, 0))) == 1
    assert len(list(late.due(90, 1, 0))) == 1


def test_a_script_is_played_while_the_exchange_runs(tmp_path: Path) -> None:
    path, journal = tmp_path / "script.json", tmp_path / "journal.jsonl"
    commands = [
        {"on_connection": 1, "do": "ack", "mode": "unlisted"},
        {"at_event_s": 5, "do": "swallow", "s": "BTCUSDT", "trades": 2},
        {"at_event_s": 6, "do": "swallow", "s": "NOPEUSDT"},
        {"at_s": 1, "do": "reset", "c": "all"},
    ]
    path.write_text(json.dumps(commands))
    lines: list[str] = []

    async def run() -> None:
        source, limits = SyntheticSource(1, START_MS), Limits(start_grace_seconds=0, tick_seconds=0.02)
        options: dict[str, Any] = {"script": read_script(path), "journal": journal, "lines": lines}
        async with exchange(source, speed=50, limits=limits, **options) as server, connected(server) as client:
            await eventually(lambda: bool(server.rules.acks))
            assert (await client.subscribe(deals("BTCUSDT"))).startswith("Not Subscribed")
            assert await client.subscribe(deals("BTCUSDT")) == deals("BTCUSDT")
            assert await client.closed() == 1006

    asyncio.run(run())
    assert [row["do"] for row in rows_of(journal, "fault")] == ["ack", "swallow", "reset"]
    assert [row["do"] for row in rows_of(journal, "command")] == ["ack", "swallow", "swallow", "reset"]
    assert any("command_failed" in line and "NOPEUSDT is not listed" in line for line in lines)
