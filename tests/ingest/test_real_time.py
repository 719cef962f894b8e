"""Deadlines by the machine's own clock, from the outside: how long the real process is fooled by a dead connection."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faultproxy import FaultProxy
from tests.ingest.processes import Exchange, Ingest, Valkey, configuration, wait_until

pytestmark = pytest.mark.alone

HALF_OPEN_MAX_SECONDS = 40
HALF_FRAME_MAX_SECONDS = 6
BLOCKED_MAX_SECONDS = 10


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    # At its own pace the market of two symbols rests for up to ten seconds; nothing here is about a calm market.
    process = Exchange([], 1.0, tmp_path, options=["--trades-per-second", "200"])
    yield process
    process.end()


def command(exchange: Exchange, do: str, **options: Any) -> None:
    request = urllib.request.Request(
        f"{exchange.rest_url}/exchange/control",
        json.dumps({"do": do, **options}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def connection(ingest: Ingest) -> dict[str, Any]:
    """What /health says of the only connection; empty before the ingest has begun."""
    _, body = ingest.get("/health")
    found: dict[str, Any] = json.loads(body)["connections"].get("feed-0", {}) if body.startswith("{") else {}
    return found


def seconds_until_left(ingest: Ingest, since: float, limit: float) -> float:
    """Seconds from `since` until the connection is no longer taken for open."""
    wait_until(lambda: connection(ingest).get("state") in ("CLOSED", "CONNECTING"), "left", limit)
    return time.monotonic() - since


def test_a_half_open_connection_is_left_within_forty_seconds(
    tmp_path: Path, valkey: Valkey, exchange: Exchange
) -> None:
    """Nothing is closed, nothing is refused: bytes simply stop. Nobody but our own clock can notice."""
    with FaultProxy("127.0.0.1", exchange.port) as proxy:
        ws_url = f"ws://127.0.0.1:{proxy.port}/ws"
        ingest = Ingest(configuration(ws_url, exchange.rest_url, valkey.url, epoch=41), tmp_path)
        try:
            wait_until(ingest.healthy, "data flows", 30)
            proxy.drop()
            dropped_at = time.monotonic()
            wait_until(lambda: connection(ingest).get("state") == "STALE", "stale first", 30)
            assert not ingest.healthy()
            assert seconds_until_left(ingest, dropped_at, 30) <= HALF_OPEN_MAX_SECONDS
            proxy.reset()  # of what is stuck in the proxy; new connections pass again
            proxy.heal()
            wait_until(ingest.healthy, "data flows again", 45)
        finally:
            ingest.end()


def test_half_a_frame_and_silence_is_left_within_six_seconds(
    tmp_path: Path, valkey: Valkey, exchange: Exchange
) -> None:
    ingest = Ingest(configuration(exchange.ws_url, exchange.rest_url, valkey.url, epoch=42), tmp_path)
    try:
        wait_until(ingest.healthy, "data flows", 30)
        command(exchange, "cut_frame", then="nothing")
        wait_until(lambda: "cut_frame" in exchange.log, "the frame is cut", 60)
        cut_at = time.monotonic()
        assert seconds_until_left(ingest, cut_at, 20) <= HALF_FRAME_MAX_SECONDS + 2
    finally:
        ingest.end()


def test_when_everything_is_refused_blocked_is_visible_within_ten_seconds(
    tmp_path: Path, valkey: Valkey, exchange: Exchange
) -> None:
    command(exchange, "refuse")
    started_at = time.monotonic()
    ingest = Ingest(configuration(exchange.ws_url, exchange.rest_url, valkey.url, epoch=43), tmp_path)
    try:
        wait_until(lambda: connection(ingest).get("state") == "BLOCKED", "blocked", BLOCKED_MAX_SECONDS)
        assert ingest.get("/health")[0] == 503
        assert ingest.metric('cdb_ingest_connection_state{connection="feed-0",state="BLOCKED"}') == 1.0
        assert time.monotonic() - started_at <= BLOCKED_MAX_SECONDS
    finally:
        ingest.end()
