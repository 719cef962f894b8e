"""What the send times of one connection prove about the trades that have arrived on it.

The exchange works in rounds. In each it sends, symbol by symbol, quotes and then the trades since the round before.
A trade frame, and a quote that only repeats the one before it, carry the time of their round; a changed quote may
carry the earlier time of its change. So only the first two say where the round stands, and the first of them with a
later time proves that the round before is complete.
"""

from __future__ import annotations

from typing import Final

GRACE_MS: Final = 200  # event time by which symbols of one connection may be sent out of step
_SHARE_OF_NEWEST: Final = 1 / 16
_STEP_GROWTH_MAX: Final = 4  # an interruption is no new habit


class Progress:
    """The event time up to which every trade of a connection has arrived. Times are ms of the exchange's clock."""

    def __init__(self) -> None:
        self.newest_ms = 0  # greatest round time seen
        self.settled_ms = 0  # greatest round known to be complete
        self.round_ms: float = 0  # event time from one round to the next, as it has mostly been
        self._repeated: dict[str, int] = {}

    @property
    def claim_ms(self) -> int:
        """What a watermark may say: the settled time minus the grace."""
        return self.settled_ms - GRACE_MS

    def round_at(self, send_ms: int) -> None:
        """A frame that carries the time of its round has arrived (its trades are already taken in)."""
        if send_ms > self.newest_ms:
            if self.round_ms:
                step_ms = min(send_ms - self.newest_ms, self.round_ms * _STEP_GROWTH_MAX)
                self.round_ms += (step_ms - self.round_ms) * _SHARE_OF_NEWEST
            elif self.newest_ms:
                self.round_ms = send_ms - self.newest_ms
            self.settled_ms = self.newest_ms
            self.newest_ms = send_ms

    def repeated_quote(self, symbol: str, send_ms: int) -> None:
        """An unchanged quote. Twice the same time for one symbol is two rounds at a clock that stands still."""
        if send_ms == self.newest_ms and self._repeated.get(symbol) == send_ms:
            self.settled_ms = send_ms
        self._repeated[symbol] = send_ms
        self.round_at(send_ms)
