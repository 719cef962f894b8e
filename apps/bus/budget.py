"""One budget for all calls to the exchange's REST, whichever process makes them.

The exchange counts weights per address over ten seconds and bans who goes beyond. We stay below half of that in any
ten seconds: a bucket of `BURST` that refills with what the burst leaves of the ceiling. It lives in Redis and runs on
the server's clock; while Redis is away every process has a tenth for itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import redis

WINDOW_SECONDS: Final = 10
EXCHANGE_WEIGHT_MAX: Final = 300  # per window and address
CEILING: Final = EXCHANGE_WEIGHT_MAX // 2
BURST: Final = 30
REFILL_PER_SECOND: Final = (CEILING - BURST) / WINDOW_SECONDS
ALONE_SHARE: Final = 0.1

# Weights by path; where the exchange's own tables differ, the heavier number.
WEIGHTS: Final = {
    "ping": 1,
    "time": 1,
    "defaultSymbols": 1,
    "exchangeInfo": 25,
    "depth": 3,
    "trades": 5,
    "aggTrades": 1,
    "klines": 1,
    "avgPrice": 1,
    "ticker/24hr": 25,
    "ticker/price": 10,
    "ticker/bookTicker": 10,
}
assert max(WEIGHTS.values()) <= BURST, "the heaviest call must fit into a full bucket"

TOO_MANY: Final = 429
BANNED: Final = 418
_PAUSE_SECONDS: Final = {TOO_MANY: 10.0, BANNED: 120.0}  # where the exchange does not say how long
_PAUSE_SECONDS_MAX: Final = 3 * 24 * 3600

_BUCKET_KEY: Final = "rest_budget"
_PENALTY_KEY: Final = "rest_penalty"

# Generic cell rate algorithm: one number, the time at which the bucket would be full again. Times in microseconds.
_TAKE: Final = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local cost, tolerance, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local blocked = math.max(redis.call('PTTL', KEYS[2]), 0) * 1000
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now + blocked)
local wait = math.max(full + cost - tolerance - now, blocked)
if wait > longest then return {0, wait} end
redis.call('SET', KEYS[1], string.format('%.0f', full + cost), 'PX', math.ceil((full + cost - now) / 1000) + 1000)
return {1, wait}
"""
# A longer pause is not cut short by a later, shorter one.
_PENALTY: Final = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
return 0
"""


class BudgetSpent(Exception):
    """The turn would come later than the caller can wait; nothing was taken. `seconds`: when to ask again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the REST budget is spent: ask again in {seconds:.1f} s")
        self.seconds = seconds


def pause_seconds(status: int, retry_after: str | None) -> float | None:
    """How long nobody may call after an answer with this status; None if it asks for no pause.

    `retry_after` is the header: seconds; anything else than digits counts as absent.
    """
    if status not in _PAUSE_SECONDS:
        return None
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(min(max(int(text), 1), _PAUSE_SECONDS_MAX))
    return _PAUSE_SECONDS[status]


class RestBudget:
    """Safe to share between threads. With `rate`, seconds of the budget pass that much faster (tests).

    `client` should answer or fail within a second (`clients.glance`): a call must not hang on its permission.
    """

    def __init__(
        self, client: redis.Redis, *, rate: float = 1.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.alone = False  # whether Redis was away at the last call
        self.taken = 0  # weight, by this process
        self.waited_seconds = 0.0  # of the machine, by this process
        self._rate = rate
        self._take_script = client.register_script(_TAKE)
        self._penalty_script = client.register_script(_PENALTY)
        self._own = _OwnBucket(REFILL_PER_SECOND * rate * ALONE_SHARE, BURST * ALONE_SHARE, monotonic)

    def take(self, weight: int, *, wait_max_seconds: float = 60.0) -> float:
        """Take `weight` now; the call may be made after the returned seconds of the machine (0.0: at once).

        Raises `BudgetSpent`, having taken nothing, if that is longer than `wait_max_seconds` of the machine.
        """
        second = 1_000_000 / (REFILL_PER_SECOND * self._rate)
        arguments = [weight * second, BURST * second, wait_max_seconds * 1_000_000]
        try:
            answer: Any = self._take_script(keys=[_BUCKET_KEY, _PENALTY_KEY], args=[round(one) for one in arguments])
            self.alone = False
        except redis.RedisError:
            self.alone = True
            return self._count(weight, self._own.take(weight, wait_max_seconds))
        granted, wait = bool(answer[0]), float(answer[1]) / 1_000_000
        wait = max(wait, self._own.blocked_seconds())  # a pause of ours that Redis has forgotten still holds
        if not granted:
            raise BudgetSpent(wait)
        return self._count(weight, wait)

    def penalty(self, seconds: float) -> None:
        """The exchange asked for a pause of `seconds` of its clock: nobody calls before it is over."""
        paused = seconds / self._rate
        self._own.block(paused)
        try:
            self._penalty_script(keys=[_PENALTY_KEY], args=[max(1, round(paused * 1000))])
        except redis.RedisError:
            self.alone = True

    def report(self) -> dict[str, int | float | bool]:
        """For people: the weight this process took, the seconds it waited for that, and a pause it was asked for."""
        return {
            "taken": self.taken,
            "waited_seconds": round(self.waited_seconds, 1),
            "blocked_seconds": round(self._own.blocked_seconds(), 1),
            "alone": self.alone,
            "per_10_seconds": CEILING,
        }

    def _count(self, weight: int, wait: float) -> float:
        self.taken += weight
        self.waited_seconds += wait
        return wait


class _OwnBucket:
    """The same arithmetic for one process alone; keeps its pauses also while Redis is there."""

    def __init__(self, refill_per_second: float, burst: float, monotonic: Callable[[], float]) -> None:
        self._seconds_per_weight = 1 / refill_per_second
        self._tolerance = burst * self._seconds_per_weight
        self._monotonic = monotonic
        self._full_at = 0.0
        self._blocked_until = 0.0
        self._lock = threading.Lock()

    def take(self, weight: int, wait_max_seconds: float) -> float:
        with self._lock:
            now = self._monotonic()
            full_at = max(self._full_at, self._blocked_until, now) + weight * self._seconds_per_weight
            wait = max(full_at - self._tolerance - now, self._blocked_until - now, 0.0)
            if wait > wait_max_seconds:
                raise BudgetSpent(wait)
            self._full_at = full_at
            return wait

    def block(self, seconds: float) -> None:
        with self._lock:
            self._blocked_until = max(self._blocked_until, self._monotonic() + seconds)

    def blocked_seconds(self) -> float:
        return max(self._blocked_until - self._monotonic(), 0.0)
