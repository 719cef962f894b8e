"""Waiting before the next attempt: capped, doubled, with full jitter."""

from __future__ import annotations

import random

from apps.engine import timeouts

_LEAST_SECONDS = 0.05


class Backoff:
    """Seconds to wait before connecting again. A connection that was stable long enough starts from the beginning."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._attempts = 0

    def next_seconds(self, stable_seconds: float) -> float:
        """`stable_seconds` is how long the connection that just ended delivered data (0 if it never did)."""
        if stable_seconds >= timeouts.FEED_BACKOFF_RESET_AFTER_SECONDS:
            self._attempts = 0
        ceiling = min(
            timeouts.FEED_BACKOFF_FIRST_SECONDS * 2 ** min(self._attempts, 20), timeouts.FEED_BACKOFF_MAX_SECONDS
        )
        self._attempts += 1
        return max(self._dice.uniform(0, ceiling), _LEAST_SECONDS)
