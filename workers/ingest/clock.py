"""The one clock of the ingest's timeouts, with a rate so that a test can live through a day in minutes."""

from __future__ import annotations

import time


class Clock:
    """`rate` clock seconds pass per second of the machine. Safe to share between threads."""

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        return time.monotonic() * self.rate

    def machine_seconds(self, clock_seconds: float) -> float:
        """How long a socket or a lock really has to wait for `clock_seconds` to pass."""
        return clock_seconds / self.rate

    def since_boot(self) -> float:
        """Seconds of the machine, whatever the rate; go on while this process, or the machine, sleeps. For leases."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    @staticmethod
    def wall_ms() -> int:
        """The machine's wall clock in ms; for stamps and entry ids, never for timeouts."""
        return time.time_ns() // 1_000_000
