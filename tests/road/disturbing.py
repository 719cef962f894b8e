"""A running stack disturbed at random, by a seed: drains and the trade worker are stopped for moments and killed.

A drain that stood still reads more at once than one that did not, and one that was killed reads again: so a stream is
split in a way that nothing else would give. A trade worker that stood still decides late, and books its fills late.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import psutil

from tests.road.stack import Stack, wait_until

DRAINS: Final = ("drain-0", "drain-1")
TRADE: Final = "trade"
# How long each stands still and in between, seconds. Below two seconds a signal is never too old to be decided on.
STOPPED: Final = {"drain-0": (0.05, 0.8), "drain-1": (0.05, 0.8), TRADE: (0.1, 1.2)}
BETWEEN: Final = (0.1, 1.0)
KILLED_AT: Final = ((0.30, 0.40), (0.60, 0.70))  # shares of the recording: one drain, then the trade worker


@dataclass
class Disturber:
    """`stops` and `kills` count what was done, by service."""

    stack: Stack
    dice: random.Random
    stops: Counter[str] = field(default_factory=Counter)
    kills: list[str] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)

    def run(self, *, seconds: float) -> None:
        """Until the recording is over, which must be within so many seconds."""
        waiting = [
            (self.dice.uniform(*KILLED_AT[0]), self.dice.choice(DRAINS)),
            (self.dice.uniform(*KILLED_AT[1]), TRADE),
        ]
        deadline = time.monotonic() + seconds
        self._look()
        while time.monotonic() < deadline:
            status = self.stack.exchange_status()
            if status["finished"]:
                assert not waiting, f"over before {waiting} was killed"
                return
            share = (status["event_time_ms"] - status["start_ms"]) / (status["end_ms"] - status["start_ms"])
            if waiting and share >= waiting[0][0]:
                self._kill(waiting.pop(0)[1])
            self._stop(self.dice.choice([*DRAINS, TRADE]))
            time.sleep(self.dice.uniform(*BETWEEN))
        raise AssertionError(f"the recording was not over within {seconds:.0f} s")

    def _look(self) -> None:
        self.pids = {row["name"]: row["pid"] for row in self.stack.status()["services"]}

    def _kill(self, name: str) -> None:
        """kill -9 of the service's main process; the stack starts another one."""
        before = self.pids[name]
        os.kill(before, signal.SIGKILL)
        self.kills.append(name)

        def back() -> bool:
            self._look()
            return self.pids[name] not in (before, None)

        wait_until(f"{name} is started again", back, seconds=60, every=0.5)

    def _stop(self, name: str) -> None:
        with stopped(self.pids[name]):
            time.sleep(self.dice.uniform(*STOPPED[name]))
        self.stops[name] += 1


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process and those that it started stand still meanwhile."""
    family: list[psutil.Process] = []
    try:
        main = psutil.Process(pid)
        family = [main, *main.children(recursive=True)]
        for process in family:
            process.suspend()
    except psutil.NoSuchProcess:
        pass  # it was killed, and another one is being started
    try:
        yield
    finally:
        for process in family:
            if process.is_running():
                process.resume()
