"""What became of each channel of one connection: accepted, refused or missing are three different things.

Times are seconds of the ingest's clock. Nothing here knows a socket.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Final

from apps.engine import timeouts
from workers.ingest import control

_RETRY_JITTER: Final = 0.1


class Subscriptions:
    """Asks once, asks again for what is missing, and comes back to refusals at a slow pace."""

    def __init__(self, channels: Sequence[str], dice: random.Random) -> None:
        self.channels = tuple(channels)
        self.missing = set(channels)
        self.accepted: set[str] = set()
        self.refused: dict[str, str] = {}
        self._dice = dice
        self._requests: dict[int, tuple[str, ...]] = {}
        self._asked_at = 0.0
        self._resent = False
        self._retries = 0
        self._retry_at: float | None = None

    @property
    def complete(self) -> bool:
        """Every channel was answered, one way or the other."""
        return not self.missing

    @property
    def blocked(self) -> bool:
        return self.complete and not self.accepted

    def first_request(self, now: float) -> str:
        """The text that asks for everything."""
        self._asked_at = now
        return self._request(self.channels)

    def due_request(self, now: float) -> str | None:
        """The text that is to be sent now, if any: a repetition for the missing, or a retry of the refused."""
        if self.missing and not self._resent and now - self._asked_at >= timeouts.FEED_ACK_RESEND_SECONDS:
            self._resent = True
            return self._request([channel for channel in self.channels if channel in self.missing])
        if self._retry_at is not None and now >= self._retry_at:
            self._schedule_retry(now)
            return self._request([channel for channel in self.channels if channel in self.refused])
        return None

    def overdue(self, now: float) -> bool:
        """Some channel got no answer although it was asked for twice."""
        return bool(self.missing) and now - self._asked_at >= timeouts.FEED_ACK_RECONNECT_SECONDS

    def answer(self, message: control.Message, now: float) -> list[str] | None:
        """Take in an answer. Returns the newly accepted channels, None if the message says nothing about ours."""
        open_channels = self.missing | set(self.refused)
        requested = self._requests.get(message.id)
        answer = control.judge(message, open_channels.intersection(requested) if requested else open_channels)
        if answer.says_nothing:
            return None
        self.missing -= answer.accepted | set(answer.refused)
        self.refused.update(answer.refused)
        for channel in answer.accepted:
            self.refused.pop(channel, None)
        self.accepted |= answer.accepted
        if not self.refused:
            self._retry_at = None
        elif self.complete and self._retry_at is None:
            self._schedule_retry(now)
        return [channel for channel in self.channels if channel in answer.accepted]

    def _schedule_retry(self, now: float) -> None:
        self._retry_at = now + refused_retry_seconds(self._retries, self._dice)
        self._retries += 1

    def _request(self, channels: Sequence[str]) -> str:
        number = len(self._requests) + 1
        self._requests[number] = tuple(channels)
        return json.dumps({"method": "SUBSCRIPTION", "params": list(channels), "id": number}, separators=(",", ":"))


def refused_retry_seconds(retries: int, dice: random.Random) -> float:
    """How long to leave a refusal alone: a minute, doubled up to ten, a tenth of it at random."""
    first, greatest = timeouts.FEED_REFUSED_RETRY_FIRST_SECONDS, timeouts.FEED_REFUSED_RETRY_MAX_SECONDS
    return float(min(first * 2 ** min(retries, 10), greatest)) * dice.uniform(1 - _RETRY_JITTER, 1 + _RETRY_JITTER)
