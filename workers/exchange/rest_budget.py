"""What REST requests weigh, and how much weight a window of time bears: one budget for all clients, as per address."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from workers.exchange.limits import Limits

PREFIX: Final = "/api/v3/"
WEIGHTS: Final[Mapping[str, int]] = {
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


SIGNED_WEIGHTS: Final[Mapping[tuple[str, str], int]] = {
    ("POST", "order"): 1,
    ("POST", "order/test"): 1,
    ("DELETE", "order"): 1,
    ("GET", "order"): 2,
    ("GET", "openOrders"): 3,
    ("DELETE", "openOrders"): 1,
    ("GET", "allOrders"): 10,
    ("GET", "account"): 10,
    ("GET", "myTrades"): 10,
    ("GET", "tradeFee"): 20,
    ("GET", "selfSymbols"): 1,
    ("GET", "mxDeduct/enable"): 1,
    ("POST", "mxDeduct/enable"): 1,
    ("POST", "userDataStream"): 1,
    ("PUT", "userDataStream"): 1,
    ("GET", "userDataStream"): 1,
    ("DELETE", "userDataStream"): 1,
}


class RestBudget:
    """A sliding window. A refused request weighs nothing."""

    def __init__(self, limits: Limits, rate: float, monotonic: Callable[[], float]) -> None:
        self.limit = limits.rest_weight_max
        self.requests = 0
        self.refused = 0
        self.weight_peak = 0  # the most that one window has borne
        self._window_seconds = limits.rest_window_seconds
        self._rate = rate
        self._monotonic = monotonic
        self._spent: deque[tuple[float, int]] = deque()
        self._weight = 0

    @property
    def weight(self) -> int:
        """What the window bears now."""
        self._forget(self._monotonic())
        return self._weight

    def spend(self, path: str, method: str = "GET") -> float | None:
        """Take a request's weight; None, or after how many of the exchange's seconds to ask again."""
        weight = weight_of(path, method)
        if not weight:
            return None
        now = self._monotonic()
        self._forget(now)
        if self.limit is not None and self._weight + weight > self.limit:
            self.refused += 1
            return self._wait_seconds(self._weight + weight - self.limit, now) * self._rate
        self.requests += 1
        self._spent.append((now, weight))
        self._weight += weight
        self.weight_peak = max(self.weight_peak, self._weight)
        return None

    def _wait_seconds(self, excess: int, now: float) -> float:
        """Until so much weight has left the window."""
        for spent_at, weight in self._spent:
            excess -= weight
            if excess <= 0:
                return max(spent_at + self._window_seconds - now, 0.0)
        return self._window_seconds  # it weighs more than the window bears

    def _forget(self, now: float) -> None:
        while self._spent and now - self._spent[0][0] >= self._window_seconds:
            self._weight -= self._spent.popleft()[1]

    def status(self) -> dict[str, int | None]:
        """For /exchange/status."""
        return {
            "limit": self.limit,
            "weight": self.weight,
            "weight_peak": self.weight_peak,
            "requests": self.requests,
            "refused": self.refused,
        }


def weight_of(path: str, method: str = "GET") -> int:
    """What a request weighs; our own endpoints and unknown ones weigh nothing."""
    if not path.startswith(PREFIX):
        return 0
    endpoint = path.removeprefix(PREFIX)
    return SIGNED_WEIGHTS.get((method, endpoint)) or WEIGHTS.get(endpoint, 0)
