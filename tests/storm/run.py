"""The parent of the storm: it forks the workers, starts killed ones again, and restarts the database.

It has one thread and no open connection while it forks, so a child inherits nothing that two could use.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.db import connection, connections, transaction

from apps.bus.failpoints import EXIT_STATUS
from apps.ops.embedded.server import die_with_parent
from apps.portfolio.services import lock_account
from apps.risk.services import assess
from apps.signals.models import Signal
from tests.faults.database import WAYS, OwnPostgres
from tests.storm import watch
from tests.storm.worker import become_worker
from tests.storm.world import make_world
from tests.worlds import NOW_MS, World, fresh, sound

POLL_SECONDS: Final = 0.2
IDLE_LOCKS: Final = 30  # decisions with nobody else about: what a lock costs without contention
IN_DECISION: Final = ("risk.after_lock", "risk.before_commit")
# Points behind the decision that every worker comes by. Nothing is published here: there is no broker.
BEHIND: Final = ("sender.before_submitting", "sender.after_submitting", "sender.after_reply")
KILLED_BEHIND_SHARE: Final = 0.2


class Stormed(Exception):
    """The storm itself went wrong: a worker failed, or it took too long."""


@dataclass(frozen=True, slots=True)
class Force:
    """How much of what. `kills` are those inside the decision transaction, at least."""

    signals: int
    processes: int
    connections: int
    kills: int
    restarts: int
    seed: int
    seconds_max: float


@dataclass
class Outcome:
    """What was done to it; what came of it is judged from the database."""

    kills: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    restart_seconds: list[float] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    idle_lock_ms: float = 0.0
    lock_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def kills_in_decision(self) -> int:
        return sum(self.kills[name] for name in IN_DECISION)


class Storm:
    """`folder` takes what the processes write. The database is migrated and empty."""

    def __init__(self, database: OwnPostgres, force: Force, folder: Path) -> None:
        self._database = database
        self._force = force
        self._folder = folder
        self._dice = random.Random(force.seed)
        self._children: dict[int, tuple[int, str]] = {}
        self._births = Counter[int]()
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Make the world, let the storm loose, wait until every signal is decided and every order has ended."""
        watch.install(self._database.url)
        world = self.world = make_world(self._force.signals + IDLE_LOCKS, self._force.seed)
        self.outcome.idle_lock_ms = self._idle(world)
        connections.close_all()
        began = time.monotonic()
        try:
            for number in range(self._force.processes):
                self._begin(number, world)
            self._weather(world, deadline=began + self._force.seconds_max)
        finally:
            self._end_all()
        self.outcome.seconds = time.monotonic() - began
        for path in self._folder.glob("waits-*"):
            self.outcome.lock_ms += [float(line) for line in path.read_text().split()]
        return self.outcome

    def _idle(self, world: World) -> float:
        """The median of a lock's round trip with nobody else about, ms."""
        taken = []
        for signal_id in Signal.objects.order_by("-id").values_list("pk", flat=True)[:IDLE_LOCKS]:
            with transaction.atomic():
                began = time.monotonic()
                lock_account(world.account.pk)
                taken.append((time.monotonic() - began) * 1000)
            assess(signal_id=signal_id, now_ms=NOW_MS, feed=fresh, path=sound)
        return statistics.median(taken)

    def _begin(self, number: int, world: World) -> None:
        """Fork one worker with a point at which it will die, unless enough have died."""
        self._births[number] += 1
        name, plan = self._plan()
        seed = hash((self._force.seed, number, self._births[number]))
        arrange = die_with_parent(signal.SIGKILL)
        pid = os.fork()
        if pid:
            self._children[pid] = (number, name)
            return
        arrange()
        become_worker(
            number, world=world, threads=self._force.connections, plan=plan, folder=self._folder, seed=seed
        )  # fmt: skip

    def _plan(self) -> tuple[str, str]:
        if self.outcome.kills_in_decision >= self._force.kills:
            return "", ""
        most = max(int(self._force.signals / self._force.kills / 2), 2)
        inside = self._dice.choice(IN_DECISION)
        if self._dice.random() >= KILLED_BEHIND_SHARE:
            return inside, f"{inside}:{self._dice.randint(1, most)}"
        # Few signals are approved once the limit is reached: whoever waits for an order only might live for ever.
        behind = self._dice.choice(BEHIND)
        return f"{behind}, else {inside}", f"{behind}:{self._dice.randint(1, 6)},{inside}:{2 * most}"

    def _weather(self, world: World, *, deadline: float) -> None:
        """Until every worker has found nothing left to do."""
        spared = [(n + 1) / (self._force.restarts + 1) for n in range(self._force.restarts)]
        while self._children:
            if time.monotonic() > deadline:
                left = watch.moment(self._database.url)
                raise Stormed(f"not over within {self._force.seconds_max:.0f} s: {left}, {dict(self.outcome.kills)}")
            self._reap(world)
            now = watch.moment(self._database.url)
            if now is not None:
                self.outcome.waiting.append(now.waiting)
                if spared and now.decided >= spared[0] * self._force.signals:
                    spared.pop(0)
                    self._restart()
            time.sleep(POLL_SECONDS)
        if spared:
            raise Stormed(f"{len(spared)} restarts of the database did not find a moment")

    def _restart(self) -> None:
        way = tuple(WAYS)[sum(self.outcome.restarts.values()) % len(WAYS)]
        began = time.monotonic()
        self._database.restart(way)
        self.outcome.restart_seconds.append(time.monotonic() - began)
        self.outcome.restarts[way] += 1

    def _reap(self, world: World) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            number, name = self._children.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code == EXIT_STATUS:
                self.outcome.kills[name] += 1
                self._begin(number, world)
            elif code != 0:
                raise Stormed(f"worker {number} ended with status {code}; its traceback is above")

    def _end_all(self) -> None:
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._children.clear()
        sys.stderr.flush()
        connection.close()
