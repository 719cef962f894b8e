"""Reads of orders, and which venue a session trades at."""

from __future__ import annotations

from apps.bus.streams import entry_order
from apps.execution.models import VenueOrder
from apps.execution.venues.base import Venue
from apps.execution.venues.paper import PaperVenue
from apps.portfolio.models import TradingSession


class NoVenue(LookupError):
    """A session whose mode has no venue in this build."""


def venue_of(session: TradingSession) -> Venue:
    if session.mode == TradingSession.Mode.PAPER:
        return PaperVenue(session.config.get("paper", {}))
    raise NoVenue(f"{session.mode} sessions have no venue")


def oldest_needed_entry(*, epoch: int, shard: int) -> str | None:
    """The oldest trigger of an open paper order: the stream must not be trimmed past it. None if none is open."""
    open_orders = VenueOrder.objects.filter(epoch_id=epoch, shard=shard, status=VenueOrder.Status.OPEN)
    entries = open_orders.values_list("scan_from", flat=True)
    return min(entries, key=entry_order, default=None)
