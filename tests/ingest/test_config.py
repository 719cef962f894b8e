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
LEASE = {"database_url": "postgresql://cdb:secret@127.0.0.1:1/cdb", "holder": "host 17"}


def named(symbol: str) -> dict[str, Any]:
    return {"symbol": symbol, "price_decimals": 2, "quantity_decimals": 2}


def many(count: int) -> list[dict[str, Any]]:
    return [named(f"COIN{number}USDT") for number in range(count)]


def test_what_the_management_command_writes_is_accepted() -> None:
    changes = {"first_entry_ids": {"0": "1700000000000-3", "1": "0-0"}, "token": None, "lease": LEASE}
    config = parse(json.dumps(GOOD | changes).encode(), "file")
    assert config.symbols[1].price_decimals == 4
    assert config.clock_rate == 1.0


@pytest.mark.parametrize("changes", [{"clock_rate": 40}, {"symbols": many(3_000)}, {"rest_url": "http://[::1]:8/"}])
def test_a_wide_range_is_accepted(changes: dict[str, Any]) -> None:
    parse(json.dumps(GOOD | changes).encode(), "file")


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
        ({"ws_url": "ws://exchange:0/ws"}, "ws_url"),
        ({"ws_url": "ws://exchange:99999/ws"}, "ws_url"),
        ({"ws_url": "wss://exchange /ws"}, "ws_url.*wss://HOST"),
        ({"rest_url": "https://exchange\r\nX-Injected: 1"}, "rest_url"),
        ({"rest_url": "ftp://exchange"}, "rest_url.*https://HOST"),
        ({"symbols": []}, "symbols: 0 are named, one ingest follows 1 to 3000"),
        ({"symbols": many(10_000)}, "symbols: 10000 are named, one ingest follows 1 to 3000"),
        ({"symbols": [GOOD["symbols"][0]] * 2}, "BTCUSDT is named twice: remove one"),
        ({"symbols": [named("btcusdt")]}, "'btcusdt' is not a symbol of the exchange: write BTCUSDT"),
        (
            {"symbols": [named("BTC_USDT")]},
            "'BTC_USDT' is not a symbol of the exchange: use 4 to 20 upper-case letters",
        ),
        ({"symbols": [named("BTC")]}, "'BTC' is not a symbol"),
        ({"symbols": [named("BTC\nUSDT")]}, r"'BTC\\nUSDT' is not a symbol"),
        ({"symbols": [named("ＢTCUSDT")]}, "is not a symbol"),
        ({"symbols": [named("A" * 5_000)]}, "'A{40}' is not a symbol"),
        ({"symbols": [named("BTCUSDT") | {"price_decimals": 19}]}, "price_decimals"),
        ({"clock_rate": 0}, "clock_rate"),
        ({"clock_rate": -1.0}, "clock_rate"),
        ({"clock_rate": "fast"}, "clock_rate"),
        ({"token": None}, "give one of the two"),
        ({"lease": LEASE}, "give one of the two"),
        ({"token": None, "lease": LEASE | {"holder": ""}}, "holder"),
        ({"token": None, "lease": LEASE | {"database_url": "mysql://secret@x/y"}}, "lease.database_url"),
        ({"token": None, "lease": {"holder": "a"}}, "database_url"),
        ({"warmup_bars": 1_000}, "warmup_bars"),
        ({"first_entry_ids": {"2": "0-0"}}, "first_entry_ids"),
        ({"first_entry_ids": {"0": "new"}}, "first_entry_ids"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(json.dumps(GOOD | changes).encode(), "file")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 200
    assert "secret" not in str(caught.value)


def test_a_missing_field_is_named() -> None:
    config = dict(GOOD)
    del config["epoch"]
    with pytest.raises(ConfigError, match="epoch"):
        parse(json.dumps(config).encode(), "file")


@pytest.mark.parametrize(
    "content", [None, "{", "[]", json.dumps(GOOD | {"epoch": -1}), json.dumps(GOOD | {"symbols": []})]
)
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
