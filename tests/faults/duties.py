"""The steward's duties for a feed, as the keeper performs them: the same services, more often."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from apps.market.services.orders import exchange_orders
from apps.market.services.transitions import copy_transitions
from apps.signals.services.drain import Tools

ORDERS_SECONDS: Final = 0.2
TRANSITIONS_SECONDS: Final = 1.0


@dataclass
class Duty:
    """`due` is on the machine's monotonic clock."""

    every_seconds: float
    perform: Callable[[], object]
    due: float = 0.0


def duties(epoch: int, rest_url: str, tools: Tools) -> list[Duty]:
    return [
        Duty(
            ORDERS_SECONDS,
            lambda: exchange_orders(epoch=epoch, client=tools.writer, now_ms=time.time_ns() // 1_000_000),
        ),
        Duty(TRANSITIONS_SECONDS, lambda: copy_transitions(epoch=epoch, client=tools.reader)),
    ]
