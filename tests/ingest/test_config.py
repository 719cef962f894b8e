"""The configuration is checked to the last field."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.processes import REPOSITORY, configuration
from workers.ingest.config import ConfigError, parse

GOOD = configuration("ws://127.0.0.1:1/ws", "http://127.0.0.1:1", "redis://:secret@127.0.0.1:1/0")


def test_what_the_management_command_writes_is_accepted() -> None:
    config = parse(json.dumps(GOOD | {"first_entry_ids": {"0": "1700000000000-3", "1": "0-0"}}).encode(), "file")
    assert config.symbols[1].price_decimals == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": "1"}, "epoch"),
        ({"epoch": 0}, "epoch"),
        ({"shard_count": 0}, "shard_count"),
        ({"token": -1}, "token"),
        ({"ws_url": "http://x"}, "ws_url"),
        ({"ws_url": "ws://"}, "ws_url"),
        ({"rest_url": "127.0.0.1"}, "rest_url"),
        ({"redis_url": "http://x"}, "redis_url"),
        ({"http_port": 70_000}, "http_port"),
        ({"symbols": []}, "symbols"),
        ({"symbols": [GOOD["symbols"][0]] * 2}, "twice"),
        ({"symbols": [{"symbol": "btcusdt", "price_decimals": 2, "quantity_decimals": 2}]}, "symbol"),
        ({"symbols": [{"symbol": "BTCUSDT", "price_decimals": 19, "quantity_decimals": 2}]}, "price_decimals"),
        ({"warmup_bars": 1_000}, "warmup_bars"),
        ({"first_entry_ids": {"2": "0-0"}}, "first_entry_ids"),
        ({"first_entry_ids": {"0": "new"}}, "first_entry_ids"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(json.dumps(GOOD | changes).encode(), "file")


def test_a_missing_field_is_named() -> None:
    config = dict(GOOD)
    del config["token"]
    with pytest.raises(ConfigError, match="token"):
        parse(json.dumps(config).encode(), "file")


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps(GOOD | {"epoch": -1})])
def test_a_file_that_cannot_be_used_ends_with_one_line_and_code_2(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    arguments = [sys.executable, "-m", "workers.ingest", "--config", str(file)]
    done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "config.json" in done.stderr
    assert "secret" not in done.stderr


def test_a_taken_port_ends_with_one_line_and_code_2(tmp_path: Path, taken_port: int) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(GOOD | {"http_port": taken_port}))
    arguments = [sys.executable, "-m", "workers.ingest", "--config", str(file)]
    done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert str(taken_port) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
