"""The venue that speaks to the local exchange, and accounts there, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from apps.bus.budget import BudgetSpent
from apps.engine import timeouts
from apps.execution.venues.mexc import Client, ListenKeys, MexcVenue, read_access
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
