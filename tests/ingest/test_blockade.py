"""Refused everywhere, the whole ingest asks once a minute; served anywhere, each connection keeps its own pace."""

from __future__ import annotations

import random
import time
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ingest.processes import wait_until
from tests.ingest.scripted import Visit, scripted
from tests.ingest.test_connection import RATE
from workers.ingest.blockade import PAUSE_SECONDS, Blockade
from workers.ingest.clock import Clock
from workers.ingest.connection import Connection
from workers.ingest.inbox import Inbox
from workers.ingest.log import BoundedLog
from workers.ingest.status import State
from workers.ingest.tally import Tally


def nothing() -> None:
    """Nobody has to be woken."""


@settings(deadline=None)
@given(wishes=st.lists(st.tuples(st.integers(0, 9), st.floats(0, 600)), max_size=40))
def test_turns_are_a_minute_apart_and_never_before_they_are_asked_for(wishes: list[tuple[int, float]]) -> None:
    blockade, now, turns = Blockade(), 1_000.0, []
    for name, pause in wishes:
        now += pause / 10
        turn = blockade.turn(f"feed-{name}", now + pause, nothing)
        assert turn >= now + pause
        turns.append(turn)
    assert all(later - earlier >= PAUSE_SECONDS - 1e-6 for earlier, later in pairwise(turns))


def test_once_a_connection_delivers_the_others_are_woken_and_keep_their_own_pace() -> None:
    blockade, woken = Blockade(), []
    for number in range(3):
        blockade.turn(f"feed-{number}", 60.0, lambda number=number: woken.append(number))  # type: ignore[misc]
    blockade.tries("feed-0")
    blockade.delivers("feed-0")
    assert (woken, blockade.lifted) == ([1, 2], True)
    blockade.delivers("feed-0")
    assert woken == [1, 2]
    assert blockade.turn("feed-3", 70.0, nothing) == 70.0
    blockade.ends("feed-0")
    assert not blockade.lifted


def test_three_blocked_connections_make_one_attempt_a_minute_together_and_all_recover_at_once() -> None:
    times: list[float] = []
    served = False

    def script(visit: Visit) -> None:
        times.append(time.monotonic() * RATE)
        request = visit.read()
        names = request["params"]
        refusal = f"Not Subscribed successfully! [{','.join(names)}].  Reason\uff1a Blocked! "
        visit.say(",".join(names) if served else refusal, request["id"])
        visit.serve_pings()

    clock, inbox, blockade = Clock(RATE), Inbox(), Blockade()
    tally = Tally(BoundedLog(clock.monotonic))
    with scripted(script) as server:
        connections = [
            Connection(name, (symbol,), server.url, inbox, tally, clock, random.Random(1), blockade=blockade)
            for name, symbol in (("feed-0", "BTCUSDT"), ("feed-1", "ETHUSDT"), ("feed-2", "SOLUSDT"))
        ]
        for connection in connections:
            connection.start()
        try:
            wait_until(lambda: all(each.status.state is State.BLOCKED for each in connections), "blocked")
            wait_until(lambda: len(times) == 6, "three more attempts")
            later = times[3:]
            assert all(second - first > 55 for first, second in pairwise(later))
            served = True
            wait_until(lambda: all(each.status.state is State.STREAMING for each in connections), "all deliver")
            assert len(server.visits) <= 10
        finally:
            for connection in connections:
                connection.stop()
            for connection in connections:
                connection.join(5)
