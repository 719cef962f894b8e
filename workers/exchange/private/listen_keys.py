"""Listen keys: what a private stream is opened with, and how long it lives."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from workers.exchange.errors import ApiError
from workers.exchange.limits import Limits
from workers.exchange.private import refusals


@dataclass(slots=True)
class _Lease:
    account: str
    until: float
    sockets: int = 0


class ListenKeys:
    """A key lives for `limits.listen_key_seconds` from its making or its last extension on."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._leases: dict[str, _Lease] = {}

    def make(self, account: str) -> str:
        """A new key; raises ApiError if the account has too many."""
        if len(self.of(account)) >= self._limits.listen_keys_max:
            raise ApiError(*refusals.LISTEN_KEYS_TOO_MANY)
        key = secrets.token_hex(32)
        self._leases[key] = _Lease(account, self._monotonic() + self._limits.listen_key_seconds)
        return key

    def extend(self, account: str, key: str) -> None:
        """From now on for a whole life; raises ApiError for a key that is unknown, over, or another's."""
        self._lease(account, key).until = self._monotonic() + self._limits.listen_key_seconds

    def close(self, account: str, key: str) -> None:
        """End a key; raises ApiError as `extend` does."""
        self._lease(account, key)
        del self._leases[key]

    def of(self, account: str) -> list[str]:
        """The keys of an account that live, oldest first."""
        self._forget()
        return [key for key, lease in self._leases.items() if lease.account == account]

    def account_of(self, key: str) -> str | None:
        """Whose key it is; None if it is unknown or over."""
        self._forget()
        lease = self._leases.get(key)
        return None if lease is None else lease.account

    def attach(self, key: str) -> bool:
        """One more socket; False if the key bears no more."""
        lease = self._leases[key]
        if lease.sockets >= self._limits.listen_key_sockets_max:
            return False
        lease.sockets += 1
        return True

    def detach(self, key: str) -> None:
        """A socket has gone; the key may be gone before."""
        if key in self._leases:
            self._leases[key].sockets -= 1

    def expire(self) -> int:
        """End all keys before their time; how many there were."""
        self._forget()
        count = len(self._leases)
        self._leases.clear()
        return count

    def _lease(self, account: str, key: str) -> _Lease:
        self._forget()
        lease = self._leases.get(key)
        if lease is None or lease.account != account:
            raise ApiError(*refusals.LISTEN_KEY_UNKNOWN)
        return lease

    def _forget(self) -> None:
        now = self._monotonic()
        for key in [key for key, lease in self._leases.items() if now >= lease.until]:
            del self._leases[key]
