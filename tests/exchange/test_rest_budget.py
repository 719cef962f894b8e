"""What REST requests weigh, and what happens beyond the limit."""

from __future__ import annotations

import asyncio

import pytest

from tests.exchange.helpers import START_MS, connected, exchange
from workers.exchange.limits import Limits
from workers.exchange.rest_budget import WEIGHTS, RestBudget, weight_of
from workers.exchange.synthetic import SyntheticSource


@pytest.mark.parametrize(
    ("path", "weight"),
    [
        ("/api/v3/klines", 1),
        ("/api/v3/trades", 5),
        ("/api/v3/exchangeInfo", 25),
        ("/api/v3/ticker/24hr", 25),
        ("/api/v3/nothing", 0),
        ("/exchange/status", 0),
        ("/ws", 0),
    ],
)
def test_a_request_weighs_what_the_table_says(path: str, weight: int) -> None:
    assert weight_of(path) == weight


def _budget(now: list[float], rate: float = 1.0, limit: int | None = 10) -> RestBudget:
    limits = Limits(rest_weight_max=limit).at_rate(rate)
    return RestBudget(limits, rate, lambda: now[0])


@pytest.mark.parametrize("rate", [1.0, 30.0])
def test_beyond_the_limit_a_request_waits_until_the_oldest_leaves_the_window(rate: float) -> None:
    now = [0.0]
    budget = _budget(now, rate)
    assert budget.spend("/api/v3/trades") is None
    now[0] = 1.0 / rate
    assert budget.spend("/api/v3/trades") is None
    now[0] = 4.0 / rate
    assert budget.spend("/api/v3/ping") == pytest.approx(6.0)  # of the exchange's seconds
    assert budget.spend("/api/v3/ticker/price") == pytest.approx(7.0)  # until both have left
    now[0] = 11.0 / rate
    assert budget.spend("/api/v3/ping") is None
    assert budget.status() == {"limit": 10, "weight": 1, "weight_peak": 10, "requests": 3, "refused": 2}


def test_what_weighs_nothing_is_never_refused() -> None:
    budget = _budget([0.0], limit=0)
    assert budget.spend("/exchange/status") is None
    assert budget.spend("/api/v3/ping") is not None


def test_a_lifted_limit_still_counts() -> None:
    budget = _budget([0.0], limit=None)
    assert all(budget.spend("/api/v3/exchangeInfo") is None for _ in range(100))
    assert budget.status()["weight_peak"] == 2_500


def test_a_client_that_asks_too_often_gets_429_and_when_to_come_back() -> None:
    async def run() -> None:
        source = SyntheticSource(1, START_MS)
        async with exchange(source, limits=Limits(rest_weight_max=50)) as server, connected(server) as client:
            for _ in range(2):
                await client.get("/api/v3/exchangeInfo?symbol=BTCUSDT")
            async with client.http.get(f"{client.address}/api/v3/ping") as answer:
                assert answer.status == 429
                assert 1 <= int(answer.headers["Retry-After"]) <= 10
            status = (await client.status())["rest"]
            assert status == {"limit": 50, "weight": 50, "weight_peak": 50, "requests": 2, "refused": 1}

    asyncio.run(run())


def test_every_endpoint_of_the_api_has_a_weight() -> None:
    async def run() -> set[str]:
        async with exchange(SyntheticSource(1, START_MS)) as server:
            assert server._runner is not None
            app = server._runner.app
            return {route.resource.canonical for route in app.router.routes() if route.resource}

    paths = {path.removeprefix("/api/v3/") for path in asyncio.run(run()) if path.startswith("/api/v3/")}
    assert paths == set(WEIGHTS)
