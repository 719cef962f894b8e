"""Real processes for whole-worker tests: a Valkey that may be killed, the local exchange, the ingest."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import redis

from apps.bus import codec, streams
from apps.engine.events import Event, TradeBlock
from apps.ops.embedded import binaries
from apps.ops.embedded.home import open_home, pick_port

REPOSITORY: Final = Path(__file__).resolve().parents[2]
EPOCH: Final = 7


def wait_until(condition: Callable[[], Any], words: str, seconds: float = 20.0) -> Any:
    """The first true value of `condition`; looks every 20 ms."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {words}")


class Process:
    """A child process whose output goes to a file."""

    def __init__(self, arguments: Sequence[str], log_file: Path) -> None:
        self.log_file = log_file
        with log_file.open("ab") as log:
            self.popen = subprocess.Popen(arguments, cwd=REPOSITORY, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, wait, and return its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(how)
        try:
            return self.popen.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise


class Valkey:
    """A server on a port of its own that keeps its append-only file over a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = pick_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.program = self._program()
        self.process: Process | None = None

    def _program(self) -> str:
        home = open_home(self.folder / "home")
        return str(binaries.valkey_program(home))

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--appendonly", "yes", "--save", ""]
        self.process = Process([self.program, *options, "--dir", str(self.folder)], self.folder / "valkey.log")
        wait_until(self._answers, "Valkey answers")

    def kill(self) -> None:
        assert self.process is not None
        self.process.end(signal.SIGKILL)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class Exchange(Process):
    """The local exchange replaying `files`, or its synthetic market if there are none."""

    def __init__(
        self,
        files: Sequence[Path],
        speed: float,
        folder: Path,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.port = port or pick_port()
        source = [argument for file in files for argument in ("--replay", str(file))] or ["--source", "synthetic"]
        arguments = ["--port", str(self.port), "--speed", str(speed), *source, *options]
        super().__init__([sys.executable, "-m", "workers.exchange", *arguments], folder / "exchange.log")
        wait_until(lambda: "event=listening" in self.log or self.popen.poll() is not None, "the exchange listens", 60)
        assert self.popen.poll() is None, self.log

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def configuration(ws_url: str, rest_url: str, redis_url: str, **changes: Any) -> dict[str, Any]:
    """What `manage.py run_ingest` would write, for two symbols unless told otherwise."""
    return {
        "epoch": EPOCH,
        "shard_count": 2,
        "token": 1,
        "ws_url": ws_url,
        "rest_url": rest_url,
        "redis_url": redis_url,
        "drain_task": "signals.drain_shard",
        "http_host": "127.0.0.1",
        "http_port": pick_port(),
        "symbols": [
            {"symbol": "BTCUSDT", "price_decimals": 2, "quantity_decimals": 6},
            {"symbol": "XRPUSDT", "price_decimals": 4, "quantity_decimals": 2},
        ],
        "warmup_bars": 60,
        "first_entry_ids": {},
    } | changes


class Ingest(Process):
    """`python -m workers.ingest` with this configuration."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        name = config["lease"]["holder"] if config.get("lease") else f"ingest-{config['token']}"
        file = folder / f"{name}.json"
        file.write_text(json.dumps(config))
        self.port = config["http_port"]
        super().__init__([sys.executable, "-m", "workers.ingest", "--config", str(file)], folder / f"{name}.log")

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; (0, "") while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def healthy(self) -> bool:
        return self.get("/health")[0] == 200

    def metric(self, name: str) -> float:
        """The sum of a metric's samples with this name (and labels, if they are part of it)."""
        body = self.get("/metrics")[1]
        values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$", body, re.MULTILINE)
        return sum(map(float, values))

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100


def stream_events(client: redis.Redis, shard_count: int = 2, epoch: int = EPOCH) -> list[list[Event]]:
    """Per shard every event on its stream, in order; fails if ids do not grow."""
    shards = []
    for shard in range(shard_count):
        events: list[Event] = []
        last = (0, -1)
        for entry_id, payload in streams.scan(client, epoch, shard, start="0-1"):
            assert payload is not None
            assert streams.entry_order(entry_id) > last
            last = streams.entry_order(entry_id)
            events += codec.decode(payload)
        shards.append(events)
    return shards


def published_trades(client: redis.Redis, shard_count: int = 2) -> list[tuple[str, int, str, int, int, int]]:
    """(symbol, time, trade id, side, ticks, steps) of every trade on the streams, sorted."""
    rows = []
    for events in stream_events(client, shard_count):
        for block in events:
            if isinstance(block, TradeBlock):
                columns = zip(block.ts_event, block.trade_id, block.side, block.price, block.quantity, strict=True)
                rows += [(block.symbol, *row) for row in columns]
    return sorted(rows)
