"""The venue's own list of our fills, read again and again: what no question brought is booked, or kept as odd."""

from __future__ import annotations

import logging
from typing import Final

from apps.execution.models import Trade
from apps.execution.selectors import venue_of
from apps.execution.services.syncing import book_fills
from apps.execution.venues.base import Venue, VenueFill, VenueUnclear
from apps.portfolio.models import Account

log = logging.getLogger(__name__)

RECENT_MS: Final = 3_600_000
"""Event time before our newest fill from which the list is read: a fill later than that is for a person to find."""


def collect_fills(*, account_id: int, venue: Venue | None = None) -> int:
    """Book every fill that the venue (the session's unless given) lists and we do not have. Returns how many.

    A fill of an order that has ended here, and one of an order that nobody here sent, are found this way only. Without
    an answer nothing is done.
    """
    account = Account.objects.select_related("session").get(pk=account_id)
    venue = venue or venue_of(account.session)
    newest = Trade.objects.filter(account=account).order_by("-ts_event").values_list("ts_event", flat=True).first()
    try:
        listed = venue.fills_since(0 if newest is None else newest - RECENT_MS)
    except VenueUnclear as error:
        log.warning("fills of account %d: no clear answer from %s: %s", account_id, venue.name, error)
        return 0
    return book_fills(account_id=account_id, venue=venue.name, fills=_new(venue.name, listed))


def _new(venue: str, listed: list[tuple[str, VenueFill]]) -> list[tuple[str, VenueFill]]:
    """Without those that are booked just so: nothing is locked for them."""
    ids = [fill.trade_id for _, fill in listed]
    rows = Trade.objects.filter(venue=venue, trade_id__in=ids)
    fields = ("order__client_order_id", "trade_id", "side", "price", "quantity")
    booked = set(rows.values_list(*fields))
    return [
        (name, one)
        for name, one in listed
        if (name, one.trade_id, one.fill.side.value, one.fill.price, one.fill.quantity) not in booked
    ]
