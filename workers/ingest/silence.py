"""How long the gaps between a symbol's frames usually are, and when it is silent by its own habit.

Times are seconds of the ingest's clock.
"""

from __future__ import annotations

import math
from typing import Final

from apps.engine import timeouts

_SHARE: Final = 0.01  # of the gaps are longer than the one that counts
_FRAMES_REMEMBERED: Final = 50_000
# Shorter gaps cannot raise the threshold above its least value, so they are only counted.
LONG_GAP_SECONDS: Final = timeouts.FEED_SYMBOL_SILENCE_SECONDS / timeouts.FEED_SYMBOL_SILENCE_GAPS
SILENCE_SECONDS_MAX: Final = 3_600


class Habit:
    """Of one symbol. Gaps are kept in classes a quarter of an octave wide; half of them is forgotten now and then."""

    __slots__ = ("_long", "frames", "threshold")

    def __init__(self) -> None:
        self.frames = 0
        self.threshold: float = timeouts.FEED_SYMBOL_SILENCE_SECONDS
        self._long: dict[int, int] | None = None

    def long_gap(self, seconds: float) -> None:
        """A gap of more than `LONG_GAP_SECONDS` has ended."""
        if self._long is None:
            self._long = {}
        group = math.ceil(4 * math.log2(seconds / LONG_GAP_SECONDS))
        self._long[group] = self._long.get(group, 0) + 1
        self._forget()
        self.threshold = min(max(timeouts.FEED_SYMBOL_SILENCE_SECONDS, self._scaled()), SILENCE_SECONDS_MAX)

    def _scaled(self) -> float:
        """So many times the gap that all but one in a hundred do not exceed; 0 if that is a short one."""
        allowed = max(self.frames, 1) * _SHARE
        longer = 0
        for group in sorted(self._long or {}, reverse=True):
            longer += (self._long or {})[group]
            if longer > allowed:
                return float(LONG_GAP_SECONDS * 2 ** (group / 4)) * timeouts.FEED_SYMBOL_SILENCE_GAPS
        return 0.0

    def _forget(self) -> None:
        if self.frames > _FRAMES_REMEMBERED and self._long is not None:
            self.frames //= 2
            self._long = {group: count // 2 for group, count in self._long.items() if count > 1}
