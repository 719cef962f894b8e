"""The REST budget: one for all processes, never more than half of what the exchange allows in any ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.bus import clients
from apps.bus.budget import BURST, CEILING, REFILL_PER_SECOND, WEIGHTS, WINDOW_SECONDS, BudgetSpent, RestBudget
from apps.bus.budget import pause_seconds as pause

DAY_SECONDS = 86_400.0
SLACK_SECONDS = 3.0  # the server's clock goes on between the calls of a test


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def client(redis_client: redis.Redis, redis_url: str) -> Iterator[redis.Redis]:
    with clients.glance(redis_url) as client:
        yield client


@pytest.fixture
def redis_url(servers: dict[str, str]) -> str:
    return servers["REDIS_URL"]


@pytest.fixture
def away() -> Iterator[redis.Redis]:
    """A client of a server that is not there."""
    with clients.glance("redis://127.0.0.1:9/0") as client:
        yield client


def turn(budget: RestBudget, weight: int) -> tuple[float, int]:
    """When the call may be made, and its weight."""
    wait = budget.take(weight, wait_max_seconds=DAY_SECONDS)
    return time.monotonic() + wait, weight


def most_in_a_window(turns: list[tuple[float, int]], seconds: float = WINDOW_SECONDS - 0.2) -> int:
    """The greatest weight within so many seconds; turns are (time, weight). The default leaves room for the test."""
    return max(sum(weight for at, weight in turns if 0 <= at - begin < seconds) for begin, _ in turns)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights=st.lists(st.sampled_from(sorted(set(WEIGHTS.values()))), min_size=1, max_size=150))
def test_no_ten_seconds_hold_more_than_the_ceiling_whatever_is_called(client: redis.Redis, weights: list[int]) -> None:
    client.flushdb()
    budget = RestBudget(client)
    began = time.monotonic()
    turns = [turn(budget, weight) for weight in weights]
    assert most_in_a_window(turns) <= CEILING
    longest = max(at for at, _ in turns) - began
    assert longest >= (sum(weights) - BURST) / REFILL_PER_SECOND - SLACK_SECONDS
    assert longest <= max(sum(weights) - BURST, 0) / REFILL_PER_SECOND + SLACK_SECONDS


def test_the_ceiling_is_half_of_what_the_exchange_allows() -> None:
    assert BURST + REFILL_PER_SECOND * WINDOW_SECONDS == CEILING == 150


def test_all_processes_share_one_budget(redis_url: str) -> None:
    shares: list[list[float]] = [[], []]

    def call(number: int) -> None:
        with clients.glance(redis_url) as own:
            budget = RestBudget(own)
            shares[number] += [budget.take(1, wait_max_seconds=DAY_SECONDS) for _ in range(150)]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shares[0]) == len(shares[1]) == 150
    assert max(shares[0] + shares[1]) >= (300 - BURST) / REFILL_PER_SECOND - 4


def test_what_cannot_wait_long_enough_takes_nothing(client: redis.Redis) -> None:
    budget = RestBudget(client)
    assert budget.take(BURST) == 0.0
    budget.take(BURST * 20, wait_max_seconds=DAY_SECONDS)
    full = BURST * 20 / REFILL_PER_SECOND
    for _ in range(50):
        with pytest.raises(BudgetSpent) as spent:
            budget.take(25, wait_max_seconds=1.0)
        assert 1.0 < spent.value.seconds <= full + 25 / REFILL_PER_SECOND
    assert budget.take(25, wait_max_seconds=DAY_SECONDS) <= full + 25 / REFILL_PER_SECOND


def test_a_pause_that_the_exchange_asked_for_holds_for_everybody(client: redis.Redis) -> None:
    RestBudget(client).penalty(40)
    RestBudget(client).penalty(2)  # does not shorten it
    other = RestBudget(client)
    began = time.monotonic()
    turns = [turn(other, 5) for _ in range(60)]
    assert all(at - began > 35 for at, _ in turns)
    assert min(at for at, _ in turns) - began < 40 + SLACK_SECONDS
    assert most_in_a_window(turns) <= CEILING  # nobody storms the exchange when it is over


def test_a_pause_is_kept_by_the_one_who_was_asked_also_when_redis_forgets_it(client: redis.Redis) -> None:
    budget = RestBudget(client)
    budget.penalty(40)
    client.flushdb()
    assert 35 < budget.take(1, wait_max_seconds=60) <= 40


def test_without_redis_each_process_has_a_tenth_and_pauses_still_hold(away: redis.Redis) -> None:
    hands = Hands()
    budget = RestBudget(away, monotonic=hands)
    turns = [(budget.take(1, wait_max_seconds=DAY_SECONDS), 1) for _ in range(100)]
    assert budget.alone
    assert most_in_a_window(turns, WINDOW_SECONDS) <= CEILING / 10
    with pytest.raises(BudgetSpent):
        budget.take(1, wait_max_seconds=1)
    hands.now += 1_000
    assert budget.take(1) == 0.0
    budget.penalty(30)
    assert budget.take(1) == pytest.approx(30)


@pytest.mark.parametrize("rate", [1.0, 40.0])
def test_the_bucket_refills_as_fast_as_the_clock_goes(client: redis.Redis, rate: float) -> None:
    budget = RestBudget(client, rate=rate)
    waits = [budget.take(10, wait_max_seconds=DAY_SECONDS) for _ in range(123)]
    full = (1_230 - BURST) / REFILL_PER_SECOND / rate
    assert full - SLACK_SECONDS < waits[-1] <= full
    budget.penalty(4_000)
    assert budget.take(1, wait_max_seconds=DAY_SECONDS) >= 4_000 / rate - SLACK_SECONDS


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (200, None, None),
        (500, "5", None),
        (429, "7", 7.0),
        (429, " 7 ", 7.0),
        (429, "0", 1.0),
        (429, None, 10.0),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", 10.0),
        (429, "-5", 10.0),
        (429, "٧", 10.0),
        (418, None, 120.0),
        (418, "999999999", 259_200.0),
        (418, "9" * 400, 120.0),
    ],
)
def test_retry_after_is_read_in_seconds_and_within_bounds(
    status: int, header: str | None, seconds: float | None
) -> None:
    assert pause(status, header) == seconds


def test_nothing_is_left_in_redis_once_the_bucket_is_full_again(client: redis.Redis) -> None:
    budget = RestBudget(client)
    budget.take(1)
    budget.penalty(5)
    assert all(0 < client.pttl(key) < 10_000 for key in client.scan_iter("rest_*"))
