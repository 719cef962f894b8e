"""Whole binary frames are taken out of what was read ahead; everything else is left to websocket-client, in order."""

from __future__ import annotations

import socket
import struct

import pytest
import websocket
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.ingest.clock import Clock
from workers.ingest.transport import BufferedSocket, has_partial_frame

TEXT, BINARY, PING, FIN = 0x1, 0x2, 0x9, 0x80
FRAMES_MAX = 7

Message = tuple[int, bytes]


def framed(first: int, payload: bytes, mask: bytes = b"") -> bytes:
    flag = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, flag | len(payload))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, flag | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, flag | 127, len(payload))
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    return head + mask + body


BODIES = st.integers(0, 300).map(lambda size: bytes(number % 256 for number in range(size)))
WHOLE = BODIES.map(lambda body: (framed(FIN | BINARY, body), (BINARY, body)))
LARGE = st.sampled_from([125, 126, 127, 65_535, 65_536]).map(
    lambda size: (framed(FIN | BINARY, b"x" * size), (BINARY, b"x" * size))
)
TEXTS = st.sampled_from([b"{}", b'{"msg":"PONG"}']).map(lambda body: (framed(FIN | TEXT, body), (TEXT, body)))
MASKED = BODIES.map(lambda body: (framed(FIN | BINARY, body, b"abcd"), (BINARY, body)))
PIECES = st.tuples(BODIES, BODIES).map(
    lambda pair: (framed(BINARY, pair[0]) + framed(FIN, pair[1]), (BINARY, pair[0] + pair[1]))
)
SENT = st.lists(st.one_of(WHOLE, WHOLE, WHOLE, LARGE, TEXTS, MASKED, PIECES), min_size=1, max_size=12)


def client_of(raw: socket.socket) -> tuple[websocket.WebSocket, BufferedSocket]:
    """A WebSocket without handshake over a connected socket."""
    stream = BufferedSocket(raw, Clock())
    stream.expire_in(20)
    client = websocket.WebSocket(skip_utf8_validation=True)
    client.sock = stream  # type: ignore[assignment]
    client.connected = True
    return client, stream


def take_all(client: websocket.WebSocket, stream: BufferedSocket, count: int) -> list[Message]:
    """As the link does it: what can be taken at once, and one frame from websocket-client when that is nothing."""
    messages: list[Message] = []
    while len(messages) < count:
        if not has_partial_frame(client):
            messages += [(BINARY, payload) for payload in stream.take_binary(FRAMES_MAX)]
        if len(messages) < count:
            opcode, frame = client.recv_data_frame(False)
            messages.append((opcode, bytes(frame.data)))
    return messages


@settings(deadline=None, max_examples=150)
@given(sent=SENT, cuts=st.lists(st.integers(0, 2_000), max_size=6))
def test_every_message_comes_once_and_in_order_however_it_is_cut(
    sent: list[tuple[bytes, Message]], cuts: list[int]
) -> None:
    wire = b"".join(piece for piece, _ in sent)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for side in (ours, theirs):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
        client, stream = client_of(ours)
        at = 0
        messages: list[Message] = []
        for cut in sorted({min(cut, len(wire)) for cut in cuts} | {len(wire)}):
            theirs.sendall(wire[at:cut])
            whole = _whole(sent, cut)
            messages += take_all(client, stream, whole - len(messages))
            at = cut
        assert messages == [message for _, message in sent]


def _whole(sent: list[tuple[bytes, Message]], size: int) -> int:
    """How many messages lie wholly in the first `size` bytes."""
    count = 0
    for piece, _ in sent:
        size -= len(piece)
        if size < 0:
            break
        count += 1
    return count


@pytest.mark.parametrize(
    "first",
    [FIN | TEXT, FIN | PING, BINARY, FIN, FIN | BINARY | 0x40],
    ids=["text", "ping", "first piece", "last piece", "compressed"],
)
def test_only_whole_binary_frames_are_taken(first: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _, stream = client_of(ours)
        theirs.sendall(framed(first, b"body") + framed(FIN | BINARY, b"after"))
        assert stream.recv(0) == b""
        assert stream.take_binary(10) == []


def test_no_more_are_taken_than_asked_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _, stream = client_of(ours)
        theirs.sendall(b"".join(framed(FIN | BINARY, b"body" + bytes([number])) for number in range(5)))
        assert stream.recv(0) == b""
        assert stream.take_binary(2) == [b"body\x00", b"body\x01"]
        assert stream.take_binary(9) == [b"body\x02", b"body\x03", b"body\x04"]
        assert stream.drained


@pytest.mark.parametrize("size", [0, 1, 125, 126, 300])
def test_a_frame_is_whole_only_with_its_last_byte(size: int) -> None:
    first, second = framed(FIN | BINARY, b"a" * 10), framed(FIN | BINARY, b"b" * size)
    for cut in range(len(first), len(first) + len(second)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            client, stream = client_of(ours)
            theirs.sendall((first + second)[:cut])
            assert stream.recv(0) == b""
            assert stream.take_binary(10) == [b"a" * 10]
            theirs.sendall((first + second)[cut:])
            assert take_all(client, stream, 1) == [(BINARY, b"b" * size)]
