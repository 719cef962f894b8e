"""What the private stream of a session's venue is opened with, and what becomes of what it rings for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import InterfaceError, OperationalError, close_old_connections

from apps.execution.selectors import EXCHANGE, venue_kind
from apps.execution.services.ringing import ring_open_orders, ring_order
from apps.execution.venues.base import VenueUnclear
from apps.execution.venues.exchange import ListenKeys, access_of, listen_keys_for
from apps.execution.venues.wire import IdsOfThisLife
from apps.portfolio.models import TradingSession
from apps.portfolio.selectors import main_account


class NothingToHear(LookupError):
    """A session without account, or whose venue has no private stream; one line for the operator."""


@dataclass(frozen=True, slots=True)
class PrivateStream:
    """Where to listen and with whose keys; `ring` takes an id as the exchange shows it. All may raise `trouble`: then
    the listener leaves its socket, begins anew and rings for everything."""

    url: str
    keys: ListenKeys
    ring: Callable[[str], object]
    ring_all: Callable[[], object]
    trouble: type[Exception] = VenueUnclear


def exchange_terms(rest_url: str, ws_url: str) -> dict[str, str]:
    """What a session that is to trade at the local exchange is begun with. Raises `VenueRefused` for another machine
    and for a key that is missing or not one of the local exchange's."""
    terms = {"kind": EXCHANGE, "rest_url": rest_url, "ws_url": ws_url}
    access_of(terms)
    return terms


def private_stream_of(session: TradingSession) -> PrivateStream:
    """Raises `NothingToHear`, and `VenueRefused` for an address, a key or a file that is not used."""
    account = main_account(session)
    if account is None or venue_kind(session) != EXCHANGE:
        raise NothingToHear(f"the venue of {session.name} has no private stream: nothing is to be heard")
    url, keys = listen_keys_for(session)
    ids, account_id = IdsOfThisLife(), account.pk
    return PrivateStream(
        url,
        keys,
        ring=lambda wire_id: _tried(lambda: ring_order(account_id=account_id, client_order_id=ids.ours(wire_id))),
        ring_all=lambda: _tried(lambda: ring_open_orders(account_id=account_id)),
    )


def _tried(work: Callable[[], object]) -> None:
    """A database that is away is trouble like a venue that is: what was not noted is rung for after it."""
    try:
        work()
    except (OperationalError, InterfaceError) as error:
        close_old_connections()
        raise VenueUnclear(f"the database does not answer ({type(error).__name__})") from error
