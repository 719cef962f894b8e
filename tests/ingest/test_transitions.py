"""Every change of state has one reason of a closed list; it is logged, counted and kept for others to read."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import pytest
import redis

from apps.bus import clients, streams
from tests.ingest.frames import deals_frame, quote_frame
from tests.ingest.processes import EPOCH, Valkey, wait_until
from tests.ingest.scripted import Visit, refusing, scripted
from tests.ingest.test_connection import FRAME, SYMBOLS, Watched, half_a_frame, watching
from workers.ingest.channels import channels_of, deals_channel
from workers.ingest.clock import Clock
from workers.ingest.inbox import Accepted, Closed, Opened, Refused
from workers.ingest.log import BoundedLog
from workers.ingest.status import Category, State
from workers.ingest.tally import Tally
from workers.ingest.transitions import KEPT_MAX, WAITING_MAX, Closing, Transition, Transitions

FACTS: Final = {
    "token",
    "connection",
    "at_ms",
    "from",
    "to",
    "category",
    "reason",
    "closed_by",
    "code",
    "age_ms",
    "last_frame_age_ms",
    "last_pong_age_ms",
    "bytes_in",
    "subscriptions",
}


def noted(watched: Watched) -> list[dict[str, Any]]:
    """All transitions so far."""
    watched.transitions += watched.connection._transitions.take(WAITING_MAX)
    return watched.transitions


def first_close(watched: Watched) -> dict[str, Any]:
    found: dict[str, Any] = wait_until(
        lambda: next((each for each in noted(watched) if each["to"] in (State.CLOSED, State.BLOCKED)), None), "an end"
    )
    return found


def closes_with_a_reason(visit: Visit) -> None:
    visit.connection.close(1008, "slow reader")


def vanishes(visit: Visit) -> None:
    visit.connection.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: a reset instead of a goodbye
    visit.connection.close_socket()


def listens_only(visit: Visit) -> None:
    visit.listen_only()


def speaks_nonsense(visit: Visit) -> None:
    visit.raw(b"\x8f\x00")
    visit.listen_only()


def sends_half(visit: Visit) -> None:
    half_a_frame(visit)
    visit.listen_only()


@pytest.mark.parametrize(
    ("end", "category", "closed_by", "code"),
    [
        (closes_with_a_reason, Category.CLOSED_BY_EXCHANGE, "exchange", 1008),
        (vanishes, Category.NETWORK_ERROR, "network", None),
        (listens_only, Category.NO_PONG, "us", None),
        (speaks_nonsense, Category.PROTOCOL_ERROR, "us", None),
        (sends_half, Category.PARTIAL_FRAME, "us", None),
    ],
)
def test_an_end_is_told_by_who_ended_it_and_why(
    end: Callable[[Visit], None], category: Category, closed_by: str, code: int | None
) -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        if visit.number == 1:
            visit.connection.send(FRAME)
            end(visit)
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        close = first_close(watched)
        wait_until(lambda: any(each["category"] == Category.RETRIED for each in noted(watched)), "another attempt")
    assert set(close) == FACTS
    assert (close["from"] in (State.STREAMING, State.STALE), close["category"]) == (True, category)
    assert (close["closed_by"], close["code"], close["subscriptions"]) == (closed_by, code, 4)
    assert close["bytes_in"] > 0
    assert 0 <= close["last_frame_age_ms"] <= close["age_ms"]
    assert [each["category"] for each in noted(watched)[:3]] == [
        Category.STARTED,
        Category.CONNECTED,
        Category.SUBSCRIBED,
    ]


def test_a_connection_that_gets_no_frame_at_all_but_is_late_first_says_both() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        visit.listen_only()

    with scripted(script) as server, watching(server.url) as watched:
        first_close(watched)
    steps = [(each["from"], each["to"], each["category"]) for each in noted(watched)]
    assert (State.STREAMING, State.STALE, Category.LATE) in steps
    assert (State.STALE, State.CLOSED, Category.NO_PONG) in steps


def test_a_refused_handshake_and_a_missing_answer_have_their_own_category() -> None:
    with refusing(HTTPStatus.BAD_GATEWAY) as url, watching(url) as watched:
        close = first_close(watched)
    assert (close["category"], close["closed_by"], close["from"]) == (
        Category.HANDSHAKE_FAILED,
        "exchange",
        State.CONNECTING,
    )
    with scripted(lambda visit: visit.listen_only()) as server, watching(server.url) as watched:
        assert first_close(watched)["category"] == Category.NO_ACK


def test_everything_refused_is_blocked_and_says_until_when() -> None:
    def script(visit: Visit) -> None:
        visit.accept(refused=tuple(channels_of(SYMBOLS)))
        visit.listen_only()

    with scripted(script) as server, watching(server.url) as watched:
        assert first_close(watched)["category"] == Category.BLOCKED
        assert watched.status.blocked_until_ms is not None
        assert watched.status.blocked_until_ms > time.time() * 1000
        assert len(watched.seen(Refused)) == 1
        assert watched.seen(Refused)[0].symbols == SYMBOLS


def test_a_channel_that_is_never_answered_does_not_take_the_others_with_it_for_ever() -> None:
    mute = deals_channel("ETHUSDT")

    def script(visit: Visit) -> None:
        request = visit.read()
        visit.say(",".join(name for name in request["params"] if name != mute), request["id"])
        visit.serve_pings()

    with scripted(script) as server, watching(server.url) as watched:
        wait_until(lambda: watched.status.state is State.STREAMING, "streaming at last")
        assert watched.status.refused == {mute: "no answer"}
        wait_until(lambda: watched.seen(Accepted), "accepted")
        assert watched.seen(Accepted)[0].symbols == ("BTCUSDT",)
        assert [refusal.symbols for refusal in watched.seen(Refused)] == [("ETHUSDT",)]
    assert len(server.visits) == 2


def answering(visit: Visit) -> None:
    """Accept whatever is asked, answer every PING."""
    while True:
        request = visit.read()
        if request["method"] == "PING":
            visit.say("PONG")
        else:
            visit.say(",".join(request["params"]), request["id"])


def test_symbols_change_on_the_open_socket_and_silent_ones_are_asked_for_again() -> None:
    with scripted(answering) as server, watching(server.url) as watched:
        watched.state(State.STREAMING)
        watched.connection.change(leave=["ETHUSDT"], join=["SOLUSDT"])
        wait_until(lambda: len(watched.seen(Accepted)) == 2, "the new one is accepted")
        watched.connection.subscribe_again("BTCUSDT")
        wait_until(lambda: asked(server.visits[0])[-1] == ("SUBSCRIPTION", channels_of(["BTCUSDT"])), "asked again")
        wait_until(lambda: watched.status.accepted == 4, "as many channels as before")
        assert watched.status.symbols == ("BTCUSDT", "SOLUSDT")
        assert watched.seen(Accepted)[1] == Accepted("feed-0", ("SOLUSDT",), False, "accepted late", 1)
    assert asked(server.visits[0])[1:3] == [
        ("UNSUBSCRIPTION", channels_of(["ETHUSDT"])),
        ("SUBSCRIPTION", channels_of(["SOLUSDT"])),
    ]
    assert len(server.visits) == 1
    assert watched.tally.dropped == {}


def asked(visit: Visit) -> list[tuple[str, list[str]]]:
    return [(each["method"], each["params"]) for each in visit.requests if each["method"] != "PING"]


def test_a_connection_that_nobody_wants_any_more_ends_also_while_it_is_blocked() -> None:
    def refuse(visit: Visit) -> None:
        visit.accept(refused=tuple(channels_of(SYMBOLS)))
        visit.listen_only()

    for script, state in ((answering, State.STREAMING), (refuse, State.BLOCKED)):
        with scripted(script) as server, watching(server.url) as watched:
            watched.state(state)
            watched.connection.change(leave=SYMBOLS)
            wait_until(lambda: not watched.connection.is_alive(), "the thread has ended")
            assert noted(watched)[-1]["category"] == Category.EMPTIED


def test_a_successor_that_is_not_taken_is_closed_and_the_old_link_goes_on() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        visit.connection.send(quote_frame("BTCUSDT", "1.00", "2.00", 5))
        visit.serve_pings()

    with scripted(script) as server, watching(server.url, rotation_seconds=5.0) as watched:
        wait_until(lambda: categories(watched).count(Category.ROTATION_GIVEN_UP) == 1, "given up")
        assert watched.connection.is_alive()
        opened = watched.seen(Opened)
        assert (opened[0].handover, opened[1].link) == (None, 2)
        assert opened[1].handover is not None
        assert "not ready" in opened[1].handover.failed
        assert [closed.link for closed in watched.seen(Closed)] == [2]
        assert watched.status.reconnects == 0
        wait_until(lambda: len(server.visits) == 3, "another attempt later")


def test_when_the_old_link_ends_its_successor_is_the_connection_at_once() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        visit.connection.send(FRAME)
        if visit.number == 1:
            wait_until(lambda: len(server.visits) > 1 and len(server.visits[1].requests) > 0, "a successor")
            visit.connection.close(1001, "going away")
        visit.serve_pings()

    with scripted(script) as server, watching(server.url, rotation_seconds=2.0) as watched:
        wait_until(lambda: Category.TAKEN_OVER in categories(watched), "taken over")
        taken = next(each for each in noted(watched) if each["category"] == Category.TAKEN_OVER)
        assert (taken["closed_by"], taken["code"]) == ("exchange", 1001)
        assert Category.CLOSED_BY_EXCHANGE not in categories(watched)
        assert watched.status.reconnects == 0


def test_after_the_move_the_connection_goes_on_with_the_successors_link() -> None:
    def script(visit: Visit) -> None:
        visit.accept()
        for number in range(1_000_000):
            visit.connection.send(deals_frame("BTCUSDT", [("1.00", "1", 1, 5, str(number))], number + 5))
            if number % 10 == 0:
                visit.say("PONG")
            time.sleep(0.01)

    with scripted(script) as server, watching(server.url, rotation_seconds=20.0) as watched:
        wait_until(lambda: len(watched.seen(Opened)) == 2, "a successor")
        handover = watched.seen(Opened)[1].handover
        assert handover is not None
        assert handover.finish()
        wait_until(lambda: watched.status.rotations == 1, "moved")
        moved = next(each for each in noted(watched) if each["category"] == Category.ROTATED)
        assert (moved["from"], moved["to"], moved["closed_by"]) == (State.ROTATING, State.STREAMING, "us")
        assert [closed.link for closed in watched.seen(Closed)] == [1]
        wait_until(lambda: len(watched.seen(Opened)) == 3, "the next rotation")


def categories(watched: Watched) -> list[str]:
    return [each["category"] for each in noted(watched)]


def some(number: int) -> Transition:
    closing = Closing("exchange", 1000, 5, None, 7, 9, 3)
    return Transition(f"feed-{number}", number, State.STREAMING, State.CLOSED, Category.LIFETIME, "why", closing)


def test_transitions_are_counted_by_state_and_category_and_only_the_newest_wait() -> None:
    transitions = Transitions(7)
    for number in range(WAITING_MAX + 5):
        transitions.note(some(number))
    assert transitions.counts == {(State.CLOSED, Category.LIFETIME): WAITING_MAX + 5}
    first = transitions.take(1)[0]
    assert (first["connection"], first["token"], first["closed_by"], first["code"]) == ("feed-5", 7, "exchange", 1000)
    assert len(transitions.take(WAITING_MAX)) == WAITING_MAX - 1


def written(client: redis.Redis) -> list[dict[str, Any]]:
    rows: Any = client.xrange(streams.transitions_key(EPOCH))
    return [json.loads(fields[streams.FIELD]) for _, fields in rows]


def test_each_transition_is_written_once_and_what_redis_did_not_confirm_is_not_written_again(valkey: Valkey) -> None:
    tally = Tally(BoundedLog(Clock().monotonic))
    transitions = Transitions(7)
    client = clients.writer(valkey.url)
    transitions.note(some(1))
    for _ in range(3):
        transitions.write(client, EPOCH, tally)
    (facts,) = written(client)
    assert set(facts) == FACTS
    valkey.kill()
    transitions.note(some(2))
    transitions.write(client, EPOCH, tally)
    assert tally.redis_errors == {"transitions": 1}
    valkey.start()
    transitions.note(some(3))
    transitions.write(client, EPOCH, tally)
    assert [each["connection"] for each in written(client)] == ["feed-1", "feed-3"]
    for number in range(KEPT_MAX * 2):
        transitions.note(some(number))
        transitions.write(client, EPOCH, tally) if number % 100 == 99 else None
    assert client.xlen(streams.transitions_key(EPOCH)) < KEPT_MAX * 1.2
