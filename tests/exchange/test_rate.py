"""The exchange's own clock: its rules run faster, event time and our own bounds do not."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.exchange.helpers import START_MS, book_ticker, connected, deals, exchange
from tests.exchange.test_session import SYMBOLS
from workers.exchange.limits import TICK_SECONDS_MIN, Limits
from workers.exchange.session import Close, Reply, Session
from workers.exchange.synthetic import SyntheticSource

SUBSCRIPTION = json.dumps({"method": "SUBSCRIPTION", "params": [deals("BTCUSDT")]})
PING = '{"method":"PING"}'


@pytest.mark.parametrize("rate", [1.0, 30.0, 60.0, 1_000.0])
def test_a_connection_meets_the_same_ends_at_every_rate_in_the_exchanges_seconds(rate: float) -> None:
    limits = Limits().at_rate(rate)
    session = Session(limits, SYMBOLS, now=0.0)
    assert session.on_time(29.9 / rate) is None
    assert session.on_time(30.0 / rate) == Close(1000, "no valid subscription")
    session.on_text(SUBSCRIPTION, 0.0)
    assert session.on_time(59.9 / rate) is None
    assert session.on_time(60.0 / rate) == Close(1000, "no traffic")
    session.on_sent(86_399.0 / rate)
    assert session.on_time(86_399.9 / rate) is None
    assert session.on_time(86_400.1 / rate) == Close(1000, "connection reached its maximum age")


@pytest.mark.parametrize("rate", [1.0, 60.0])
def test_the_hundred_and_first_message_within_a_second_of_the_exchange_closes(rate: float) -> None:
    session = Session(Limits().at_rate(rate), SYMBOLS, now=0.0)
    for number in range(100):
        assert isinstance(session.on_text(PING, number / 1_000 / rate)[0], Reply)
    assert session.on_text(PING, 0.9 / rate) == [Close(1008, "too many control messages")]


@pytest.mark.parametrize("rate", [1.0, 64.0])
def test_exactly_the_allowed_number_in_a_second_of_the_exchange_goes_on_for_ever(rate: float) -> None:
    session = Session(Limits(control_messages_per_second_max=64).at_rate(rate), SYMBOLS, now=0.0)
    for number in range(1_000):
        assert isinstance(session.on_text(PING, number / 64 / rate)[0], Reply)


@pytest.mark.parametrize(
    ("rate", "tick_seconds"), [(1, 0.1), (2, 0.05), (10, TICK_SECONDS_MIN), (60, TICK_SECONDS_MIN), (1_000, 0.01)]
)
def test_ticks_come_faster_but_not_without_bound(rate: float, tick_seconds: float) -> None:
    assert Limits().at_rate(rate).tick_seconds == tick_seconds


def test_our_own_bounds_do_not_change() -> None:
    usual, fast = Limits(), Limits().at_rate(60)
    assert (fast.send_buffer_bytes_max, fast.close_seconds, fast.connections_max, fast.subscriptions_max) == (
        usual.send_buffer_bytes_max,
        usual.close_seconds,
        usual.connections_max,
        usual.subscriptions_max,
    )
    assert fast.rest_window_seconds == usual.rest_window_seconds / 60


def test_a_day_passes_in_seconds_while_event_time_goes_on_as_before() -> None:
    async def run() -> None:
        source = SyntheticSource(1, START_MS)
        # At this rate a busy machine would be silent for "60 s" now and then.
        limits = Limits(lifetime_seconds=1_500, idle_seconds=10**6, no_subscription_seconds=10**6).at_rate(1_000)
        async with (
            exchange(source, limits=limits, speed=20) as server,
            connected(server) as client,
        ):
            await client.subscribe(deals("BTCUSDT"), book_ticker("BTCUSDT"))
            assert await client.closed(timeout_seconds=60) == 1000
            lived_ms = server.hub.reached_ms - START_MS
            assert 1_300 * 20 <= lived_ms < 60_000 * 20

    asyncio.run(run())
