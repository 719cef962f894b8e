"""One ingest from start to stop: which threads there are and how they end."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import redis
from prometheus_client import CollectorRegistry

from apps.bus import clients
from apps.bus.budget import RestBudget
from apps.bus.doorbell import Doorbell
from apps.bus.orders import write_outcome
from workers.ingest import log, stored
from workers.ingest.bell import Bell
from workers.ingest.blockade import Blockade
from workers.ingest.builder import Builder
from workers.ingest.clock import Clock
from workers.ingest.commander import Commander
from workers.ingest.config import Config
from workers.ingest.connection import Connection
from workers.ingest.consumer import Consumer
from workers.ingest.feeds import Feeds
from workers.ingest.inbox import Doubted, Inbox, Repaired
from workers.ingest.lease import Right
from workers.ingest.metrics import IngestCollector, publish_latency
from workers.ingest.publisher import EntryIds, Publisher
from workers.ingest.repairer import Repairer
from workers.ingest.report import Report, Reporter
from workers.ingest.rest import Rest
from workers.ingest.ring import Ring
from workers.ingest.roster import Roster
from workers.ingest.standby import Turn, wait_for_turn
from workers.ingest.symbols import SymbolState, make_states
from workers.ingest.tally import Tally
from workers.ingest.transitions import Transitions
from workers.ingest.warmup import Warmup
from workers.ingest.web import StatusServer

STOPPED: Final = 0
FAILED: Final = 1
FENCED: Final = 3
FLUSH_SECONDS: Final = 2
_STOP_READING_SECONDS: Final = 1.5
_REDIS_RETRY_SECONDS: Final = 0.5
# What is live goes first: repairs wait while so much of it waits already.
_REPAIR_ROWS_MAX: Final = 20_000
_REPAIR_FRAMES_MAX: Final = 2_000


@dataclass(slots=True)
class _Outcome:
    code: int
    words: str


class Worker:
    """`run` blocks until `stop`, a newer ingest or an error of our own ends it, and returns the exit code."""

    def __init__(self, config: Config, server: StatusServer, clock: Clock, dice: random.Random) -> None:
        self._config = config
        self._server = server
        self._clock = clock
        self._dice = dice
        self._ended = threading.Event()
        self._outcome: _Outcome | None = None

    def stop(self, words: str = "asked to stop") -> None:
        """Ask `run` to flush and return. Safe in a signal handler."""
        self._end(STOPPED, words)

    def fail(self, words: str) -> None:
        """A thread died of an error nobody foresaw: end, and let the supervisor start afresh."""
        self._end(FAILED, words)

    def run(self) -> int:
        clock = self._clock
        tally = Tally(log.BoundedLog(clock.monotonic))
        turn = wait_for_turn(self._config, self._server, clock, tally, self._ended, self._fenced)
        threads = None if turn is None else self._start(turn, tally)
        self._ended.wait()
        outcome = self._outcome or _Outcome(FAILED, "ended without an outcome")
        log.event("ending", code=outcome.code, words=outcome.words)
        if outcome.code == STOPPED:
            if threads is not None:
                threads.flush()
            if turn is not None:
                turn.right.give_back()
        return outcome.code

    def _start(self, turn: Turn, tally: Tally) -> _Threads | None:
        """Everything that runs while it is our turn; None if a stop came first."""
        config = turn.config
        states = make_states(config.symbols, config.shard_count)
        for symbol in turn.warm & states.keys():
            states[symbol].warmed = True
        ids = self._read_stored(config, states, tally)
        if ids is None:
            return None
        threads = _Threads(config, turn.right, self._server, self._clock, self._dice, tally, states, ids, self._fenced)
        threads.start()
        return threads

    def _read_stored(self, config: Config, states: dict[str, SymbolState], tally: Tally) -> dict[int, str] | None:
        """The last entry ids, with the trade ids remembered. Waits for Redis; None if a stop came first."""
        client = clients.reader(config.redis_url)
        while not self._ended.is_set():
            try:
                ids = stored.last_ids(client, config)
                count = stored.refill(client, config, states)
            except redis.RedisError as error:
                tally.log.warn("redis_error", type(error).__name__, operation="start", error=str(error))
                self._ended.wait(_REDIS_RETRY_SECONDS)
                continue
            log.event("stream_read", last_ids=ids, remembered_trades=count)
            return ids
        return None

    def _fenced(self, words: str) -> None:
        self._end(FENCED, words)

    def _end(self, code: int, words: str) -> None:
        if self._outcome is None:
            self._outcome = _Outcome(code, words)
        self._ended.set()


class _Threads:
    """All threads of a running ingest, from the sockets to the stream."""

    def __init__(
        self,
        config: Config,
        right: Right,
        server: StatusServer,
        clock: Clock,
        dice: random.Random,
        tally: Tally,
        states: dict[str, SymbolState],
        ids: dict[int, str],
        on_fenced: Callable[[str], None],
    ) -> None:
        token = right.token
        registry = CollectorRegistry()
        doorbell = Doorbell(config.redis_url, config.drain_task)
        self._server = server
        self._clock = clock
        self._registry = registry
        self._inbox = Inbox()
        self._ended = threading.Event()
        self._bell = Bell(lambda shard: doorbell.ring(config.epoch, shard), tally, clock)
        ring = Ring(token, clock.monotonic)
        self._publisher = Publisher(
            clients.writer(config.redis_url),
            config.epoch,
            token,
            EntryIds(ids),
            ring,
            tally,
            clock,
            may_write=right.valid,
            on_dirty=self._bell.order,
            on_fenced=on_fenced,
            observe_latency=publish_latency(registry).observe,
        )
        transitions, blockade = Transitions(token), Blockade()

        def make(name: str, symbols: tuple[str, ...]) -> Connection:
            own_dice = random.Random(dice.random())
            common = self._inbox, tally, clock, own_dice, transitions, config.rotation_seconds, blockade
            return Connection(name, symbols, config.ws_url, *common)

        self._wanted = config.symbols
        self._roster = Roster(make, self._inbox)
        builder = Builder(token, states, ring, tally, clock)
        budget = RestBudget(clients.glance(config.redis_url), rate=clock.rate)
        warmup = Warmup(Rest(config.rest_url, budget, clock, self._ended), config.warmup_bars, tally, clock)
        ask_again = self._roster.subscribe_again
        feeds = Feeds(states, config.shard_count, builder, warmup, tally, clock, ask_again)
        self._consumer = Consumer(feeds, self._inbox, builder, clock)
        rest = Rest(config.rest_url, budget, clock, self._ended)
        self._repairer = self._make_repairer(config, right, rest, clock, tally, states, ring)
        self._commander = Commander(
            clients.reader(config.redis_url),
            config.epoch,
            tally,
            on_symbols=self._roster.want,
            on_doubts=lambda doubts: self._inbox.put(Doubted(tuple(doubts))),
            on_repairs=self._repairer.wish,
        )
        self._report = Report(right, self._roster, feeds, transitions, tally, ring, self._inbox, self._publisher, clock)
        self._report.add("repairs", self._repairer.report)
        self._report.add("budget", budget.report)
        self._reporter = Reporter(clients.writer(config.redis_url), config.epoch, self._report, on_fenced)

    def start(self) -> None:
        self._registry.register(IngestCollector(self._report))
        self._server.open(self._report, self._registry)
        for thread in (self._bell, self._publisher, self._consumer, self._reporter):
            thread.start()
        self._roster.want(self._wanted)
        self._repairer.start()
        self._commander.start()

    def flush(self) -> None:
        """Stop reading, pass on what was read, publish it within two seconds."""
        self._ended.set()
        self._commander.stop()
        self._repairer.stop()
        connections = self._roster.stop()
        deadline = self._clock.monotonic() + _STOP_READING_SECONDS
        for connection in connections:
            connection.join(self._clock.machine_seconds(max(0.0, deadline - self._clock.monotonic())))
        self._consumer.stop()
        self._consumer.join(FLUSH_SECONDS)
        self._publisher.stop(FLUSH_SECONDS)
        self._publisher.join(FLUSH_SECONDS + 0.5)
        self._bell.stop()
        self._bell.join(0.5)
        self._reporter.stop()
        unpublished = self._report.ring.trades
        log.event("flushed", level=logging.WARNING if unpublished else logging.INFO, unpublished_trades=unpublished)

    def _make_repairer(
        self,
        config: Config,
        right: Right,
        rest: Rest,
        clock: Clock,
        tally: Tally,
        states: dict[str, SymbolState],
        ring: Ring,
    ) -> Repairer:
        answers = clients.writer(config.redis_url)
        return Repairer(
            right.token,
            rest,
            clock,
            tally,
            instruments=states.get,
            event_time_ms=lambda: tally.event_time_ms,
            may_work=lambda: right.valid() and self._publisher.reachable,
            has_room=lambda: ring.rows < _REPAIR_ROWS_MAX and self._inbox.frames < _REPAIR_FRAMES_MAX,
            hand_over=lambda event: self._inbox.put(Repaired((event,))),
            say=lambda outcome: write_outcome(answers, config.epoch, outcome),
        )
