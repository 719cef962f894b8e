"""A wrong setting stops every kind of process with one line and exit code 2, and never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.sources import REPOSITORY

CHECK = (sys.executable, "manage.py", "check")
PROCESSES = {
    "manage.py": CHECK,
    "worker": (sys.executable, "-m", "celery", "-A", "cdb_project", "worker", "--queues=nobody"),
    "beat": (sys.executable, "-m", "celery", "-A", "cdb_project", "beat"),
    "flower": (sys.executable, "-m", "celery", "-A", "cdb_project", "flower", "--address=127.0.0.1", "--port=0"),
    "web": (sys.executable, "-m", "uvicorn", "cdb_project.asgi:application", "--host=127.0.0.1", "--port=0"),
}
NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "PORT", "DJANGO_SECRET_KEY_FILE")

WRONG_VARIABLES = [
    ("CDB_SHARDCOUNT", "4", "unknown setting CDB_SHARDCOUNT (known: CDB_ALLOWED_HOSTS, "),
    ("PORT", "http", "PORT='http' is not a whole number from 1 to 65535"),
    ("PORT", "0", "PORT='0' is not a whole number from 1 to 65535"),
    ("PORT", "65536", "PORT='65536' is not a whole number from 1 to 65535"),
    ("PORT", "80\n80", r"PORT='80\n80' is not a whole number from 1 to 65535"),
    ("PORT", "８０", "PORT='８０' is not a whole number from 1 to 65535"),
    ("CDB_SHARD_COUNT", "four", "CDB_SHARD_COUNT='four' is not a whole number from 1 to 64"),
    ("CDB_SHARD_COUNT", "0", "CDB_SHARD_COUNT='0' is not a whole number from 1 to 64"),
    ("CDB_SHARD_COUNT", "4.0", "CDB_SHARD_COUNT='4.0' is not a whole number from 1 to 64"),
    ("CDB_INGEST_STANDBY", "2", "CDB_INGEST_STANDBY='2' is not a whole number from 0 to 1"),
    ("CDB_SYMBOLS", "BTC/USDT", "CDB_SYMBOLS: 'BTC/USDT' is not a symbol such as BTCUSDT"),
    ("CDB_SYMBOLS", "btcusdt", "CDB_SYMBOLS: 'btcusdt' is not a symbol such as BTCUSDT: write BTCUSDT"),
    ("CDB_SYMBOLS", "BTCUSDT,ETHUSDT,BTCUSDT", "CDB_SYMBOLS names BTCUSDT twice"),
    ("CDB_SYMBOLS", ",", "CDB_SYMBOLS names no symbol: list some, such as BTCUSDT,ETHUSDT, or unset it"),
    (
        "CDB_SYMBOLS",
        ",".join(f"C{number}USDT" for number in range(10_000)),
        "CDB_SYMBOLS names 10000 symbols, at most 2000 can be followed: name fewer",
    ),
    ("CDB_SCREENER", "turnover", "CDB_SCREENER='turnover' is not such as turnover:20:USDT or movement:10:USDT"),
    ("CDB_SCREENER", "volume:20:USDT", "CDB_SCREENER='volume:20:USDT' is not such as turnover:20:USDT"),
    ("CDB_SCREENER", "turnover:20:usdt", "CDB_SCREENER='turnover:20:usdt' is not such as turnover:20:USDT"),
    ("CDB_SCREENER", "turnover:-1:USDT", "CDB_SCREENER='turnover:-1:USDT' is not such as turnover:20:USDT"),
    (
        "CDB_SCREENER",
        "movement:0:USDT",
        "CDB_SCREENER='movement:0:USDT': 0 symbols cannot be followed, ask for 1 to 2000",
    ),
    (
        "CDB_SCREENER",
        "turnover:10000:USDT",
        "CDB_SCREENER='turnover:10000:USDT': 10000 symbols cannot be followed, ask for 1 to 2000",
    ),
    ("CDB_LOG_LEVEL", "info", "CDB_LOG_LEVEL='info' is not one of DEBUG, INFO, WARNING, ERROR"),
    ("CDB_PROCESS_ROLE", "admin", "CDB_PROCESS_ROLE='admin' is not one of web, worker"),
    ("DATABASE_URL", "localhost/cdb", "DATABASE_URL is not an address such as postgresql://"),
    ("DATABASE_URL", "sqlite:///cdb.sqlite", "DATABASE_URL is not an address such as postgresql://"),
    ("DATABASE_URL", "postgresql://cdb@127.0.0.1:5432", "DATABASE_URL is not an address such as postgresql://"),
    ("REDIS_URL", "127.0.0.1:6379", "REDIS_URL is not an address such as redis://"),
    ("REDIS_URL", "redis://127.0.0.1:port/0", "REDIS_URL is not an address such as redis://"),
]

WRONG_FILES = [
    ("secrets/django_secret_key", None, "secret DJANGO_SECRET_KEY: cannot read {path}: No such file or directory"),
    ("secrets/django_secret_key", b" \n", "secret DJANGO_SECRET_KEY: {path} is empty"),
    ("secrets/django_secret_key", b"\xff\xfe", "secret DJANGO_SECRET_KEY: {path} is not text"),
    (
        "secrets/order_notional_cap",
        b"5,000\n",
        "secret ORDER_NOTIONAL_CAP is not an amount above 0 such as 5000 or 2500.50",
    ),
    ("secrets/order_notional_cap", b"0.00", "secret ORDER_NOTIONAL_CAP is not an amount above 0"),
    ("secrets/order_notional_cap", b"-1", "secret ORDER_NOTIONAL_CAP is not an amount above 0"),
    ("secrets/order_notional_cap", b"", "secret ORDER_NOTIONAL_CAP: {path} is empty"),
    ("runtime.json", b"{", "{path} is not readable as JSON (Expecting property name"),
    ("runtime.json", b"", "{path} is not readable as JSON (Expecting value"),
    ("runtime.json", b"\xff", "{path} is not readable as JSON ("),
    ("runtime.json", b"[]", "{path} does not hold an object; remove it and start the stack again"),
    ("runtime.json", b'{"port": "http"}', "{path}: port 'http' is not a port; remove the file"),
    ("runtime.json", b'{"port": true}', "{path}: port True is not a port; remove the file"),
    ("runtime.json", b'{"redis_url": "nowhere"}', "REDIS_URL is not an address such as redis://"),
]


@pytest.fixture
def data_directory(tmp_path: Path) -> Path:
    """A data directory with which every process starts."""
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "django_secret_key").write_text("a key for one test\n")
    return tmp_path


def run(command: tuple[str, ...], data_directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CDB_") and k not in NOT_INHERITED}
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**inherited, "CDB_DATA_DIR": str(data_directory), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_line(answer: subprocess.CompletedProcess[str], begins: str) -> None:
    assert answer.stderr.startswith(f"cdb: {begins}"), answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert answer.stdout == ""
    assert answer.returncode == 2


def test_sound_settings_pass(data_directory: Path) -> None:
    answer = run(CHECK, data_directory, PORT="", CDB_SHARD_COUNT="64", CDB_SYMBOLS="BTCUSDT, ETHUSDT,")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_screener_beside_a_list_of_symbols_is_one_line(data_directory: Path) -> None:
    answer = run(CHECK, data_directory, CDB_SCREENER="turnover:20:USDT", CDB_SYMBOLS="BTCUSDT")
    assert_one_line(answer, "CDB_SCREENER and CDB_SYMBOLS are both set: choose one")


@pytest.mark.parametrize(("name", "value", "line"), WRONG_VARIABLES, ids=lambda value: str(value)[:40])
def test_a_wrong_variable_is_one_line(data_directory: Path, name: str, value: str, line: str) -> None:
    assert_one_line(run(CHECK, data_directory, **{name: value}), line)


@pytest.mark.parametrize(("file", "content", "line"), WRONG_FILES)
def test_a_wrong_file_is_one_line(data_directory: Path, file: str, content: bytes | None, line: str) -> None:
    path = data_directory / file
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    assert_one_line(run(CHECK, data_directory), line.format(path=path))


def test_a_secret_that_may_not_be_read_is_one_line(data_directory: Path) -> None:
    """A directory cannot be read as a file by anybody, root included."""
    named = data_directory / "elsewhere"
    named.mkdir()
    answer = run(CHECK, data_directory, DJANGO_SECRET_KEY_FILE=str(named))
    assert_one_line(answer, f"secret DJANGO_SECRET_KEY: cannot read {named}: Is a directory")


def test_the_line_never_quotes_an_address_with_its_password(data_directory: Path) -> None:
    answer = run(CHECK, data_directory, DATABASE_URL="mysql://cdb:canary@127.0.0.1/cdb")
    assert_one_line(answer, "DATABASE_URL is not an address")
    assert "canary" not in answer.stderr


@pytest.mark.parametrize("process", PROCESSES)
def test_every_kind_of_process_says_it_in_one_line(data_directory: Path, process: str) -> None:
    answer = run(PROCESSES[process], data_directory, CDB_LOG_LEVEL="loud")
    assert_one_line(answer, "CDB_LOG_LEVEL='loud' is not one of DEBUG, INFO, WARNING, ERROR")
