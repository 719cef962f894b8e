"""A TCP connection within bounds that hold for looking up the name too, which the system itself leaves unbounded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from apps.engine import timeouts
from workers.ingest.clock import Clock

Address = tuple[Any, ...]
Resolve = Callable[[str, int], list[Address]]
_PENDING_MAX: Final = 8


class NameUnresolved(OSError):
    """The host's name has no address, or nobody told it in time."""


def system_resolve(host: str, port: int) -> list[Address]:
    """(family, type, protocol, canonical name, address) rows of the operating system."""
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


_lookups: Final = threading.BoundedSemaphore(_PENDING_MAX)


class _Lookup(threading.Thread):
    """One resolution. It cannot be cut short: it is left behind when it takes too long, and counted until it ends."""

    def __init__(self, resolve: Resolve, host: str, port: int) -> None:
        super().__init__(name="resolve", daemon=True)
        self.rows: list[Address] = []
        self.error: OSError | None = None
        self._ask: Callable[[], list[Address]] = partial(resolve, host, port)

    def run(self) -> None:
        try:
            self.rows = self._ask()
        except OSError as error:
            self.error = error
        finally:
            _lookups.release()


def dial(host: str, port: int, clock: Clock, *, resolve: Resolve = system_resolve) -> socket.socket:
    """A connected socket. Tries each address in turn; raises OSError with the last one's reason.

    Bounded by the clock: three seconds for the name, five for each address, ten in all.
    """
    deadline = clock.monotonic() + timeouts.FEED_CONNECT_SECONDS
    error: OSError = NameUnresolved(f"{host} has no address")
    for family, kind, protocol, _, address in _resolve(host, port, clock, resolve):
        remaining = min(deadline - clock.monotonic(), timeouts.FEED_TCP_CONNECT_SECONDS)
        if remaining <= 0:
            raise TimeoutError(f"timed out connecting to {host}")
        raw = socket.socket(family, kind, protocol)
        try:
            raw.settimeout(clock.machine_seconds(remaining))
            raw.connect(address)
        except OSError as refused:
            raw.close()
            error = refused
        else:
            return raw
    raise error


def _resolve(host: str, port: int, clock: Clock, resolve: Resolve) -> list[Address]:
    wait_seconds = clock.machine_seconds(timeouts.FEED_RESOLVE_SECONDS)
    if not _lookups.acquire(timeout=wait_seconds):
        raise NameUnresolved(f"{_PENDING_MAX} earlier questions for names are still unanswered")
    lookup = _Lookup(resolve, host, port)
    lookup.start()
    lookup.join(wait_seconds)
    if lookup.is_alive():
        raise NameUnresolved(f"{host} was not resolved within {timeouts.FEED_RESOLVE_SECONDS} s")
    if lookup.error is not None:
        raise NameUnresolved(f"{host} cannot be resolved: {lookup.error.strerror or lookup.error}")
    return lookup.rows
