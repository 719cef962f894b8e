"""The exchange that this stack talks to, as its REST."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from apps.bus import clients
from apps.bus.budget import RestBudget
from apps.market.rest import Rest


def exchange_rest(url: str | None = None, **options: Any) -> Rest:
    """The REST of the running stack, or at `url`, within the budget that all processes share."""
    running = (settings.RUNTIME.get("exchange") or {}).get("rest_url")
    budget = RestBudget(clients.glance(settings.REDIS_URL))
    return Rest(url or running or settings.EXCHANGE_REST_URL, budget, **options)
