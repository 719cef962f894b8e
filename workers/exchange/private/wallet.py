"""What an account owns: free and locked, per asset. Every change is told, as the private stream tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

from apps.engine.money import exact
from workers.exchange.private.orders import ZERO


class BalanceChange(NamedTuple):
    """One asset after a change of what is free and what is locked, and why."""

    asset: str
    free: Decimal
    free_change: Decimal
    locked: Decimal
    locked_change: Decimal
    why: str


class Wallet:
    """Never below zero: whoever takes asks first."""

    def __init__(self, balances: Mapping[str, Decimal], tell: Callable[[BalanceChange], None]) -> None:
        self._free = dict(balances)
        self._locked: dict[str, Decimal] = {}
        self._tell = tell

    @property
    def assets(self) -> list[str]:
        return sorted(set(self._free) | set(self._locked))

    def free(self, asset: str) -> Decimal:
        return self._free.get(asset, ZERO)

    def locked(self, asset: str) -> Decimal:
        return self._locked.get(asset, ZERO)

    @exact
    def change(self, asset: str, free: Decimal, locked: Decimal, why: str) -> None:
        """Add to both, either may be negative."""
        self._free[asset] = self.free(asset) + free
        self._locked[asset] = self.locked(asset) + locked
        assert self._free[asset] >= 0, (asset, why)
        assert self._locked[asset] >= 0, (asset, why)
        self._tell(BalanceChange(asset, self._free[asset], free, self._locked[asset], locked, why))

    def lock(self, asset: str, amount: Decimal) -> None:
        self.change(asset, -amount, amount, "ENTRUST_PLACE")

    def unlock(self, asset: str, amount: Decimal, why: str) -> None:
        self.change(asset, amount, -amount, why)
