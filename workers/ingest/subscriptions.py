"""What became of each channel of one link: accepted, refused or missing are three different things.

Times are seconds of the ingest's clock. Nothing here knows a socket.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from apps.engine import timeouts
from workers.ingest import control

UNANSWERED: Final = "no answer"
_RETRY_JITTER: Final = 0.1
_REQUESTS_KEPT: Final = 50


@dataclass(slots=True)
class News:
    """Channels that an answer has changed."""

    accepted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


class Subscriptions:
    """Asks once, asks again for what is missing, and comes back to refusals at a slow pace.

    Until every channel was answered for the first time, a missing answer is a reason to leave the link. Afterwards, and
    for the channels in `unanswered` (no answer on the link before either), it counts as a refusal, so that one channel
    cannot take the others with it.
    """

    def __init__(self, channels: Sequence[str], dice: random.Random, unanswered: Collection[str] = ()) -> None:
        self.channels = list(channels)
        self.missing: dict[str, float] = {}  # channel -> when it was first asked for
        self.accepted: set[str] = set()
        self.refused: dict[str, str] = {}
        self.settled = False  # every channel was answered once
        self._dice = dice
        self._unanswered = frozenset(unanswered)
        self._requests: dict[int, tuple[str, ...]] = {}
        self._number = 0
        self._resent: set[str] = set()
        self._repeated: set[str] = set()  # accepted, and asked for again
        self._left: set[str] = set()
        self._retries = 0
        self._retry_at: float | None = None

    @property
    def blocked(self) -> bool:
        return self.settled and not self.missing and not self.accepted and bool(self.channels)

    def first_request(self, now: float) -> str:
        """The text that asks for everything."""
        return self._ask(self.channels, now)

    def change(self, *, leave: Collection[str], join: Sequence[str], now: float) -> list[str]:
        """The texts that give up some channels and ask for others."""
        leaving = [channel for channel in self.channels if channel in leave]
        self._forget(leaving)
        texts = [self._request("UNSUBSCRIPTION", leaving)] if leaving else []
        joining = [channel for channel in join if channel not in self.channels]
        if joining:
            self.channels += joining
            self._left.difference_update(joining)
            texts.append(self._ask(joining, now))
        return texts

    def again(self, channels: Collection[str]) -> str | None:
        """The text that asks for accepted channels once more; None if they are none of ours any more."""
        repeated = [channel for channel in self.channels if channel in channels and channel in self.accepted]
        self._repeated.update(repeated)
        return self._request("SUBSCRIPTION", repeated) if repeated else None

    def due_request(self, now: float) -> str | None:
        """The text that is to be sent now, if any: a repetition for the missing, or a retry of the refused."""
        late = [name for name, at in self.missing.items() if now - at >= timeouts.FEED_ACK_RESEND_SECONDS]
        unsent = [channel for channel in late if channel not in self._resent]
        if unsent:
            self._resent.update(unsent)
            return self._request("SUBSCRIPTION", unsent)
        if self._retry_at is not None and now >= self._retry_at:
            self._schedule_retry(now)
            return self._request("SUBSCRIPTION", [channel for channel in self.channels if channel in self.refused])
        return None

    def give_up(self, now: float) -> News | None:
        """What is missing for too long and may count as refused; None if there is nothing of that kind."""
        overdue = self._overdue(now)
        hopeless = [channel for channel in overdue if self.settled or channel in self._unanswered]
        if not hopeless or (not self.settled and len(hopeless) < len(overdue)):
            return None
        news = News(refused=dict.fromkeys(hopeless, UNANSWERED))
        self._apply(news, now)
        return news

    def overdue(self, now: float) -> bool:
        """Some channel got no answer although it was asked for twice, and the link has never been complete."""
        return not self.settled and bool(self._overdue(now))

    def answer(self, message: control.Message, now: float) -> News | None:
        """Take in an answer. None if the message says nothing about what is open."""
        open_channels = {*self.missing, *self.refused, *self._repeated}
        requested = self._requests.get(message.id)
        if requested is not None and not open_channels.intersection(requested):
            return News()  # to a request that has been answered, or of leaving
        answer = control.judge(message, open_channels.intersection(requested) if requested else open_channels)
        if answer.says_nothing:
            return News() if control.judge(message, self._left | self.accepted).accepted else None
        news = News(
            [name for name in self.channels if name in answer.accepted and name not in self.accepted], answer.refused
        )
        self._apply(news, now, answered=answer.accepted)
        return news

    def _apply(self, news: News, now: float, answered: Iterable[str] = ()) -> None:
        for channel in (*answered, *news.refused):
            self.missing.pop(channel, None)
            self._repeated.discard(channel)
            self._resent.discard(channel)
        for channel in news.accepted:
            self.refused.pop(channel, None)
        self.accepted.update(news.accepted)
        self.refused.update(news.refused)
        self.accepted.difference_update(news.refused)
        self.settled = self.settled or not self.missing
        if not self.refused:
            self._retry_at = None
        elif not self.missing and self._retry_at is None:
            self._schedule_retry(now)

    def _forget(self, channels: Sequence[str]) -> None:
        gone = set(channels)
        self.channels = [channel for channel in self.channels if channel not in gone]
        self.accepted -= gone
        self._repeated -= gone
        self._left |= gone
        for channel in channels:
            self.missing.pop(channel, None)
            self.refused.pop(channel, None)
        if not self.refused:
            self._retry_at = None

    def _overdue(self, now: float) -> list[str]:
        return [name for name, at in self.missing.items() if now - at >= timeouts.FEED_ACK_RECONNECT_SECONDS]

    def _schedule_retry(self, now: float) -> None:
        self._retry_at = now + refused_retry_seconds(self._retries, self._dice)
        self._retries += 1

    def _ask(self, channels: Sequence[str], now: float) -> str:
        self.missing.update(dict.fromkeys(channels, now))
        return self._request("SUBSCRIPTION", channels)

    def _request(self, method: str, channels: Sequence[str]) -> str:
        self._number += 1
        self._requests[self._number] = tuple(channels)
        self._requests.pop(self._number - _REQUESTS_KEPT, None)
        return json.dumps({"method": method, "params": list(channels), "id": self._number}, separators=(",", ":"))


def refused_retry_seconds(retries: int, dice: random.Random) -> float:
    """How long to leave a refusal alone: a minute, doubled up to ten, up to a tenth more at random."""
    first, greatest = timeouts.FEED_REFUSED_RETRY_FIRST_SECONDS, timeouts.FEED_REFUSED_RETRY_MAX_SECONDS
    return float(min(first * 2 ** min(retries, 10), greatest)) * dice.uniform(1, 1 + _RETRY_JITTER)
