"""When the symbols of one link may move to its successor, and which of the successor's rows are new then.

Both links deliver the same trades, each at its own pace. Rows with an id are told apart by it. For the others there is
a cut: the first whole event second after both links deliver. Every row before it comes from the old link, which has
sent them all before the symbols move; of the rows from the cut on, those that the old link has published are noted
and left out once when the successor delivers them. Nothing here knows a socket. Times are event times in ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

SECOND_MS: Final = 1_000
NOTED_MAX: Final = 50_000  # rows of one symbol between the cut and the move

Row = tuple[int, int, str, str, str]  # time, side, trade id, price, quantity, as the exchange wrote them


class Sieve:
    """Of one symbol: lets pass what was not published yet."""

    def __init__(self, floor_ms: int) -> None:
        self.floor_ms = floor_ms
        self._noted: Counter[Row] = Counter()

    def __len__(self) -> int:
        return self._noted.total()

    def note(self, rows: Iterable[Row]) -> None:
        """These were published by the old link."""
        self._noted.update(row for row in rows if not row[2] and row[0] >= self.floor_ms)

    def sift(self, rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
        """The rows that are new, in their order, and the times of rows before the floor: they were not looked at."""
        new: list[Row] = []
        below: list[int] = []
        for row in rows:
            if row[2]:
                new.append(row)
            elif row[0] < self.floor_ms:
                below.append(row[0])
            elif self._noted.get(row):
                self._noted[row] -= 1
            else:
                new.append(row)
        return new, below


class Rotation:
    """The rules of one move from a link to its successor."""

    def __init__(self) -> None:
        self.cut_ms: int | None = None

    def both_deliver(self, *, since_ms: int, newest_ms: Iterable[int], published_ms: int) -> None:
        """The successor's trades are complete since `since_ms`. `newest_ms` are the newest rounds of both links,
        `published_ms` is the latest time of a row without id that the old one has published."""
        if self.cut_ms is None:
            self.cut_ms = (max(since_ms, published_ms, *newest_ms) // SECOND_MS + 1) * SECOND_MS

    def may_move(self, *, old_claim_ms: int, new_claim_ms: int) -> bool:
        """Both links have delivered every trade up to the cut."""
        return self.cut_ms is not None and min(old_claim_ms, new_claim_ms) >= self.cut_ms

    def may_take_over(self, *, since_ms: int | None, old_claim_ms: int, ids_only: bool) -> bool:
        """The old link has died: do the two links' trades join without a hole and without doubt?

        With ids on every row it is enough that the successor delivers what the old one may have missed.
        """
        if since_ms is None or self.cut_ms is None:
            return False
        return old_claim_ms >= (since_ms if ids_only else self.cut_ms)
