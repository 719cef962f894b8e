"""The socket of a staff page: who may open it, what it is sent, and when it is closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
import redis
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from apps.engine import timeouts
from apps.live import consumers
from tests.admin.rows import make_everything, make_road
from tests.factories import START_MS
from tests.live.sockets import HOST, Socket, login

pytestmark = pytest.mark.django_db(transaction=True)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async_to_sync(scenario)()


@pytest.fixture
def key() -> str:
    return login(User.objects.create_superuser("mara", "", "x"))


@pytest.fixture(autouse=True)
def empty_redis(redis_client: redis.Redis) -> redis.Redis:
    return redis_client


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: "",
        lambda: "made-up-session-key",
        lambda: login(User.objects.create_user("visitor")),
        lambda: login(User.objects.create_user("former", is_staff=True, is_active=False)),
    ],
    ids=["anonymous", "made-up cookie", "not staff", "not active"],
)
def test_whoever_is_not_signed_in_staff_is_refused(make_key: Callable[[], str]) -> None:
    key = make_key()

    async def scenario() -> None:
        socket = Socket(key)
        assert not await socket.connect()

    run(scenario)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (HOST, "http://evil.example"),
        (HOST, "http://127.0.0.1:5555"),
        (HOST, "https://127.0.0.1.evil.example:8000"),
        (HOST, "null"),
        (HOST, "http://["),
        (HOST, None),
        ("evil.example", "http://evil.example"),
    ],
)
def test_a_foreign_page_is_refused_even_with_the_cookie_of_staff(
    key: str, host: str, origin: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        assert not await Socket(key, host=host, origin=origin).connect()

    run(scenario)
    assert "socket refused" in caplog.text


def test_an_unknown_path_is_refused(key: str) -> None:
    async def scenario() -> None:
        assert not await Socket(key, path="/ws/other/").connect()

    run(scenario)


def test_the_first_frame_is_a_snapshot_with_sequence_server_time_and_age(key: str) -> None:
    make_everything()

    async def scenario() -> None:
        socket = Socket(key, query="board")
        assert await socket.connect()
        frame = await socket.frame()
        assert (frame["type"], frame["seq"]) == ("snapshot", 1)
        assert frame["server_ms"] > START_MS
        assert frame["checked_ms"] >= frame["server_ms"]
        assert frame["data_at_ms"] is None
        assert set(frame["sections"]) == {"feed", "funnel", "positions", "equity", "decisions"}
        assert frame["strip"]["line"].endswith(".")
        assert "XRPUSDT" in frame["sections"]["positions"]
        assert len(json.dumps(frame)) < 64 * 1024
        await socket.leave()

    run(scenario)


def test_only_what_changed_is_sent_again(key: str) -> None:
    road = make_everything()

    async def scenario() -> None:
        socket = Socket(key, query="board")
        await socket.connect()
        first = await socket.frame()
        await sync_to_async(make_road)("ETHUSDT", road.session)
        delta = await socket.frame("delta")
        while not delta["sections"]:
            delta = await socket.frame("delta")
        assert delta["seq"] > first["seq"]
        assert "ETHUSDT" in delta["sections"]["decisions"]
        assert "feed" not in delta["sections"]
        await socket.leave()

    run(scenario)


def test_a_page_without_the_board_is_sent_the_strip_only(key: str) -> None:
    make_everything()

    async def scenario() -> None:
        socket = Socket(key)
        await socket.connect()
        assert (await socket.frame())["sections"] == {}
        await socket.leave()

    run(scenario)


def test_frames_come_at_most_four_times_a_second(key: str) -> None:
    road = make_everything()

    async def scenario() -> None:
        socket = Socket(key, query="board")
        await socket.connect()
        loop = asyncio.get_running_loop()
        await socket.frame()
        times = [loop.time()]
        for _ in range(4):
            await sync_to_async(make_road)("ETHUSDT", road.session)
            await socket.frame("delta")
            times.append(loop.time())
        gaps = [after - before for before, after in pairwise(times)]
        assert min(gaps) >= timeouts.LIVE_PUSH_MS / 1000 * 0.9, gaps
        await socket.leave()

    run(scenario)


def test_the_sequence_grows_with_every_frame_heartbeats_included(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "LIVE_HEARTBEAT_SECONDS", 0.2)

    async def scenario() -> None:
        socket = Socket(key)
        await socket.connect()
        frames = [await socket.frame() for _ in range(8)]
        assert [frame["seq"] for frame in frames] == list(range(1, 9))
        assert {"snapshot", "heartbeat"} <= {frame["type"] for frame in frames}
        assert all(frame["checked_ms"] for frame in frames if frame["type"] != "heartbeat")
        await socket.leave()

    run(scenario)


def test_a_page_that_does_not_acknowledge_is_closed_with_4008(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "LIVE_CLIENT_ACK_SECONDS", 0.5)

    async def scenario() -> None:
        socket = Socket(key)
        await socket.connect()
        await socket.frame(ack=False)
        assert await socket.close_code() == consumers.TOO_SLOW

    run(scenario)


def test_at_most_one_frame_is_under_way(key: str) -> None:
    road = make_everything()

    async def scenario() -> None:
        socket = Socket(key, query="board")
        await socket.connect()
        await socket.frame(ack=False)
        await sync_to_async(make_road)("ETHUSDT", road.session)
        assert await socket.nothing(1.5)
        await socket.leave()

    run(scenario)


@pytest.mark.parametrize(
    "text",
    ["", "ack", "[]", "{}", '{"ack": "1"}', '{"ack": true}', '{"ack": 99}', '{"ack": 1' + " " * 100 + "}", "[" * 40],
)
def test_anything_but_an_acknowledgement_closes_the_socket(key: str, text: str) -> None:
    async def scenario() -> None:
        socket = Socket(key)
        await socket.connect()
        await socket.frame(ack=False)
        await socket.send(text)
        assert await socket.close_code() == consumers.NOT_UNDERSTOOD

    run(scenario)


def test_bytes_close_the_socket(key: str) -> None:
    async def scenario() -> None:
        socket = Socket(key)
        await socket.connect()
        await socket.send_bytes(b"\x00")
        assert await socket.close_code() == consumers.NOT_UNDERSTOOD

    run(scenario)


def end_session() -> None:
    Session.objects.all().delete()


def drop_staff() -> None:
    User.objects.update(is_staff=False)


def drop_active() -> None:
    User.objects.update(is_active=False)


def change_password() -> None:
    user = User.objects.get()
    user.set_password("another one")
    user.save()


@pytest.mark.parametrize("end", [end_session, drop_staff, drop_active, change_password], ids=lambda end: end.__name__)
def test_a_login_that_ends_closes_the_socket_at_the_next_check(
    key: str, end: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "LIVE_SESSION_CHECK_SECONDS", 1)

    async def scenario() -> None:
        socket = Socket(key)
        await socket.connect()
        await socket.frame()
        await sync_to_async(end)()
        assert await socket.close_code() == consumers.SIGNED_OUT

    run(scenario)


def test_signing_out_closes_that_login_at_once_and_no_other(key: str) -> None:
    other_key = login(User.objects.create_superuser("oli", "", "x"))

    def sign_out() -> None:
        client = Client()
        client.cookies[settings.SESSION_COOKIE_NAME] = key
        assert client.post("/admin/logout/").status_code == 200

    async def scenario() -> None:
        mine, others = Socket(key), Socket(other_key)
        await mine.connect()
        await others.connect()
        await mine.frame()
        await others.frame()
        await asyncio.sleep(0.5)  # the pusher's subscription has no answer that could be awaited
        await sync_to_async(sign_out)()
        assert await mine.close_code() == consumers.SIGNED_OUT
        assert (await others.frame())["type"] in ("delta", "heartbeat")
        await others.leave()

    run(scenario)


def test_a_socket_does_not_stay_open_for_ever(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "LIVE_SESSION_CHECK_SECONDS", 1)
    monkeypatch.setattr(timeouts, "LIVE_SOCKET_LIFETIME_SECONDS", 1)

    async def scenario() -> None:
        socket = Socket(key)
        await socket.connect()
        await socket.frame()
        assert await socket.close_code() == consumers.LIFETIME_OVER

    run(scenario)


def test_a_user_may_hold_a_bounded_number_of_sockets(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.live.pusher.SOCKETS_PER_USER_MAX", 2)

    async def scenario() -> None:
        sockets = [Socket(key) for _ in range(3)]
        accepted = [await socket.connect() for socket in sockets]
        assert accepted == [True, True, False]
        for socket in sockets[:2]:
            await socket.leave()

    run(scenario)


def test_the_page_is_served_while_redis_is_away(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_everything()
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")

    async def scenario() -> None:
        socket = Socket(key, query="board")
        assert await socket.connect()
        frame = await socket.frame()
        assert frame["strip"]["line"].startswith("Redis does not answer")
        assert "XRPUSDT" in frame["sections"]["positions"]
        await socket.leave()

    run(scenario)
