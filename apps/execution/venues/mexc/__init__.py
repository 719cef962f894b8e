"""MEXC spot over signed REST. For the local exchange only: no other machine is called, no real key is used."""

from apps.execution.venues.mexc.access import Access, VenueRefused, read_access
from apps.execution.venues.mexc.client import Client
from apps.execution.venues.mexc.listen_keys import ListenKeys
from apps.execution.venues.mexc.orders import MexcVenue

__all__ = ["Access", "Client", "ListenKeys", "MexcVenue", "VenueRefused", "read_access"]
