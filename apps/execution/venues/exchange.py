"""The venue at the exchange, for whoever need not know which exchange it is."""

from apps.execution.venues.mexc import ListenKeys, VenueRefused
from apps.execution.venues.mexc.of_session import access_of, listen_keys_for, venue_for

__all__ = ["ListenKeys", "VenueRefused", "access_of", "listen_keys_for", "venue_for"]
