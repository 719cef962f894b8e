"""The connections' changes of state: logged, counted, and kept until somebody writes them where others read them."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Final

import redis

from apps.bus.streams import FIELD, transitions_key
from workers.ingest import log
from workers.ingest.status import Category, State
from workers.ingest.tally import Tally

WAITING_MAX: Final = 2_000
KEPT_MAX: Final = 2_000
WRITTEN_AT_ONCE_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Closing:
    """How a link ended. Ages are ms of the ingest's clock; None: there never was one."""

    closed_by: str  # us, exchange or network
    code: int | None = None
    age_ms: int | None = None
    last_frame_age_ms: int | None = None
    last_pong_age_ms: int | None = None
    bytes_in: int | None = None
    subscriptions: int | None = None

    def facts(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state; `closing` where a link ended with it. `at_ms` is wall clock."""

    connection: str
    at_ms: int
    before: State
    after: State
    category: Category
    reason: str
    closing: Closing | None = None

    def facts(self, token: int) -> dict[str, object]:
        """As others read it."""
        closing = self.closing or Closing("")
        return {
            "token": token,
            "connection": self.connection,
            "at_ms": self.at_ms,
            "from": self.before,
            "to": self.after,
            "category": self.category,
            "reason": self.reason,
            **closing.facts(),
            "closed_by": closing.closed_by or None,
        }


class Transitions:
    """Many writers, one reader. Never makes a writer wait; beyond the bound the oldest are let go."""

    def __init__(self, token: int) -> None:
        self.counts: Counter[tuple[State, Category]] = Counter()
        self._token = token
        self._waiting: deque[dict[str, object]] = deque(maxlen=WAITING_MAX)
        self._lock = threading.Lock()

    def note(self, transition: Transition) -> None:
        facts = transition.facts(self._token)
        log.event("transition", facts=facts)
        with self._lock:
            self.counts[transition.after, transition.category] += 1
            self._waiting.append(facts)

    def take(self, most: int) -> list[dict[str, object]]:
        """The oldest that wait; they are the taker's now."""
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def write(self, client: redis.Redis, epoch: int, tally: Tally) -> None:
        """Put what waits on the stream of transitions. What fails is not repeated: it may have arrived."""
        waiting = self.take(WRITTEN_AT_ONCE_MAX)
        if not waiting:
            return
        try:
            pipeline = client.pipeline(transaction=False)
            for facts in waiting:
                pipeline.xadd(transitions_key(epoch), {FIELD: json.dumps(facts)}, maxlen=KEPT_MAX, approximate=True)
            pipeline.execute()
        except redis.RedisError as error:
            tally.redis_errors["transitions"] += 1
            tally.log.warn("redis_error", type(error).__name__, operation="transitions", lost=len(waiting))
