"""The exchange as a process: its command line, its refusals, and how it ends."""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from apps.engine.recording import HEADER
from tests.exchange.helpers import random_rows, rows_of
from workers.exchange.private.signing import signature_of

ROWS = random_rows(50)


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "workers.exchange", *map(str, arguments)]


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*arguments), capture_output=True, text=True, timeout=30, check=False)


def _write(path: Path, rows: list[str]) -> Path:
    text = "\n".join([HEADER, *rows]) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["trades.csv", "trades.csv.gz"])
def test_a_good_recording_passes_the_check_in_silence(tmp_path: Path, name: str) -> None:
    result = _run("--replay", _write(tmp_path / name, ROWS), "--check")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_filters_beside_a_recording_are_used(tmp_path: Path) -> None:
    path = _write(tmp_path / "trades.csv.gz", ROWS)
    beside = tmp_path / "trades.instruments.json"
    beside.write_text(json.dumps({"ETHUSDT": {"baseAsset": "ETH"}}))
    result = _run("--replay", path, "--check")
    assert result.returncode == 2
    assert result.stderr == f"{beside}:1: ETHUSDT: quoteAsset must be a non-empty text\n"


def _bad_files(directory: Path) -> dict[str, tuple[list[Path], str]]:
    good = _write(directory / "good.csv", ROWS)
    bad_line = _write(directory / "bad.csv", [*ROWS, "ETHUSDT,1900000000000,x,buy,0,1"])
    mixed = _write(directory / "mixed.csv", ["XRPETH,1700000000000,x,buy,1,1"])
    broken = directory / "broken.csv.gz"
    broken.write_bytes(gzip.compress(b"symbol" * 1_000)[:-20])
    not_gzip = directory / "plain.csv.gz"
    not_gzip.write_text("hello")
    binary = directory / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    missing = directory / "missing.csv"
    return {
        "a bad line": ([bad_line], f"{bad_line}:52: price 0 is zero"),
        "mixed quote assets": ([good, mixed], f"{mixed}:2: XRPETH is quoted in ETH, but the rows before in USDT"),
        "the same file twice": ([good, good], f"{good}:2: trade id 7000000 of"),
        "a cut gzip file": ([broken], f"{broken}:1: "),
        "no gzip file": ([not_gzip], f"{not_gzip}:1: cannot be read: Not a gzipped file"),
        "no text": ([binary], f"{binary}:1: the header must be"),
        "no file": ([missing], f"{missing}:1: cannot be read: No such file or directory"),
        "a directory": ([directory], f"{directory}:1: cannot be read: Is a directory"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "a bad line",
        "mixed quote assets",
        "the same file twice",
        "a cut gzip file",
        "no gzip file",
        "no text",
        "no file",
        "a directory",
    ],
)
def test_a_bad_recording_is_one_line_and_exit_code_two(tmp_path: Path, case: str) -> None:
    paths, message = _bad_files(tmp_path)[case]
    arguments = [argument for path in paths for argument in ("--replay", path)]
    for extra in (["--check"], []):
        result = _run(*arguments, *extra)
        assert result.returncode == 2
        assert result.stderr.startswith(message)
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--source", "other"],
        ["--source", "synthetic", "--replay", "x.csv"],
        ["--source", "synthetic", "--speed", "0"],
        ["--source", "synthetic", "--speed", "nan"],
        ["--source", "synthetic", "--port", "70000"],
        ["--source", "synthetic", "--resume-ms", "-1"],
        ["--source", "synthetic", "--rate", "0.5"],
        ["--source", "synthetic", "--rate", "inf"],
        ["--source", "synthetic", "--symbols", "0"],
        ["--source", "synthetic", "--symbols", "5001"],
        ["--source", "synthetic", "--symbols", "btcusdt"],
        ["--source", "synthetic", "--trades-per-second", "0"],
        ["--source", "synthetic", "--script", "/nowhere/script.json"],
    ],
)
def test_bad_arguments_end_with_code_two(arguments: list[str]) -> None:
    assert _run(*arguments).returncode == 2


def test_a_busy_port_is_one_line_and_exit_code_two() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = _run("--source", "synthetic", "--port", port)
    assert result.returncode == 2
    assert result.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_within_two_seconds(signal_number: signal.Signals) -> None:
    with subprocess.Popen(_command("--source", "synthetic"), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            match = re.search(r"event=listening host=127\.0\.0\.1 port=(\d+) source=synthetic", line)
            assert match, line
            with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/exchange/status", timeout=5) as answer:
                assert json.load(answer)["source"] == "synthetic"
            asked_at = time.monotonic()
            process.send_signal(signal_number)
            assert process.wait(timeout=5) == 0
            assert time.monotonic() - asked_at < 2
            assert "event=stopped" in process.stderr.read()
        finally:
            process.kill()


def test_a_busy_market_with_a_journal_and_a_script_is_one_command(tmp_path: Path) -> None:
    journal, script = tmp_path / "journal.jsonl", tmp_path / "script.json"
    script.write_text('[{"at_s": 0, "do": "clock_skew", "ms": 5}]')
    options = ["--source", "synthetic", "--symbols", 300, "--trades-per-second", 200, "--quotes-per-second", 1000]
    options += ["--rate", 60, "--no-trade-ids", "--quote-repeat-ms", 100, "--no-rest-limit"]
    command = _command(*options, "--journal", journal, "--script", script, "--fault-seed", 3)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            match = re.search(r"event=listening .*port=(\d+) .*symbols=300", process.stderr.readline())
            assert match
            assert "event=fault do=clock_skew" in process.stderr.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/exchange/status", timeout=5) as answer:
                assert json.load(answer)["rest"]["limit"] is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0
        finally:
            process.kill()
    start, *rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert (start["k"], start["rate"], start["trade_ids"], len(start["symbols"])) == ("start", 60.0, False, 300)
    assert {"command", "fault"} <= {row["k"] for row in rows}


def test_an_account_is_served_with_a_key_that_was_made_for_it(tmp_path: Path) -> None:
    account, journal = tmp_path / "own.json", tmp_path / "journal.jsonl"
    account.write_text('{"balances": {"USDT": "500"}}')
    command = _command("--source", "synthetic", "--account", account, "--journal", journal)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            match = re.search(r"event=listening .*port=(\d+)", process.stderr.readline())
            assert match
            key, secret = (account.with_suffix(suffix).read_text().strip() for suffix in (".key", ".secret"))
            address = f"http://127.0.0.1:{match[1]}"
            with urllib.request.urlopen(f"{address}/api/v3/time", timeout=5) as answer:
                time_ms = json.load(answer)["serverTime"]
            query = f"timestamp={time_ms}&symbol=BTCUSDT&side=BUY&type=LIMIT&price=1&quantity=5"
            signed = f"{address}/api/v3/order?{query}&signature={signature_of(query, secret)}"
            request = urllib.request.Request(signed, headers={"X-MEXC-APIKEY": key}, method="POST")
            with urllib.request.urlopen(request, timeout=5) as answer:
                order_id = json.load(answer)["orderId"]
            assert [row["id"] for row in rows_of(journal, "order")] == [order_id]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0
            assert secret not in process.stderr.read() + journal.read_text()
        finally:
            process.kill()
    assert len(order_id) >= 20  # ids of a later start are larger


def test_a_real_key_is_refused_before_anything_listens(tmp_path: Path) -> None:
    account, key = tmp_path / "own.json", tmp_path / "own.key"
    account.write_text("{}")
    key.write_text("mx0aBYs33eIilxBWC5\n")
    key.chmod(0o600)
    result = _run("--source", "synthetic", "--account", account)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"{key}: only keys that were made here")
