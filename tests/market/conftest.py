"""A local exchange for the tests that ask its REST."""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from workers.exchange.server import ExchangeServer, running
from workers.exchange.synthetic import SyntheticSource

EXCHANGE_START_MS = 1_700_000_040_000


@pytest.fixture(scope="module")
def rest_url() -> Iterator[str]:
    """The local exchange in a thread of its own; its event time stands at `EXCHANGE_START_MS`."""
    ready, stop, found = threading.Event(), threading.Event(), {}

    async def serve() -> None:
        async with running(ExchangeServer(SyntheticSource(seed=1, start_ms=EXCHANGE_START_MS))) as server:
            found["port"] = server.port
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)
    url = f"http://127.0.0.1:{found['port']}"
    # The first question for a day makes the day; asked here, so that no test's patience depends on the machine.
    with urllib.request.urlopen(f"{url}/api/v3/ticker/24hr", timeout=120) as answer:
        assert answer.status == 200
    yield url
    stop.set()
    thread.join(20)
