"""The venue of a session that trades at the local exchange: where it is, whose key, which symbols.

The session's configuration names the addresses, files of the secrets directory hold key and secret. Every address but
this machine's is refused, so there is no way from here to a real exchange.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from apps.bus import clients
from apps.bus.budget import RestBudget
from apps.execution.models import Order
from apps.execution.venues.mexc.access import Access, VenueRefused, read_access
from apps.execution.venues.mexc.client import Client
from apps.execution.venues.mexc.listen_keys import ListenKeys
from apps.execution.venues.mexc.orders import MexcVenue
from apps.execution.venues.wire import IdsOfThisLife
from apps.portfolio.models import TradingSession

KEY_FILE: Final = "exchange_key"
SECRET_FILE: Final = "exchange_secret"  # noqa: S105  (the name of a file, not its content)
TERMS: Final = frozenset({"kind", "rest_url", "ws_url"})


def terms_of(venue: Mapping[str, Any]) -> tuple[str, str]:
    """(REST address, address of the private stream) of a session's `venue`. Raises `VenueRefused`."""
    if set(venue) != TERMS or not all(isinstance(value, str) for value in venue.values()):
        raise VenueRefused(f"the venue at the exchange is told by {', '.join(sorted(TERMS))}, and nothing else")
    parts = urlsplit(venue["ws_url"])
    if parts.scheme != "ws" or parts.path != "/ws":
        raise VenueRefused("the private stream is not at an address such as ws://127.0.0.1:8001/ws")
    Access(urlunsplit(parts._replace(scheme="http", path="")), "mx0test", "only the address is looked at")
    return venue["rest_url"], venue["ws_url"]


def venue_for(session: TradingSession) -> MexcVenue:
    """Raises `VenueRefused`."""
    return MexcVenue(
        _client_of(session), symbols=lambda: _traded(session), symbol_of=_symbol_of, wire=IdsOfThisLife()
    )  # fmt: skip


def listen_keys_for(session: TradingSession) -> tuple[str, ListenKeys]:
    """(address of the private stream, who makes its keys). Raises `VenueRefused`."""
    return terms_of(session.config["venue"])[1], ListenKeys(_client_of(session))


def access_of(venue: Mapping[str, Any]) -> Access:
    """Raises `VenueRefused`."""
    rest_url, _ = terms_of(venue)
    return read_access(rest_url, settings.SECRETS_DIR / KEY_FILE, settings.SECRETS_DIR / SECRET_FILE)


def _client_of(session: TradingSession) -> Client:
    rest_url, _ = terms_of(session.config["venue"])
    return _client(rest_url, settings.SECRETS_DIR)


@lru_cache(maxsize=4)
def _client(url: str, folder: Path) -> Client:
    """One per process: it has measured how far the exchange's clock is from ours."""
    access = read_access(url, folder / KEY_FILE, folder / SECRET_FILE)
    return Client(access, RestBudget(clients.glance(settings.REDIS_URL)), _wall_ms)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _traded(session: TradingSession) -> list[str]:
    orders = Order.objects.filter(account__session=session)
    return list(orders.order_by().values_list("instrument__symbol", flat=True).distinct())


def _symbol_of(client_order_id: str) -> str | None:
    return Order.objects.filter(client_order_id=client_order_id).values_list("instrument__symbol", flat=True).first()
