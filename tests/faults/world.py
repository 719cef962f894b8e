"""The processes of one run: Valkey, the exchange, the way to it, one or two ingests. And what can be asked of them."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import redis

from tests.faultproxy import FaultProxy
from tests.faults.lane import KeeperFailed, Lane
from tests.faults.processes import Child, Valkey, python, wait_until

WARMUP_BARS: Final = 3
START_SECONDS: Final = 40


@dataclass(frozen=True)
class Setup:
    """What a world is made of. `speed`: how fast event time runs; `rate`: how fast the clock of every rule runs."""

    seed: int
    speed: float
    rate: float
    shards: int
    symbols: int
    trade_ids: bool = True
    tls: bool = False
    standby: bool = False
    rotate_seconds: float | None = None  # of the rules' clock: how old connections become; None: as in production
    exchange_options: tuple[str, ...] = ()


class World:
    """Made and ended once per run. `folder` keeps what a failure is explained with."""

    def __init__(self, lane: Lane, setup: Setup, folder: Path) -> None:
        self.lane = lane
        self.setup = setup
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        self.way = FaultProxy("127.0.0.1", lane.ports["exchange"], port=lane.ports["proxy"], seed=setup.seed)
        self.valkey = Valkey(lane.valkey_program, lane.ports["valkey"], folder / "valkey")
        self.exchange: Child | None = None
        self.ingests: dict[str, Child] = {}
        self.held_down: set[str] = set()  # killed on purpose, not to be started again yet
        self.exits: Counter[int] = Counter()
        self.epoch = 0
        self._database = psycopg.connect(lane.database_url, autocommit=True)

    # --- start and end --------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._start_exchange()
        self.way.start()
        self.valkey.start()
        wait_until("the exchange answers", self.exchange_status, seconds=START_SECONDS)
        answer = self.lane.ask(
            do="begin", rest_url=self.rest_url, ws_url=self.ws_url, source=f"synthetic:{self.setup.seed}",
            shards=self.setup.shards, rate=self.setup.rate,
        )  # fmt: skip
        self.epoch = answer["epoch"]
        for name in ("ingest", "standby") if self.setup.standby else ("ingest",):
            self._write_configuration(name, answer["symbols"])
            self.start_ingest(name)

    def end(self) -> dict[str, Any]:
        """Stop the ingest, let the keeper read the rest, stop the others. Returns the keeper's last answer."""
        self.held_down.update(self.ingests)
        for child in self.ingests.values():
            child.signal(signal.SIGTERM)
        for child in self.ingests.values():
            child.stop()
        return self.lane.ask(do="end")

    def abandon(self) -> None:
        """End the keeper's care for a run that broke, so that the next one finds it free."""
        with suppress(KeeperFailed):
            self.lane.ask(do="end")

    def note(self, words: str) -> None:
        with (self.folder / "script.txt").open("a") as file:
            file.write(words + "\n")

    def destroy(self) -> None:
        """Leave no process behind, whatever state the run is in."""
        for child in (*self.ingests.values(), *([self.exchange] if self.exchange else [])):
            child.signal(signal.SIGCONT)
            child.kill()
        self.valkey.signal(signal.SIGCONT)
        self.valkey.kill()
        self.way.stop()
        self._database.close()

    def stop_exchange(self) -> None:
        """The journal is complete after this."""
        if self.exchange is not None:
            self.exchange.stop()

    # --- the exchange ---------------------------------------------------------------------------------------------

    @property
    def ws_url(self) -> str:
        return f"{'wss' if self.setup.tls else 'ws'}://127.0.0.1:{self.lane.ports['proxy']}/ws"

    @property
    def rest_url(self) -> str:
        return f"{'https' if self.setup.tls else 'http'}://127.0.0.1:{self.lane.ports['exchange']}"

    def _start_exchange(self) -> None:
        setup = self.setup
        options = ["--port", str(self.lane.ports["exchange"]), "--source", "synthetic", "--seed", str(setup.seed)]
        options += ["--speed", str(setup.speed), "--rate", str(setup.rate), "--symbols", str(setup.symbols)]
        options += ["--journal", str(self.journal), *([] if setup.trade_ids else ["--no-trade-ids"])]
        if setup.tls:
            certificate, key = self.lane.certificate
            options += ["--tls-cert", str(certificate), "--tls-key", str(key)]
        command = python("workers.exchange", *options, *setup.exchange_options)
        self.exchange = Child(command, self.folder / "exchange.log")

    def exchange_status(self) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"{self.rest_url}/exchange/status", timeout=5, context=self.lane.tls) as answer:
                found: dict[str, Any] = json.load(answer)
        except OSError:
            return None
        return found

    def command(self, **command: Any) -> None:
        """Have the exchange misbehave. Raises OSError if it does not understand."""
        body = json.dumps(command).encode()
        request = urllib.request.Request(
            f"{self.rest_url}/exchange/control", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=5, context=self.lane.tls):
            pass

    def event_minute(self) -> int:
        status = wait_until("the exchange answers", self.exchange_status, seconds=10)
        return int(status["event_time_ms"]) // 60_000

    # --- the ingest -----------------------------------------------------------------------------------------------

    def _write_configuration(self, name: str, symbols: list[dict[str, Any]]) -> None:
        document = {
            "epoch": self.epoch,
            "shard_count": self.setup.shards,
            "lease": {"database_url": self.lane.database_url, "holder": f"{name} of seed {self.setup.seed}"},
            "ws_url": self.ws_url,
            "rest_url": self.rest_url,
            "redis_url": self.valkey.url,
            "drain_task": "signals.drain_shard",
            "http_host": "127.0.0.1",
            "http_port": self.lane.ports[name],
            "symbols": symbols,
            "warmup_bars": WARMUP_BARS,
            "first_entry_ids": {},
            "clock_rate": self.setup.rate,
        }
        (self.folder / f"{name}.json").write_text(json.dumps(document, indent=1))

    def start_ingest(self, name: str) -> None:
        self.held_down.discard(name)
        configuration = ("--config", str(self.folder / f"{name}.json"))
        command = python("workers.ingest", *configuration)
        if self.setup.rotate_seconds is not None:
            command = python("tests.faults.aged_ingest", str(self.setup.rotate_seconds), *configuration)
        self.ingests[name] = Child(command, self.folder / f"{name}.log", self.lane.environment)

    def holder(self) -> str:
        """The name of the ingest that holds the lease, `ingest` if nobody does."""
        row = self._database.execute(
            "SELECT holder FROM market_ingestlease WHERE epoch_id = %s", [self.epoch]
        ).fetchone()
        return "standby" if row and str(row[0]).startswith("standby") else "ingest"

    def supervise(self) -> None:
        """What the stack's supervisor does: a process that ended is started again."""
        for name, child in list(self.ingests.items()):
            if not child.alive and name not in self.held_down:
                self.exits[child.popen.returncode] += 1
                self.start_ingest(name)

    # --- what can be waited for -----------------------------------------------------------------------------------

    def streaming(self) -> bool:
        """Every connection of the ingest delivers, by its own report."""
        report = self.feed_state()
        connections = report.get("connections", [])
        return bool(connections) and all(row["state"] == "STREAMING" for row in connections)

    def feed_state(self) -> dict[str, Any]:
        try:
            with redis.Redis.from_url(self.valkey.url, socket_timeout=1) as client:
                payload: Any = client.get(f"feed_state:{self.epoch}")
        except redis.RedisError:
            return {}
        return json.loads(payload) if payload else {}

    def closed_through(self, minute: int) -> bool:
        row = self._database.execute(
            """SELECT bool_and(c.closed_minute IS NOT NULL AND c.closed_minute >= %s) FROM market_shardcursor c
                WHERE c.epoch_id = %s AND c.shard IN (SELECT shard FROM market_epochinstrument WHERE epoch_id = %s)""",
            [minute, self.epoch, self.epoch],
        ).fetchone()
        return bool(row and row[0])

    def swept_through(self, minute: int) -> bool:
        """No followed symbol has minutes up to this one that were not compared with klines, or are in doubt."""
        row = self._database.execute(
            """SELECT (SELECT bool_and(COALESCE(swept_minute, 0) >= %s) FROM market_epochinstrument
                        WHERE epoch_id = %s AND followed)
                  AND NOT EXISTS (SELECT 1 FROM market_klinedoubt WHERE epoch_id = %s AND settled_at IS NULL)""",
            [minute, self.epoch, self.epoch],
        ).fetchone()
        return bool(row and row[0])

    def transitions(self, category: str) -> int:
        """How many changes of state of this category were stored."""
        row = self._database.execute(
            "SELECT count(*) FROM market_feedtransition WHERE epoch_id = %s AND category = %s", [self.epoch, category]
        ).fetchone()
        return int(row[0]) if row else 0

    def repairs_due(self, minute: int) -> int:
        """UNPROVEN minutes up to this one with a bar, whose next attempt has come."""
        row = self._database.execute(
            """SELECT count(*) FROM market_coverage c
                WHERE c.epoch_id = %s AND c.minute <= %s AND c.status = 'unproven' AND c.next_attempt_at <= now()
                  AND EXISTS (SELECT 1 FROM market_bar b WHERE b.epoch_id = c.epoch_id
                                 AND b.instrument_id = c.instrument_id AND b.minute = c.minute)""",
            [self.epoch, minute],
        ).fetchone()
        return int(row[0]) if row else 0
