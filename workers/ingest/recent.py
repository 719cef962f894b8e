"""The trade ids seen last, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PER_SYMBOL_MAX: Final = 20_000
PER_SYMBOL_MIN: Final = 1_000
IN_ALL_MAX: Final = 400_000


def memory_per_symbol(symbols: int) -> int:
    """How many ids each symbol may remember, so that all together stay within a few dozen megabytes."""
    return min(PER_SYMBOL_MAX, max(PER_SYMBOL_MIN, IN_ALL_MAX // symbols))


class RecentIds:
    """Remembers at least the last `size` ids and at most twice as many: two generations, the older one is let go."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._newer: set[str] = set()
        self._older: set[str] = set()

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def add(self, trade_id: str) -> bool:
        """True if the id is new."""
        if trade_id in self._newer or trade_id in self._older:
            return False
        if len(self._newer) >= self._size:
            self._older = self._newer
            self._newer = set()
        self._newer.add(trade_id)
        return True

    def add_all(self, trade_ids: Sequence[str]) -> bool:
        """True if all are new and differ from each other; otherwise nothing is remembered."""
        fresh = {*trade_ids}
        if len(fresh) < len(trade_ids) or not (self._newer.isdisjoint(fresh) and self._older.isdisjoint(fresh)):
            return False
        if len(self._newer) >= self._size:
            self._older = self._newer
            self._newer = fresh
        else:
            self._newer |= fresh
        return True
