"""The WebSocket over real sockets: answers, closes, caps, and clients that misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.exchange.helpers import (
    START_MS,
    SYMBOLS,
    Client,
    book_ticker,
    connected,
    deals,
    eventually,
    exchange,
    random_rows,
    replay_of,
)
from workers.exchange.limits import Limits
from workers.exchange.synthetic import SyntheticSource

ROWS = random_rows(200)


def _with_client(story: Callable[[Client], Awaitable[None]], limits: Limits | None = None, speed: float = 1.0) -> None:
    """Run a story of one client against an exchange with a small replay."""

    async def run() -> None:
        async with exchange(replay_of(ROWS), limits=limits, speed=speed) as server, connected(server) as client:
            await story(client)

    asyncio.run(run())


def test_control_answers_are_text_frames_with_the_exact_words() -> None:
    async def story(client: Client) -> None:
        assert await client.subscribe(deals("ETHUSDT")) == deals("ETHUSDT")
        assert await client.subscribe("spot@public.deals.v3.api@ETHUSDT") == (
            "Not Subscribed successfully! [spot@public.deals.v3.api@ETHUSDT].  Reason\uff1a Blocked! "
        )
        await client.socket.send_str('{"method":"ping"}')
        assert await client.next_text() == {"id": 0, "code": 0, "msg": "PONG"}
        await client.socket.send_str("what?")
        assert await client.next_text() == {"id": 0, "code": 0, "msg": "msg format invalid"}
        await client.socket.send_bytes(b"\x01\x02")
        assert await client.next_text() == {"id": 0, "code": 0, "msg": "msg format invalid"}
        await client.send("UNSUBSCRIPTION", deals("ETHUSDT"), request_id=12)
        assert await client.next_text() == {"id": 12, "code": 0, "msg": deals("ETHUSDT")}

    _with_client(story)


CLOSES = [
    (Limits(no_subscription_seconds=0.3), None, 1000),
    (Limits(no_subscription_seconds=0.3), "spot@public.deals.v3.api@ETHUSDT", 1000),
    (Limits(idle_seconds=0.5, start_grace_seconds=60), deals("ETHUSDT"), 1000),
    (Limits(lifetime_seconds=0.5), deals("ETHUSDT"), 1000),
]


@pytest.mark.parametrize(("limits", "channel", "code"), CLOSES)
def test_a_deadline_closes_the_connection(limits: Limits, channel: str | None, code: int) -> None:
    async def story(client: Client) -> None:
        if channel:
            await client.subscribe(channel)
        assert await client.closed() == code

    _with_client(story, limits)


def test_pings_keep_a_quiet_connection_open() -> None:
    async def story(client: Client) -> None:
        await client.subscribe(deals("ETHUSDT"))
        for _ in range(8):
            await client.socket.send_str('{"method":"PING"}')
            await client.next_text()
            await asyncio.sleep(0.1)  # more than the idle limit in sum
        assert not client.socket.closed

    _with_client(story, Limits(idle_seconds=0.5, start_grace_seconds=60))


def test_too_many_control_messages_close_with_a_policy_code() -> None:
    async def story(client: Client) -> None:
        for _ in range(101):
            await client.socket.send_str('{"method":"PING"}')
        assert await client.closed() == 1008

    _with_client(story)


def test_an_oversized_control_message_closes() -> None:
    async def story(client: Client) -> None:
        await client.socket.send_str("x" * 2_000)
        assert await client.closed() == 1009

    _with_client(story, Limits(control_message_bytes_max=1_000))


def test_channels_beyond_the_cap_are_acknowledged_but_stay_silent() -> None:
    async def story(client: Client) -> None:
        channels = [book_ticker(symbol) for symbol in SYMBOLS]
        assert await client.subscribe(*channels) == ",".join(channels)
        await client.collect_until(lambda c: len(c.frames_of(channels[1])) >= 5)
        assert client.frames_of(channels[0])
        assert not client.frames_of(channels[2])

    _with_client(story, Limits(subscriptions_max=2, start_grace_seconds=0), speed=600)


def test_an_unsubscribed_channel_falls_silent_and_the_other_goes_on() -> None:
    async def story(client: Client) -> None:
        first, second = book_ticker("ETHUSDT"), book_ticker("BTCUSDT")
        await client.subscribe(first, second)
        await client.collect_until(lambda c: bool(c.frames_of(first)) and bool(c.frames_of(second)))
        await client.send("UNSUBSCRIPTION", first)
        await client.next_text()
        client.frames.clear()
        await client.collect_until(lambda c: len(c.frames_of(second)) >= 5)
        assert not client.frames_of(first)

    _with_client(story, Limits(start_grace_seconds=0), speed=600)


def test_protocol_pings_are_answered() -> None:
    async def story(client: Client) -> None:
        await client.socket.ping(b"hello")
        await client.subscribe(deals("ETHUSDT"))
        assert not client.socket.closed

    _with_client(story)


def test_connections_beyond_the_maximum_are_turned_away() -> None:
    async def run() -> None:
        limits = Limits(connections_max=1)
        async with exchange(replay_of(ROWS), limits=limits) as server, connected(server):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                async with connected(server):
                    pass

    asyncio.run(run())


def test_a_reader_that_stops_reading_is_closed_and_the_others_are_served() -> None:
    async def run() -> None:
        limits = Limits(send_buffer_bytes_max=200_000, start_grace_seconds=0, tick_seconds=0.01)
        lines: list[str] = []
        source = SyntheticSource(seed=3, start_ms=START_MS)
        async with exchange(source, speed=3_000, limits=limits, lines=lines) as server, connected(server) as good:
            reader, writer = await _stuck_client(server.port, [deals(symbol) for symbol in source.instruments])
            await good.subscribe(book_ticker("ETHUSDT"))
            await good.collect_until(lambda _: any("slow reader" in line for line in lines))
            await eventually(lambda: len(server.hub.connections) == 1)
            seen = len(good.frames)
            await good.collect_until(lambda c: len(c.frames) > seen + 3)
            writer.close()
            del reader

    asyncio.run(run())


async def _stuck_client(port: int, channels: list[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that subscribes and then never reads: its receive buffer is tiny and its reader paused."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1_024)
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
    writer.write(f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    quoted = ",".join(f'"{channel}"' for channel in channels)
    payload = f'{{"method":"SUBSCRIPTION","params":[{quoted}]}}'.encode()
    # A masked text frame with the all-zero mask.
    writer.write(b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload)
    await writer.drain()
    return reader, writer


def test_a_client_that_vanishes_without_a_word_is_forgotten() -> None:
    async def run() -> None:
        limits = Limits(start_grace_seconds=0)
        async with exchange(replay_of(ROWS), limits=limits, speed=600) as server:
            reader, writer = await _stuck_client(server.port, [book_ticker("ETHUSDT")])
            await eventually(lambda: len(server.hub.connections) == 1)
            # Lingering for zero seconds makes the end a reset.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await eventually(lambda: not server.hub.connections)
            del reader

    asyncio.run(run())


def test_stopping_says_going_away() -> None:
    async def run() -> None:
        async with exchange(replay_of(ROWS)) as server, connected(server) as client:
            await client.subscribe(deals("ETHUSDT"))
            stopping = asyncio.create_task(server.stop())
            assert await client.closed() == 1001
            await stopping

    asyncio.run(run())
