"""What a feed may not do: wait ever longer although it works, or pass a made-up market off as the real one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apps.engine import timeouts
from apps.ops.services.sessions import Wanted, source_of
from tests.ingest.processes import wait_until
from tests.ingest.scripted import Visit, scripted
from tests.ingest.test_connection import FRAME, watching

FAILURES = 7
RATE = 12.0  # slow enough that a busy machine's pauses do not look like a connection that stands still


def test_a_connection_that_held_for_a_minute_is_followed_by_a_short_wait_again() -> None:
    """After seven failures the wait may be half a minute; it must not stay that long once data has flowed."""
    ended: list[float] = []
    came_back: list[float] = []

    def script(visit: Visit) -> None:
        if visit.number > FAILURES + 1:
            came_back.append(time.monotonic())
        visit.accept()
        if visit.number == FAILURES + 1:
            _hold(visit, timeouts.FEED_BACKOFF_RESET_AFTER_SECONDS + 4)
            ended.append(time.monotonic())
        if visit.number <= FAILURES + 1:
            visit.connection.close(1001, "going away")
        else:
            visit.serve_pings()

    with scripted(script) as server, watching(server.url, rate=RATE):
        wait_until(lambda: came_back, "the connection after the stable one", 40)
        assert len(server.visits) == FAILURES + 2
    waited_seconds = (came_back[0] - ended[0]) * RATE
    # the first wait is half a second at most; the rest is what a busy machine adds, twelve times as long here
    assert waited_seconds < timeouts.FEED_BACKOFF_FIRST_SECONDS + 5


def _hold(visit: Visit, seconds: float) -> None:
    """Answer PINGs and send frames for this long, by the connection's fast clock."""
    end = time.monotonic() + seconds / RATE
    while time.monotonic() < end:
        visit.connection.send(FRAME)
        try:
            if visit.read(0.02)["method"] == "PING":
                visit.say("PONG")
        except TimeoutError:
            continue


@pytest.mark.parametrize(
    ("mode", "kind", "word"),
    [("demo", "synthetic", "synthetic market"), ("replay", "replay", "trades.csv"), ("live", "live", "https://")],
)
def test_a_session_says_where_its_market_comes_from(mode: str, kind: str, word: str, tmp_path: Path) -> None:
    """Nothing but the real feed carries the source that real instruments have, so the two never share a row."""
    recording = tmp_path / "trades.csv"
    recording.write_text("symbol\n")
    wanted = Wanted(mode, "NORMAL", "https://exchange.invalid", 4, "hash", ("BTCUSDT",), 7, None, (recording,))
    found_kind, source, description = source_of(wanted)
    assert found_kind == kind
    assert word in description
    assert (source == "live") is (mode == "live")
