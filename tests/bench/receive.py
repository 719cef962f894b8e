"""Frames per second through the ingest, beside ccxt.pro and beside websocket-client's bare receive loop.

One server process sends the same frames (`flood.py`) to one receiver after the other, five rounds of them, once over
one connection and once over 34. The server, Valkey and this process share one core, the receiver has the other one to
itself. Ours is the process that `make up` starts, with everything on, writing to a Valkey with an append-only file; it
is done when the last trade of every symbol is on the stream. Then every entry is read and every trade looked for.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import redis

from apps.bus import codec, streams
from apps.engine.events import Loss, QuoteBlock, TradeBlock, Watermark
from apps.ops.embedded.home import pick_port
from tests.bench.flood import PRICE_DECIMALS, QUANTITY_DECIMALS, SYMBOLS, deal, instruments, make_loads, number_of
from tests.ingest.processes import EPOCH, REPOSITORY, Ingest, Valkey, configuration, stream_events

ROUNDS: Final = 5
FRAMES: Final = 100_000
SHARDS: Final = 4  # the default of CDB_SHARD_COUNT
_GIVE_UP_SECONDS: Final = 150
_POLL_SECONDS: Final = 0.005
_DRAIN_SECONDS: Final = 0.1

Outcome = dict[str, float]


class FloodServer:
    """The process of `flood.py`, on the first core, and what it says about when it began."""

    def __init__(self, connections: int, frames: int, core: int, seconds: float = 0.0) -> None:
        self.port = pick_port()
        numbers = [self.port, connections, frames, *([seconds] if seconds else [])]
        command = [sys.executable, "-m", "tests.bench.flood", *map(str, numbers)]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(self.process.pid, {core})
        self._read("listening")

    def began_ns(self) -> int:
        return int(self._read("go ").split()[2])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self, beginning: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(beginning), line
        return line


def measure(rounds: int = ROUNDS, frames: int = FRAMES) -> dict[str, Any]:
    """Medians of `rounds`: over one connection, and under `connections_34` over 34. Rates are frames per second."""
    figures: dict[str, Any] = {}
    everything, cores = os.sched_getaffinity(0), sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    try:
        figures |= shape(1, rounds, frames, cores[0], cores[-1])
        figures["connections_34"] = shape(34, rounds, frames, cores[0], cores[-1])
    finally:
        os.sched_setaffinity(0, everything)
    return figures


def shape(connections: int, rounds: int, frames_wanted: int, core: int, receiver_core: int) -> dict[str, float]:
    loads = make_loads(connections, frames_wanted)
    frames, trades = sum(load.frames for load in loads), sum(load.trades for load in loads)
    server = FloodServer(connections, frames_wanted, core)
    runs: dict[str, list[Outcome]] = {}
    try:
        for _ in range(rounds):
            for kind in ("ceiling", "bare", "ccxt"):
                outcome = _run(server, kind, connections, frames_wanted, frames, trades, receiver_core)
                runs.setdefault(kind, []).append(outcome)
            runs.setdefault("ours", []).append(ours(server, connections, frames, trades, receiver_core))
    finally:
        server.end()
    rate = {kind: statistics.median(run["fps"] for run in outcomes) for kind, outcomes in runs.items()}
    work = {
        kind: statistics.median(run["frames_per_cpu_second"] for run in runs[kind]) for kind in ("bare", "ccxt", "ours")
    }
    return {
        "frames": frames,
        "trades": trades,
        "ceiling_fps": rate["ceiling"],
        "bare_fps": rate["bare"],
        "ours_fps": rate["ours"],
        "ccxt_fps": rate["ccxt"],
        "ours_over_ccxt": rate["ours"] / rate["ccxt"],
        "ours_over_bare": rate["ours"] / rate["bare"],
        "ours_lost_trades": max(run["lost_trades"] for run in runs["ours"]),
        "ccxt_lost_trades": statistics.median(run["lost_trades"] for run in runs["ccxt"]),
        **{f"{kind}_frames_per_cpu_second": value for kind, value in work.items()},
    }


def _run(server: FloodServer, kind: str, connections: int, wanted: int, frames: int, trades: int, core: int) -> Outcome:
    numbers = map(str, (server.port, connections, wanted, frames, core))
    command = [sys.executable, "-m", "tests.bench.receivers", kind, *numbers]
    child = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=_GIVE_UP_SECONDS)
    said = json.loads(child.stdout)
    frames = said.get("frames", frames)
    return _outcome(frames, server.began_ns(), said["ended_ns"], said["cpu_seconds"], trades - said["trades"])


def _outcome(frames: int, began_ns: int, ended_ns: int, cpu_seconds: float, lost: int) -> Outcome:
    seconds = (ended_ns - began_ns) / 1e9
    return {"fps": frames / seconds, "frames_per_cpu_second": frames / max(cpu_seconds, 1e-6), "lost_trades": lost}


def ours(server: FloodServer, connections: int, frames: int, trades: int, core: int) -> Outcome:
    """The real worker, from the first byte to the last trade on the stream."""
    with tempfile.TemporaryDirectory(prefix="cdb-bench-") as name:
        folder = Path(name)
        valkey = Valkey(folder)
        valkey.start()
        config = configuration(
            f"ws://127.0.0.1:{server.port}/ws",
            "http://127.0.0.1:9",
            valkey.url,
            symbols=[
                {"symbol": one.symbol, "price_decimals": PRICE_DECIMALS, "quantity_decimals": QUANTITY_DECIMALS}
                for one in instruments(SYMBOLS[connections])
            ],
            shard_count=SHARDS,
            warmup_bars=0,
        )
        ingest = Ingest(config, folder)
        os.sched_setaffinity(ingest.popen.pid, {core})
        try:
            began_ns = server.began_ns()
            cpu = ingest.cpu_seconds()
            with valkey.client() as client:
                ended_ns = _until_all_is_there(client, ingest, trades)
                cpu = ingest.cpu_seconds() - cpu
                resident_bytes = _resident_bytes(ingest.popen.pid)
                lost = _check(client, connections, trades)
        finally:
            ingest.end(signal.SIGKILL)
            valkey.kill()
    more = {"cpu_seconds": cpu, "resident_bytes": resident_bytes}
    return _outcome(frames, began_ns, ended_ns, cpu, lost) | more


def _resident_bytes(pid: int) -> int:
    """How much memory a process really has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _until_all_is_there(client: redis.Redis, ingest: Ingest, trades: int) -> int:
    """When the last trade was appended. Clears the wake flags now and then, as a drain does, so that the bell rings."""
    deadline, drained_at = time.monotonic() + _GIVE_UP_SECONDS, time.monotonic()
    seen, after = 0, dict.fromkeys(range(SHARDS), streams.START)
    while True:
        for shard in range(SHARDS):
            for entry_id, payload in streams.read(client, EPOCH, shard, after=after[shard], count=100):
                after[shard] = entry_id
                assert payload is not None
                seen += sum(len(e.ts_event) for e in codec.decode(payload) if isinstance(e, TradeBlock))
        if seen >= trades:
            return time.monotonic_ns()
        assert ingest.popen.poll() is None, ingest.log
        assert time.monotonic() < deadline, f"{seen} of {trades} trades are there\n{ingest.log[-3000:]}"
        if time.monotonic() - drained_at > _DRAIN_SECONDS:
            drained_at = time.monotonic()
            client.delete(*(streams.dirty_key(EPOCH, shard) for shard in range(SHARDS)))
        time.sleep(_POLL_SECONDS)


def _check(client: redis.Redis, connections: int, trades: int) -> int:
    """How many of the trades sent are not on the stream. Fails if one is there twice, changed, out of order or lost."""
    last: Counter[str] = Counter()
    seen, marks, quotes = 0, 0, 0
    for events in stream_events(client, SHARDS):
        for event in events:
            assert not isinstance(event, Loss), event
            marks += isinstance(event, Watermark)
            quotes += len(event.ts_event) if isinstance(event, QuoteBlock) else 0
            if not isinstance(event, TradeBlock):
                continue
            for row in zip(event.ts_event, event.price, event.quantity, event.side, event.trade_id, strict=True):
                number = number_of(row[-1])
                assert number > last[event.symbol], f"{row} of {event.symbol} is doubled or out of order"
                last[event.symbol] = number
                price, quantity, side, _, trade_id = deal(number, 0)
                ticks, steps = int(price.replace(".", "")), int(quantity.replace(".", ""))
                assert row[1:] == (ticks, steps, side, trade_id), row
                seen += 1
    assert marks, "no watermark"
    assert quotes, "no quote"
    assert len(last) == SYMBOLS[connections]
    return trades - seen


if __name__ == "__main__":
    connections, rounds, frames = map(int, sys.argv[1:])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    print(json.dumps(shape(connections, rounds, frames, cores[0], cores[-1]), indent=2))
