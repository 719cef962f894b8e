"""`manage.py stack` as a person or a script uses it, up to the point where it would start processes."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from apps.ops.embedded.home import open_home, pick_port
from apps.ops.stack.manager import REPOSITORY
from apps.ops.stack.runtime import Options, Runtime, plan_runtime, read_runtime
from apps.ops.stack.services import services


def stack(data: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    unset = ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "PORT")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, "manage.py", "stack", *arguments],
        cwd=REPOSITORY,
        env={**inherited, "CDB_DATA_DIR": str(data), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(answer: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert answer.returncode == 2, answer.stderr
    (line,) = answer.stderr.strip().splitlines()
    return line


def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        line = refusal(stack(tmp_path / "data", "up", "--detach", "--port", str(port)))
    assert line == f"cdb: port {port} is busy: stop what uses it, or choose another one with PORT="


def test_a_missing_recording_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    line = refusal(stack(tmp_path / "data", "up", "--detach", "--replay", str(tmp_path / "none.csv")))
    assert "none.csv" in line
    assert not (tmp_path / "data").exists()


def test_a_bad_line_of_a_recording_is_named_with_file_and_number(tmp_path: Path) -> None:
    recording = tmp_path / "bad.csv"
    recording.write_text(
        "symbol,time_ms,trade_id,aggressor_side,price,quantity\nXRPUSDT,1570752000000,1,buy,0.27,10\nXRPUSDT,x\n"
    )
    line = refusal(stack(tmp_path / "data", "up", "--detach", "--replay", str(recording)))
    assert "bad.csv" in line
    assert "3" in line
    assert not (tmp_path / "data").exists()


def test_a_replay_of_the_real_feed_makes_no_sense(tmp_path: Path) -> None:
    line = refusal(stack(tmp_path / "data", "up", "--mode", "live", "--replay", "x.csv"))
    assert line == "cdb: a replay has no real feed: use --mode demo"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CDB_SHARDCOUNT", "4", "unknown setting CDB_SHARDCOUNT"),
        ("CDB_SHARD_COUNT", "many", "CDB_SHARD_COUNT='many' is not a whole number"),
        ("CDB_SYMBOLS", "btc-usdt", "'btc-usdt' is not a symbol"),
    ],
)
def test_a_wrong_setting_stops_the_start(tmp_path: Path, name: str, value: str, words: str) -> None:
    answer = stack(tmp_path / "data", "up", "--detach", "--port", str(pick_port()), **{name: value})
    assert words in refusal(answer)
    assert not (tmp_path / "data" / "run").exists()


def test_a_missing_secret_is_one_line(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    (home.root / "secrets" / "flower_password").unlink()
    line = refusal(stack(home.root, "up", "--detach", "--port", str(pick_port())))
    assert line.startswith("cdb: secret flower_password: cannot read")


def test_a_data_directory_of_another_version_is_one_line(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    (home.root / "layout").write_text('{"layout": 99, "instance": "a"}')
    line = refusal(stack(home.root, "up", "--detach", "--port", str(pick_port())))
    assert line == f"cdb: data directory {home.root} has layout version 99, this program needs 1"


@pytest.mark.parametrize("arguments", [("--speed", "-1"), ("--speed", "fast"), ("--port", "0"), ("--port", "x")])
def test_a_malformed_option_is_refused(tmp_path: Path, arguments: tuple[str, str]) -> None:
    answer = stack(tmp_path / "data", "up", *arguments)
    assert answer.returncode == 2
    assert f"argument {arguments[0]}: '{arguments[1]}' is not" in answer.stderr


def test_an_unknown_tier_is_refused_before_the_servers_start(tmp_path: Path) -> None:
    line = refusal(stack(tmp_path / "data", "up", "--detach", "--port", str(pick_port()), "--tier", "brave"))
    assert line.startswith("cdb: tier BRAVE is not one of ")
    assert not (tmp_path / "data" / "run").exists()


def test_without_a_stack_status_says_so_and_down_has_nothing_to_do(tmp_path: Path) -> None:
    answer = stack(tmp_path / "data", "status", "--json")
    assert (answer.returncode, json.loads(answer.stdout)["healthy"]) == (1, False)
    assert stack(tmp_path / "data", "down").returncode == 0
    assert refusal(stack(tmp_path / "data", "restart")).endswith("start it with `make demo`")
    assert not (tmp_path / "data").exists()


def test_the_doctor_names_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    key = home.root / "secrets" / "django_secret_key"
    key.chmod(0o644)
    answer = stack(home.root, "doctor", CDB_TYPO="1")
    assert answer.returncode == 1
    problems = [line for line in answer.stdout.splitlines() if line.startswith("problem")]
    assert f"problem  {key} can be read by others: chmod go= {key}" in problems
    assert any("unknown setting CDB_TYPO" in line for line in problems)


def test_ports_are_kept_between_starts_and_replaced_when_busy(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    first = plan_runtime(home, Options(port=8000), None, {})
    again = plan_runtime(home, Options(port=8000), first, {})
    assert again == first
    assert first.postgres_port is not None
    with socket.create_server(("127.0.0.1", first.postgres_port)):
        moved = plan_runtime(home, Options(port=8000), first, {})
    assert moved.postgres_port != first.postgres_port
    assert moved.valkey_port == first.valkey_port
    ports = {moved.postgres_port, moved.valkey_port, moved.flower_port, moved.ingest_http_port, moved.exchange["port"]}
    assert len(ports | {moved.standby_http_port}) == 6


@pytest.mark.parametrize("standby", [True, False])
def test_the_standby_runs_only_if_it_is_wanted(tmp_path: Path, standby: bool) -> None:
    home = open_home(tmp_path / "data")
    runtime = plan_runtime(home, Options(port=8000), None, {})
    if not standby:
        runtime = dataclasses.replace(runtime, standby_http_port=None)
    assert ("ingest-standby" in [one.name for one in services(runtime)]) is standby


def test_servers_given_by_address_get_no_port_and_no_process(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    given = {"DATABASE_URL": "postgresql://a@b/c", "REDIS_URL": "redis://d/0"}
    runtime = plan_runtime(home, Options(port=8000), None, given)
    assert (runtime.database_url, runtime.redis_url) == tuple(given.values())
    assert (runtime.postgres_port, runtime.valkey_port) == (None, None)


def test_the_runtime_file_is_private_and_reads_as_it_was_written(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    options = Options("demo", 8001, ("/a.csv", "/b.csv"), 600.0, "NORMAL", 3)
    runtime = plan_runtime(home, options, None, {})
    runtime.write(home)
    assert (home.root / "runtime.json").stat().st_mode & 0o777 == 0o600
    found = read_runtime(home.root)
    assert isinstance(found, Runtime)
    assert found == runtime
    assert (found.options, found.mode) == (options, "replay")
