"""One signed request, once: within the budget, by the exchange's clock, with a deadline, and never sent again."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from apps.bus.budget import BudgetSpent, pause_seconds
from apps.engine import timeouts
from apps.execution.venues.base import VenueUnclear
from apps.execution.venues.mexc.access import Access
from apps.execution.venues.mexc.errors import Meaning, Refused, read_answer
from apps.execution.venues.mexc.signing import RECV_WINDOW_MS, query_of

# Where the exchange's own tables differ, the heavier number.
WEIGHTS: Final = {
    ("GET", "time"): 1,
    ("POST", "order"): 1,
    ("DELETE", "order"): 1,
    ("GET", "order"): 2,
    ("GET", "openOrders"): 3,
    ("GET", "account"): 10,
    ("GET", "myTrades"): 10,
    ("POST", "userDataStream"): 1,
    ("PUT", "userDataStream"): 1,
    ("GET", "userDataStream"): 1,
    ("DELETE", "userDataStream"): 1,
}
_BODY_BYTES_MAX: Final = 4 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024


class Budget(Protocol):
    """Permission to call (apps.bus.budget.RestBudget)."""

    def take(self, weight: int, *, wait_max_seconds: float = ...) -> float: ...

    def penalty(self, seconds: float) -> None: ...


class Client:
    """Safe to share between threads: each call has a connection of its own.

    `wall_ms` tells our clock; how far the exchange's is from it is asked before the first call and whenever the
    exchange does not like our time. `call_seconds` bounds a call from connecting to the last byte.
    """

    def __init__(
        self,
        access: Access,
        budget: Budget,
        wall_ms: Callable[[], int],
        *,
        call_seconds: float = timeouts.VENUE_CALL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._access = access
        self._budget = budget
        self._wall_ms = wall_ms
        self._call_seconds = call_seconds
        self._monotonic = monotonic
        self._wait = wait or threading.Event().wait
        self._offset_ms: int | None = None

    def __repr__(self) -> str:
        return f"Client({self._access!r})"

    def call(self, method: str, path: str, **values: str | int) -> Any:
        """The document that answers. Raises `Refused` for what is certainly not done, else `VenueUnclear`."""
        offset_ms = self._offset_ms
        if offset_ms is None:
            offset_ms = self._offset_ms = self._measured_offset()
        query = query_of({**values, "recvWindow": RECV_WINDOW_MS, "timestamp": self._wall_ms() + offset_ms})
        try:
            return self._ask(method, path, f"{query}&signature={self._access.sign(query)}")
        except Refused as refusal:
            if refusal.meaning is not Meaning.CLOCK:
                raise
            self._offset_ms = None
            raise VenueUnclear(f"{path}: {refusal}: the clocks are compared before the next call") from None

    def _measured_offset(self) -> int:
        """The exchange's clock minus ours, ms; the answer is taken to be half a round trip old."""
        before = self._wall_ms()
        try:
            document = self._ask("GET", "time", "")
        except Refused as refusal:
            raise VenueUnclear(f"time: {refusal}") from None
        after = self._wall_ms()
        server_ms = document.get("serverTime") if isinstance(document, dict) else None
        if not isinstance(server_ms, int) or server_ms <= 0:
            raise VenueUnclear("time: no time in the answer")
        return server_ms - (before + after) // 2

    def _ask(self, method: str, path: str, query: str) -> Any:
        self._take_turn(method, path)
        try:
            status, retry_after, body = self._exchange(method, f"/api/v3/{path}?{query}")
        except (OSError, http.client.HTTPException) as error:
            # The address of the request holds a signature and perhaps a listen key: only the kind of failure is told.
            raise VenueUnclear(f"{path}: {type(error).__name__}") from None
        self._heed(path, status, retry_after)
        try:
            return read_answer(status, body)
        except VenueUnclear as error:
            raise VenueUnclear(f"{path}: {error}") from None

    def _take_turn(self, method: str, path: str) -> None:
        try:
            seconds = self._budget.take(WEIGHTS[method, path], wait_max_seconds=timeouts.VENUE_TURN_SECONDS)
        except BudgetSpent as error:
            raise VenueUnclear(f"{path}: not sent: {error}") from None
        if seconds:
            self._wait(seconds)

    def _heed(self, path: str, status: int, retry_after: str | None) -> None:
        """After 429 and 418 nobody calls for a while; /account has a limit of its own, which concerns no other call."""
        pause = pause_seconds(status, retry_after)
        if pause is None:
            return
        if path != "account" or retry_after is not None:
            self._budget.penalty(pause)
        raise VenueUnclear(f"{path}: HTTP {status}: asked to pause")

    def _exchange(self, method: str, target: str) -> tuple[int, str | None, bytes]:
        """Status, Retry-After and body. Raises OSError or HTTPException."""
        parts = urlsplit(self._access.url)
        deadline = self._monotonic() + self._call_seconds
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._call_seconds)
        headers = {"X-MEXC-APIKEY": self._access.key}
        if method != "GET":
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, target, headers=headers)
            raw = connection.sock
            raw.settimeout(self._left(deadline))
            response = connection.getresponse()
            body = bytearray()
            while part := response.read1(_CHUNK_BYTES):
                body += part
                if len(body) > _BODY_BYTES_MAX:
                    raise http.client.HTTPException("the answer is too long")
                raw.settimeout(self._left(deadline))
            return response.status, response.getheader("Retry-After"), bytes(body)
        finally:
            connection.close()

    def _left(self, deadline: float) -> float:
        remaining = deadline - self._monotonic()
        if remaining <= 0:
            raise TimeoutError("deadline")
        return remaining
