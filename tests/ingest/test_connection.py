"""One connection against servers that behave and servers that do not. The clock runs forty times as fast."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import pytest

from apps.engine import timeouts
from tests.ingest.market import deals_frame
from tests.ingest.processes import wait_until
from tests.ingest.scripted import Visit, refusing, scripted
from workers.ingest.channels import channels_of, deals_channel
from workers.ingest.clock import Clock
from workers.ingest.connection import Connection
from workers.ingest.inbox import FRAMES_MAX, Accepted, Closed, Frames, Inbox, Item, Opened, Refused
from workers.ingest.log import BoundedLog
from workers.ingest.status import State
from workers.ingest.tally import Tally
from workers.ingest.transitions import Transitions

RATE = 40.0
Kind = TypeVar("Kind", Opened, Accepted, Frames, Closed, Refused)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
FRAME = deals_frame("BTCUSDT", [("1.00", "1", 1, 5, "a")], 5)


class Watched:
    """A running connection and everything it handed over."""

    def __init__(self, url: str, frames_max: int, rotation_seconds: float, rate: float) -> None:
        clock = Clock(rate)
        self.inbox = Inbox(frames_max)
        self.tally = Tally(BoundedLog(clock.monotonic))
        transitions = Transitions(1)
        self.connection = Connection(
            "feed-0", SYMBOLS, url, self.inbox, self.tally, clock, random.Random(1), transitions, rotation_seconds
        )
        self.transitions: list[dict[str, Any]] = []
        self.status = self.connection.status
        self.items: list[Item] = []

    def seen(self, kind: type[Kind]) -> list[Kind]:
        self.items += self.inbox.take_all()
        return [item for item in self.items if isinstance(item, kind)]

    @property
    def frames(self) -> int:
        return sum(len(item.payloads) for item in self.seen(Frames))

    def state(self, state: State, seconds: float = 10.0) -> None:
        wait_until(lambda: self.status.state is state, f"state {state}", seconds)

    def closed_because(self, words: str) -> None:
        wait_until(lambda: self.status.last_close, f"closed because of {words}")
        assert self.status.last_close is not None
        assert words in str(self.status.last_close["reason"])


@contextmanager
def watching(
    url: str,
    frames_max: int = FRAMES_MAX,
    rotation_seconds: float = timeouts.FEED_ROTATION_SECONDS,
    rate: float = RATE,
) -> Iterator[Watched]:
    watched = Watched(url, frames_max, rotation_seconds, rate)
    watched.connection.start()
    try:
        yield watched
    finally:
        watched.connection.stop()
        watched.connection.join(5)
        assert not watched.connection.is_alive()


def test_a_good_server_leads_to_streaming_and_its_frames_come_after_the_acceptance() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        visit.connection.send(FRAME)
        visit.connection.send([FRAME[:10], FRAME[10:]])  # a fragmented message is one frame
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        watched.state(State.STREAMING)
        wait_until(lambda: watched.frames == 2, "two frames")
        wait_until(lambda: watched.status.vitals.last_pong_ms, "a PONG")
        kinds = [type(item) for item in watched.items]
        assert kinds[:3] == [Opened, Accepted, Frames]
        assert [p for item in watched.items if isinstance(item, Frames) for p in item.payloads] == [FRAME, FRAME]
        (accepted,) = watched.seen(Accepted)
        assert accepted == Accepted("feed-0", accepted.symbols, True, "ingest start")
        assert set(accepted.symbols) == set(SYMBOLS)
        assert server.visits[0].requests[0]["params"] == channels_of(SYMBOLS)
    assert len(watched.seen(Closed)) == 1


def test_a_missing_answer_is_asked_for_again_and_then_the_connection_is_made_anew() -> None:
    def script(visit: Visit) -> None:
        if visit.number == 1:
            visit.listen_only()
        visit.accept()
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        watched.state(State.STREAMING)
        first = [request for request in server.visits[0].requests if request["method"] == "SUBSCRIPTION"]
        assert [request["params"] for request in first] == [channels_of(SYMBOLS)] * 2
        watched.closed_because("no answer to 4 subscriptions")


def test_when_everything_is_refused_it_is_blocked_and_leaves_the_exchange_alone_for_a_minute() -> None:
    times: list[float] = []

    def script(visit: Visit) -> None:
        times.append(time.monotonic() * RATE)
        visit.accept(refused=tuple(channels_of(SYMBOLS)))
        visit.listen_only()

    with scripted(script) as server, watching(server.url) as watched:
        watched.state(State.BLOCKED)
        assert "Blocked!" in watched.status.reason
        assert set(watched.status.refused) == set(channels_of(SYMBOLS))
        wait_until(lambda: len(server.visits) == 2, "a second attempt")
    assert 50 <= times[1] - times[0] <= 75
    assert not watched.seen(Accepted)


def test_what_is_refused_shows_while_the_rest_streams_and_is_covered_once_it_is_accepted() -> None:
    refused = deals_channel("ETHUSDT")

    def script(visit: Visit) -> None:
        visit.accept(refused=(refused,))
        while True:
            request = visit.read()
            if request["method"] == "PING":
                visit.say("PONG")
            else:
                visit.say(",".join(request["params"]), request["id"])

    with scripted(script) as server, watching(server.url) as watched:
        watched.state(State.STREAMING)
        assert watched.status.refused == {refused: "Blocked!"}
        wait_until(lambda: len(watched.seen(Accepted)) == 2, "accepted late")
        assert watched.seen(Accepted) == [
            Accepted("feed-0", ("BTCUSDT",), True, "ingest start"),
            Accepted("feed-0", ("ETHUSDT",), False, "accepted late"),
        ]
        assert watched.status.refused == {}
        assert len(server.visits) == 1


def half_a_frame(visit: Visit) -> None:
    visit.raw(b"\x82\x7e\x01\x00half")


def drops_of_a_frame(visit: Visit) -> None:
    visit.raw(b"\x82\x7e\xff\xff")
    while True:
        visit.raw(b"x")
        time.sleep(0.005)


def half_a_message(visit: Visit) -> None:
    visit.raw(b"\x02\x02ab")


@pytest.mark.parametrize("misbehave", [half_a_frame, drops_of_a_frame, half_a_message])
def test_half_a_frame_and_no_end_is_noticed_in_seconds(misbehave: Callable[[Visit], None]) -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        if visit.number == 1:
            misbehave(visit)
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        watched.closed_because("half a frame")
        assert watched.status.last_close is not None
        assert float(str(watched.status.last_close["age_ms"])) / 1000 < 8
        wait_until(lambda: len(server.visits) == 2, "a new connection")
        wait_until(lambda: len(watched.seen(Accepted)) == 2, "accepted again")
        assert watched.seen(Accepted)[1] == Accepted(
            "feed-0", watched.seen(Accepted)[0].symbols, True, "reconnect: half a frame, then silence", 2
        )


def test_a_silent_peer_is_stale_after_20_seconds_and_left_after_35() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        if visit.number == 1:
            visit.listen_only()
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        watched.state(State.STALE)
        watched.closed_because("no PONG for 35 s")
        assert watched.status.last_close is not None
        assert 34 <= float(str(watched.status.last_close["age_ms"])) / 1000 <= 40
        pings = [request for request in server.visits[0].requests if request["method"] == "PING"]
        assert len(pings) == 2


def test_frames_do_not_make_up_for_a_missing_pong() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        while True:
            visit.connection.send(FRAME)
            time.sleep(0.01)

    with scripted(script) as server, watching(server.url) as watched:
        watched.closed_because("no PONG for 35 s")


def test_a_late_pong_brings_it_back_to_streaming() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        visit.read()
        visit.read()  # the second PING, when 20 s without a PONG have passed
        visit.say("PONG")
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        watched.state(State.STALE)
        watched.state(State.STREAMING)
        assert len(server.visits) == 1


def test_the_words_of_a_close_are_kept() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        if visit.number == 1:
            visit.connection.close(1008, "slow reader")
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        watched.closed_because("closed by the exchange: slow reader")
        assert watched.status.last_close is not None
        assert watched.status.last_close["code"] == 1008
        assert watched.status.last_close["subscriptions"] == 4
        wait_until(lambda: watched.status.reconnects == 1, "a reconnect")


def test_a_frame_too_large_to_be_true_is_refused_before_it_is_read() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        visit.raw(b"\x82\x7f" + struct.pack("!Q", 2**40))
        visit.listen_only()

    with scripted(script) as server, watching(server.url) as watched:
        watched.closed_because(f"frame of {2**40} bytes")


def test_texts_that_mean_nothing_are_counted_and_change_nothing() -> None:
    def script(visit: Visit) -> None:
        visit.connection.send("Invalid listen key")
        visit.connection.send("")
        visit.say("something else")
        visit.accept()
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        watched.state(State.STREAMING)
        assert watched.tally.dropped == {"unknown_text": 3}


def test_a_ping_of_the_protocol_is_answered() -> None:
    answered: list[bool] = []

    def script(visit: Visit) -> None:
        visit.accept()
        answered.append(visit.connection.ping("x").wait(2))
        visit.serve_pings()

    with scripted(script) as server, watching(server.url):
        wait_until(lambda: answered, "an answer")
    assert answered == [True]


def test_nobody_listening_is_tried_again_with_patience() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with watching(f"ws://127.0.0.1:{port}/ws") as watched:
        wait_until(lambda: watched.status.closes >= 4, "attempts")
        assert watched.status.reason.startswith("connect: ")
    assert not watched.seen(Opened)


def test_a_handshake_that_is_never_answered_ends_at_the_connect_deadline(taken_port: int) -> None:
    begun = time.monotonic()
    with watching(f"ws://127.0.0.1:{taken_port}/ws") as watched:
        wait_until(lambda: "timed out" in watched.status.reason, "given up")
    assert (time.monotonic() - begun) * RATE < 30


def test_a_refused_handshake_is_told_by_its_status() -> None:
    with refusing(HTTPStatus.FORBIDDEN) as url, watching(url) as watched:
        wait_until(lambda: watched.status.reason == "connect: HTTP status 403", "the status")


def test_the_consumers_lag_slows_the_reader_instead_of_filling_memory() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        for _ in range(3_000):
            visit.connection.send(FRAME)
        visit.serve_pings()

    with scripted(script) as server, watching(server.url, 500) as watched:
        wait_until(lambda: watched.inbox.full, "full")
        assert watched.inbox.frames < 1_100
        wait_until(lambda: watched.frames == 3_000, "all frames, none lost")
    assert len(server.visits) == 1
