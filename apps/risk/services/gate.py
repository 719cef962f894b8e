"""The last look before an order leaves, and the moment after which none leaves any more.

Whoever sends holds a shared lock of the account from this look until the venue has answered. Whoever makes the state
stricter waits, after the commit, until nobody holds it: every order that had passed its look has left by then, and
every later one looks at the new state. The locks are PostgreSQL's own (advisory, of the session), so a sender that dies
or loses its connection gives its lock back, and one that cannot reach PostgreSQL has none and sends nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from apps.outbox.transactions import sqlstate
from apps.risk.models import TradingState
from apps.risk.scopes import effective_state

log = logging.getLogger(__name__)

LOCKS: Final = 0x63646221  # the first key of our advisory locks; the second is the account
WAIT_MS: Final = 1_000
LOCK_TIMEOUT: Final = "55P03"


@contextmanager
def last_look(*, account_id: int, strategy: str, symbol: str) -> Iterator[tuple[TradingState, str]]:
    """The state as it is now, and nobody's change of it is over while the block runs. Outside a transaction.

    Raises `DatabaseError` if PostgreSQL cannot be asked: then nothing may be sent.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(%s, %s)", [LOCKS, account_id])
    try:
        yield effective_state(account_id, strategy, symbol)
    finally:
        _give_back(account_id)


def _give_back(account_id: int) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_shared(%s, %s)", [LOCKS, account_id])
    except (DatabaseError, InterfaceError) as error:  # without its connection the lock is gone already
        log.info("the sender's lock of account %d ended with its connection: %s", account_id, error)


def senders_are_through(account_id: int, *, wait_ms: int = WAIT_MS) -> bool:
    """Wait until every order that passed its last look before has left. False if one is still at it after `wait_ms`.

    For whoever has just committed a stricter state, outside a transaction.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {wait_ms:d}")
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCKS, account_id])
    except OperationalError as error:
        if sqlstate(error) != LOCK_TIMEOUT:
            raise
        log.warning("an order of account %d is still on its way after %d ms", account_id, wait_ms)
        return False
    return True
