"""The right to write an epoch's stream: a row in PostgreSQL that one process holds at a time.

A standby judges by what it sees itself: a renewal that has not moved for six seconds of its own clock, or for three if
the holder's session is gone as well. Whoever takes over gets a greater token, so what the old holder still has under
way is refused by Redis and by every reader. The holder asks `valid` right before each write.

The lease lives in seconds of the machine, at every clock rate: it is between our processes, not with the exchange.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import psycopg

from apps.bus.streams import heartbeat_key
from apps.engine import timeouts
from workers.ingest import log
from workers.ingest.clock import Clock
from workers.ingest.config import LeaseConfig
from workers.ingest.tally import Tally

_LOCK_CLASS: Final = 0x1EA5E  # first half of the advisory lock's name; the second is the epoch

_MAKE: Final = (
    "INSERT INTO market_ingestlease (epoch_id, token, holder) VALUES (%s, 0, '') ON CONFLICT (epoch_id) DO NOTHING"
)
_LOOK: Final = "SELECT token, renewed_at, holder FROM market_ingestlease WHERE epoch_id = %s"
_TAKE: Final = """
UPDATE market_ingestlease
SET token = nextval('market_ingest_token'), holder = %s, acquired_at = clock_timestamp(), renewed_at = clock_timestamp()
WHERE epoch_id = %s AND token = %s AND renewed_at IS NOT DISTINCT FROM %s
RETURNING token
"""
_RENEW: Final = "UPDATE market_ingestlease SET renewed_at = clock_timestamp() WHERE epoch_id = %s AND token = %s"
_GIVE_BACK: Final = "UPDATE market_ingestlease SET renewed_at = NULL WHERE epoch_id = %s AND token = %s"
_LOCK: Final = "SELECT pg_try_advisory_lock(%s::int, %s::int)"
_LOCKED: Final = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND classid = %s::bigint::oid AND objid = %s::bigint::oid AND objsubid = 2
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_CURSORS: Final = "SELECT shard, replay_from, seen_through FROM market_shardcursor WHERE epoch_id = %s"
_WITH_BARS: Final = """
SELECT i.symbol FROM market_epochinstrument m JOIN market_instrument i ON i.id = m.instrument_id
WHERE m.epoch_id = %s
AND EXISTS (SELECT 1 FROM market_bar b WHERE b.epoch_id = m.epoch_id AND b.instrument_id = m.instrument_id)
"""


def standby_key(epoch: int) -> str:
    """Where a waiting ingest says in Redis that it is there; expires when it stops saying so."""
    return heartbeat_key(f"ingest_standby:{epoch}")


class Right(Protocol):
    """Permission to write under a token."""

    token: int

    def valid(self) -> bool:
        """Whether it holds at this very moment."""
        ...

    def report(self) -> dict[str, Any]:
        """Token, holder and time of the last renewal (wall ms; None: never renewed), for the feed state."""
        ...

    def give_back(self) -> None:
        """Let the next one take over at once. To be called when nothing is written any more."""
        ...


class FixedRight:
    """A token that nobody contests, for tests and benches without PostgreSQL."""

    def __init__(self, token: int) -> None:
        self.token = token

    def valid(self) -> bool:
        return True

    def report(self) -> dict[str, Any]:
        return {"token": self.token, "holder": "", "renewed_ms": None}

    def give_back(self) -> None:
        """Nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What PostgreSQL knows of an epoch: per shard the greatest entry id, and the symbols that have bars."""

    entry_ids: dict[str, list[str]]
    symbols_with_bars: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a standby saw: until this changes, nobody has renewed."""

    token: int
    renewed_at: datetime | None


class Lease:
    """One process's share in the lease: first it waits, then it holds and renews, at last it gives back."""

    def __init__(self, config: LeaseConfig, epoch: int, clock: Clock, tally: Tally) -> None:
        self.token = 0
        self.held_by: str | None = None  # whom a standby waits for; None: nobody, or not known yet
        self.known = Known({}, frozenset())  # as of the moment the lease was taken
        self._config = config
        self._epoch = epoch
        self._name = (_LOCK_CLASS, epoch % 2**31)
        self._clock = clock
        self._tally = tally
        self._connection: psycopg.Connection[Any] | None = None
        self._locked = False
        self._renewed_at = 0.0  # seconds since boot, taken before the renewal was sent
        self._renewed_ms: int | None = None
        self._lost = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # --- waiting ----------------------------------------------------------------------------------------------------

    def acquire(self, ended: threading.Event, on_look: Callable[[], None]) -> bool:
        """Wait for the lease; False if `ended` was set first. Calls `on_look` at every look while waiting."""
        seen: _Seen | None = None
        seen_at = 0.0
        began = looked_at = self._clock.since_boot()
        while not ended.is_set():
            on_look()
            try:
                now_seen, now = self._look(), self._clock.since_boot()
                blind = now - looked_at > timeouts.LEASE_RENEW_SECONDS  # a renewal may have come and gone unseen
                if seen is None or now_seen != seen or blind:
                    seen, seen_at = now_seen, now
                looked_at = now
                if self._is_free(seen, now - seen_at, now - began) and self._take(seen):
                    self.known = self._read_known()
                    return True
            except psycopg.Error as error:
                self._note(error)
                seen = None  # a new connection says nothing about the time before it
            ended.wait(timeouts.LEASE_LOOK_SECONDS)
        return False

    def _look(self) -> _Seen:
        row = self._connected().execute(_LOOK, [self._epoch]).fetchone()
        while row is None:
            self._connected().execute(_MAKE, [self._epoch])
            row = self._connected().execute(_LOOK, [self._epoch]).fetchone()
        token, renewed_at, holder = row
        self.held_by = holder if renewed_at is not None else None
        return _Seen(token, renewed_at)

    def _is_free(self, seen: _Seen, unchanged_seconds: float, waited_seconds: float) -> bool:
        if seen.token == self.token > 0:
            return True  # ours: taken just now, then the connection broke
        if seen.renewed_at is None:  # given back, or never held
            return not self._config.standby or waited_seconds >= timeouts.LEASE_QUICK_TAKEOVER_SECONDS
        if unchanged_seconds < timeouts.LEASE_TTL_SECONDS:
            return unchanged_seconds >= timeouts.LEASE_QUICK_TAKEOVER_SECONDS and not self._session_lives()
        return True

    def _session_lives(self) -> bool:
        row = self._connected().execute(_LOCKED, self._name).fetchone()
        return row is not None and row[0] > 0

    def _take(self, seen: _Seen) -> bool:
        """Take it, unless somebody else has moved it since it was seen."""
        asked_at = self._clock.since_boot()
        arguments = [self._config.holder, self._epoch, seen.token, seen.renewed_at]
        row = self._connected().execute(_TAKE, arguments).fetchone()
        if row is None:
            return False
        self.token = row[0]
        self._renewed(asked_at)
        self._lock()
        log.event("lease_taken", token=self.token, holder=self._config.holder, from_token=seen.token)
        return True

    # --- holding ----------------------------------------------------------------------------------------------------

    def keep(self, on_lost: Callable[[str], None]) -> None:
        """Renew in a thread of its own from now on; `on_lost` is called once if somebody else has taken over."""
        self._thread = threading.Thread(target=self._renew_until_lost, args=(on_lost,), name="lease", daemon=True)
        self._thread.start()

    def valid(self) -> bool:
        """Whether the last renewal is young enough. Counts the time for which the process itself was stopped."""
        age = self._clock.since_boot() - self._renewed_at
        return not self._lost and age < timeouts.LEASE_SELF_STOP_SECONDS

    def report(self) -> dict[str, Any]:
        return {"token": self.token, "holder": self._config.holder, "renewed_ms": self._renewed_ms}

    def _read_known(self) -> Known:
        connection = self._connected()
        rows = connection.execute(_CURSORS, [self._epoch]).fetchall()
        symbols = connection.execute(_WITH_BARS, [self._epoch]).fetchall()
        return Known({str(shard): ids for shard, *ids in rows}, frozenset(symbol for (symbol,) in symbols))

    def _renew_until_lost(self, on_lost: Callable[[str], None]) -> None:
        pause: float = timeouts.LEASE_RENEW_SECONDS
        while not self._stopping.wait(pause):
            asked_at = self._clock.since_boot()
            try:
                renewed = self._connected().execute(_RENEW, [self._epoch, self.token]).rowcount
                if renewed and not self._locked:
                    self._lock()
            except psycopg.Error as error:
                self._note(error)
                pause = timeouts.LEASE_RETRY_SECONDS
                continue
            if not renewed:
                self._lost = True
                on_lost(f"the lease of token {self.token} has passed to another ingest")
                return
            self._renewed(asked_at)
            pause = timeouts.LEASE_RENEW_SECONDS

    def give_back(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeouts.LEASE_STATEMENT_MS / 1000)
        if not self.token or self._lost or (self._thread is not None and self._thread.is_alive()):
            return
        try:
            self._connected().execute(_GIVE_BACK, [self._epoch, self.token])
            log.event("lease_given_back", token=self.token)
        except psycopg.Error as error:
            self._note(error)
        self._disconnect()

    def _renewed(self, asked_at: float) -> None:
        self._renewed_at = asked_at
        self._renewed_ms = self._clock.wall_ms()

    # --- the connection ---------------------------------------------------------------------------------------------

    def _lock(self) -> None:
        """Hold the session lock, by which a standby sees that we are gone. An old session of ours may still have it."""
        row = self._connected().execute(_LOCK, self._name).fetchone()
        self._locked = bool(row and row[0])

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._config.database_url,
                autocommit=True,
                connect_timeout=timeouts.LEASE_CONNECT_SECONDS,
                tcp_user_timeout=timeouts.LEASE_CONNECT_SECONDS * 1000,
                application_name="ingest lease",
                options=f"-c statement_timeout={timeouts.LEASE_STATEMENT_MS}",
            )
        return self._connection

    def _note(self, error: psycopg.Error) -> None:
        self._tally.log.warn("lease_error", type(error).__name__, error=str(error).strip())
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection, self._locked = self._connection, None, False
        if connection is not None:
            connection.close()
