"""The steward's duties for a feed, as the keeper performs them: the same services, more often."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from apps.bus.budget import RestBudget
from apps.market.rest import Rest
from apps.market.services.orders import exchange_orders
from apps.market.services.sweep import sweep
from apps.market.services.transitions import copy_transitions
from apps.signals.services.drain import Tools

ORDERS_SECONDS: Final = 0.2
TRANSITIONS_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 0.5
SYMBOLS_PER_SWEEP: Final = 20


@dataclass
class Duty:
    """`due` is on the machine's monotonic clock."""

    every_seconds: float
    perform: Callable[[], object]
    due: float = 0.0


def duties(epoch: int, rest_url: str, rate: float, tools: Tools) -> list[Duty]:
    """`rate`: how fast the exchange counts what we ask of it."""
    rest = Rest(rest_url, RestBudget(tools.writer, rate=rate), wait_max_seconds=1.0)
    return [
        Duty(ORDERS_SECONDS, lambda: exchange_orders(epoch=epoch, client=tools.writer, now_ms=_now_ms())),
        Duty(TRANSITIONS_SECONDS, lambda: copy_transitions(epoch=epoch, client=tools.reader)),
        Duty(SWEEP_SECONDS, lambda: sweep(epoch=epoch, rest=rest, now_ms=_now_ms(), limit=SYMBOLS_PER_SWEEP)),
    ]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
