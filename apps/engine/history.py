"""The closed minutes of one symbol that the engine still knows: what indicators begin anew from after a repair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

HISTORY_MINUTES: Final = 150  # the longest window of a strategy, and what its smoothed averages need to settle
REMEMBERED_MINUTES: Final = 720  # kept that long while one of them is UNPROVEN; older ones cannot be repaired
NOT_RECEIVED: Final = -1  # the bar is from klines or a repair, not from received trades
_VOLUME_MAX: Final = 2**63 - 1  # what the stored form holds


@dataclass(slots=True)
class History:
    """Closed minutes without a hole; the newest is `end - 1`.

    Turnovers (tick x step) are floats because only indicators read them. A late trade changes no close and no turnover
    here, as it changes no indicator.
    """

    end: int = 0
    close: list[int] = field(default_factory=list)
    turnover: list[float] = field(default_factory=list)
    received: list[int] = field(default_factory=list)  # volume of received trades, or NOT_RECEIVED

    def __contains__(self, minute: int) -> bool:
        return self.end - len(self.close) <= minute < self.end

    def add(self, minute: int, close: int, turnover: int, received: int) -> None:
        """The minute after the newest. The first call says where the history begins."""
        self.end = minute + 1
        self.close.append(close)
        self.turnover.append(float(turnover))
        self.received.append(min(received, _VOLUME_MAX))

    def replace(self, minute: int, close: int, turnover: int) -> None:
        """A repair took the place of the minute."""
        index = self._index(minute)
        self.close[index], self.turnover[index], self.received[index] = close, float(turnover), NOT_RECEIVED

    def carry(self, minute: int, close: int) -> None:
        self.close[self._index(minute)] = close

    def close_of(self, minute: int) -> int:
        return self.close[self._index(minute)]

    def received_in(self, minute: int) -> int:
        """Volume of the trades that were received for it; NOT_RECEIVED if its bar is not made of trades."""
        return self.received[self._index(minute)]

    def receive(self, minute: int, quantity: int) -> None:
        """A late trade was added to the minute's bar."""
        index = self._index(minute)
        self.received[index] = min(self.received[index] + quantity, _VOLUME_MAX)

    def is_empty(self, minute: int) -> bool:
        """Whether no trade of the minute is known, so that it closed where the minute before it did."""
        index = self._index(minute)
        return self.turnover[index] == 0.0 and self.received[index] <= 0

    def keep(self, minutes: int) -> None:
        """Forget all but the newest `minutes`."""
        surplus = len(self.close) - minutes
        if surplus > 0:
            del self.close[:surplus], self.turnover[:surplus], self.received[:surplus]

    def newest(self, minutes: int) -> list[tuple[int, int, float]]:
        """(minute, close, turnover) of the newest minutes, oldest first."""
        first = max(len(self.close) - minutes, 0)
        start = self.end - len(self.close) + first
        return list(zip(range(start, self.end), self.close[first:], self.turnover[first:], strict=True))

    def _index(self, minute: int) -> int:
        if minute not in self:
            raise KeyError(minute)
        return minute - self.end + len(self.close)

    def row(self) -> list[Any]:
        return [self.end, self.close, self.turnover, self.received]
