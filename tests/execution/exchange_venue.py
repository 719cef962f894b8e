"""The venue that speaks to the local exchange, and accounts there, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from apps.bus.budget import BudgetSpent
from apps.engine import timeouts
from apps.execution.venues.mexc import Access, Client, ListenKeys, MexcVenue, VenueRefused, read_access
from tests.exchange.helpers import PrivateExchange, rows_of

SYMBOL = "XRPUSDT"


class OpenBudget:
    """Calls as many as anybody likes, until the exchange asks for a pause."""

    def __init__(self) -> None:
        self.paused: list[float] = []

    def take(self, weight: int, *, wait_max_seconds: float = 0.0) -> float:
        del weight, wait_max_seconds
        if self.paused:
            raise BudgetSpent(self.paused[-1])
        return 0.0

    def penalty(self, seconds: float) -> None:
        self.paused.append(seconds)


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def client_of(
    exchange: PrivateExchange,
    *,
    budget: OpenBudget | None = None,
    call_seconds: float = timeouts.VENUE_CALL_SECONDS,
    clock: Callable[[], int] = wall_ms,
) -> Client:
    access = read_access(exchange.url, exchange.key_file, exchange.secret_file)
    return Client(access, budget or OpenBudget(), clock, call_seconds=call_seconds)


def venue_at(exchange: PrivateExchange, symbols: Iterable[str] = (SYMBOL,), **options: Any) -> MexcVenue:
    """A venue that knows the symbols but, like a process that has just begun, no order."""
    return MexcVenue(client_of(exchange, **options), symbols=lambda: symbols, symbol_of=lambda _: None)


def keys_of(exchange: PrivateExchange) -> ListenKeys:
    return ListenKeys(client_of(exchange))


def received(exchange: PrivateExchange, client_order_id: str) -> int:
    """How many orders of this id the exchange has accepted, by its journal."""
    exchange.command("heal")  # and write the journal
    return [row["client"] for row in rows_of(exchange.journal, "order")].count(client_order_id)


def refusal_of(url: str) -> str:
    """Why the venue does not call this address; empty if it would."""
    try:
        Access(url, "mx0testaaaaaaaaaaaa", "s")
    except VenueRefused as refused:
        return str(refused)
    return ""


class _Recorder(BaseHTTPRequestHandler):
    """Tells the time and nothing else."""

    server: _RecordingServer

    def _note(self) -> None:
        is_time = self.path.startswith("/api/v3/time")
        if not is_time:
            self.server.seen.append((self.command, self.path, dict(self.headers)))
        self.send_response(200 if is_time else 503)
        self.end_headers()
        self.wfile.write(f'{{"serverTime":{wall_ms()}}}'.encode())

    def do_GET(self) -> None:
        self._note()

    def do_POST(self) -> None:
        self._note()

    def log_message(self, *_: object) -> None:
        """The requests are kept, not printed."""


class _RecordingServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Recorder)
        self.seen: list[tuple[str, str, dict[str, str]]] = []


@contextmanager
def recording(secret: str, directory: Path) -> Iterator[tuple[MexcVenue, list[tuple[str, str, dict[str, str]]]]]:
    """A venue, and what it sends: (method, path with query, headers) of each request but those for the time."""
    key_file, secret_file = directory / "r.key", directory / "r.secret"
    for path, text in ((key_file, "mx0testaaaaaaaaaaaa"), (secret_file, secret)):
        path.touch(mode=0o600)
        path.write_text(text)
    with _RecordingServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        access = read_access(f"http://127.0.0.1:{server.server_port}", key_file, secret_file)
        client = Client(access, OpenBudget(), wall_ms)
        yield MexcVenue(client, symbols=lambda: (SYMBOL,), symbol_of=lambda _: None), server.seen
        server.shutdown()
        thread.join()
