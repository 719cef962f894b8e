"""The TCP or TLS connection under a WebSocket: buffered, and never waiting longer than it was told.

websocket-client asks the socket two or three times per frame and waits without bound inside a half-received one.
Reading ahead into a buffer makes that one system call for many frames; a deadline on each wait gives the owner
control back while the half frame stays with websocket-client.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import websocket
from websocket._abnf import frame_buffer

from apps.engine import timeouts
from workers.ingest.clock import Clock
from workers.ingest.decoder import FRAME_BYTES_MAX
from workers.ingest.dialing import dial

_READ_BYTES: Final = 256 * 1024
_WHOLE_BINARY: Final = 0x82  # the first byte of a binary frame that is not a fragment and uses no extension
_LENGTH_16_BITS: Final = 126  # two bytes of length follow
_HEADER_BYTES: Final = 4
_KEEPALIVE_IDLE_SECONDS: Final = 10
_KEEPALIVE_INTERVAL_SECONDS: Final = 5
_KEEPALIVE_PROBES: Final = 3
_TCP_USER_TIMEOUT_MS: Final = 15_000


class BufferedSocket:
    """What websocket-client needs of a socket. `expire_in` sets the deadline of all waiting until the next call."""

    def __init__(self, raw: socket.socket, clock: Clock) -> None:
        self._raw = raw
        self._clock = clock
        self._deadline = 0.0
        self._buffer = b""
        self._position = 0
        self._closed = False  # websocket-client looks at this name
        self.bytes_in = 0

    @property
    def drained(self) -> bool:
        """Nothing is left that could be read without waiting."""
        return self._position >= len(self._buffer)

    def expire_in(self, seconds: float) -> None:
        """From now on, waiting ends with TimeoutError `seconds` (of the clock) from now."""
        self._deadline = self._clock.monotonic() + seconds

    def take_binary(self, frames_max: int) -> list[bytes]:
        """The payloads of whole binary frames that were read ahead, up to the first that is anything else.

        What is not whole, not unmasked, fragmented, 64 KiB or longer, or not binary stays for websocket-client.
        Only for a reader that holds no part of a frame.
        """
        buffer, at, end = self._buffer, self._position, len(self._buffer)
        payloads: list[bytes] = []
        while end - at >= _HEADER_BYTES and buffer[at] == _WHOLE_BINARY and len(payloads) < frames_max:
            length = buffer[at + 1]
            begin = at + 2
            if length >= _LENGTH_16_BITS:
                if length > _LENGTH_16_BITS:
                    break
                length = buffer[at + 2] << 8 | buffer[at + 3]
                begin = at + _HEADER_BYTES
            if begin + length > end:
                break
            at = begin + length
            payloads.append(buffer[begin:at])
        self._position = at
        return payloads

    def recv(self, size: int) -> bytes:
        if self.drained:
            self._fill()
        piece = self._buffer[self._position : self._position + size]
        self._position += len(piece)
        return piece

    def send(self, data: bytes) -> int:
        self._arm()
        return self._raw.send(data)

    def _fill(self) -> None:
        self._arm()
        self._buffer = self._raw.recv(_READ_BYTES)
        self._position = 0
        self.bytes_in += len(self._buffer)

    def _arm(self) -> None:
        remaining = self._deadline - self._clock.monotonic()
        if remaining <= 0:
            raise TimeoutError("deadline")
        self._raw.settimeout(self._clock.machine_seconds(remaining))

    def gettimeout(self) -> float | None:
        return self._raw.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """Ignored: `expire_in` governs every wait."""

    def fileno(self) -> int:
        return self._raw.fileno()

    def shutdown(self, how: int) -> None:
        """Wake whoever waits for data, from any thread."""
        with suppress(OSError):
            self._raw.shutdown(how)

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._raw.close()


class _BoundedFrames(frame_buffer):
    """Refuses a frame by its length before a byte of it is stored."""

    def recv_length(self) -> None:
        super().recv_length()
        if self.length is not None and self.length > FRAME_BYTES_MAX:
            raise websocket.WebSocketProtocolException(f"frame of {self.length} bytes")


def connect(url: str, clock: Clock) -> tuple[websocket.WebSocket, BufferedSocket]:
    """An open WebSocket within the connect deadline; raises OSError or WebSocketException."""
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    begun = clock.monotonic()
    raw = dial(parts.hostname or "", parts.port or (443 if secure else 80), clock)
    try:
        _set_options(raw)
        raw.settimeout(clock.machine_seconds(_remaining(begun, clock)))
        if secure:
            raw = ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname)
        stream = BufferedSocket(raw, clock)
        stream.expire_in(_remaining(begun, clock))
        client = websocket.WebSocket(enable_multithread=True, skip_utf8_validation=True)
        client.frame_buffer = _BoundedFrames(client._recv, True)
        client.connect(url, socket=stream, redirect_limit=0)  # type: ignore[no-untyped-call]
    except BaseException:
        raw.close()
        raise
    return client, stream


def _remaining(begun: float, clock: Clock) -> float:
    """Seconds of the clock that are left of the connect deadline."""
    remaining = begun + timeouts.FEED_CONNECT_SECONDS - clock.monotonic()
    if remaining <= 0:
        raise TimeoutError("timed out before the handshake")
    return remaining


def has_partial_frame(client: websocket.WebSocket) -> bool:
    """Part of a frame, or of a fragmented message, was received and the rest is outstanding."""
    frames = client.frame_buffer
    return frames.header is not None or bool(frames.recv_buffer) or client.cont_frame.cont_data is not None


def _set_options(raw: socket.socket) -> None:
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", _TCP_USER_TIMEOUT_MS),
    ):
        option: Any = getattr(socket, name, None)  # not every platform has them all
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)
