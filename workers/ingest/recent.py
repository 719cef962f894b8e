"""The trade ids seen last, in bounded memory that all symbols share.

What must be known again is what two links deliver side by side, or one of them once more: the last minute or so,
of whichever symbols traded. So the bound is one for all together; a thousand quiet symbols need no more than ten
busy ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

IDS_MIN: Final = 200_000  # at a hundred and thirty bytes each, and twice as many at the most: some fifty megabytes


class IdMemory:
    """At least the last `size` ids are known and at most twice as many: two generations, the older one is let go."""

    def __init__(self, size: int = IDS_MIN) -> None:
        self._room = self._size = size
        self._members: list[RecentIds] = []

    def __len__(self) -> int:
        return sum(map(len, self._members))

    def member(self) -> RecentIds:
        """The ids of one symbol, which are told from those of others."""
        member = RecentIds(self)
        self._members.append(member)
        return member

    def remembered(self, count: int) -> None:
        """So many ids have been added; the next generation begins when this one is full."""
        self._room -= count
        if self._room <= 0:
            self._room = self._size
            for member in self._members:
                member.age()


class RecentIds:
    """Of one symbol. Made by an `IdMemory`."""

    __slots__ = ("_memory", "_newer", "_older")

    def __init__(self, memory: IdMemory) -> None:
        self._memory = memory
        self._newer: set[str] = set()
        self._older: set[str] = set()

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def add(self, trade_id: str) -> bool:
        """True if the id is new."""
        if trade_id in self._newer or trade_id in self._older:
            return False
        self._newer.add(trade_id)
        self._memory.remembered(1)
        return True

    def add_all(self, trade_ids: Sequence[str]) -> bool:
        """True if all are new and differ from each other; otherwise nothing is remembered."""
        fresh = {*trade_ids}
        if len(fresh) < len(trade_ids) or not (self._newer.isdisjoint(fresh) and self._older.isdisjoint(fresh)):
            return False
        self._newer |= fresh
        self._memory.remembered(len(fresh))
        return True

    def age(self) -> None:
        """A new generation begins."""
        if self._newer or self._older:
            self._newer, self._older = set(), self._newer
