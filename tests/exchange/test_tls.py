"""The exchange over TLS: whom it convinces, and what becomes of a byte that is changed on the way."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import websocket

from tests.exchange.helpers import START_MS, deals, exchange
from tests.exchange.test_process import _run
from tests.faultproxy import DOWN, FaultProxy
from tests.ingest.certificates import make_authority, server_context, server_files
from workers.exchange.faults.commands import read_command
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer
from workers.exchange.synthetic import SyntheticSource
from workers.ingest.clock import Clock
from workers.ingest.rest import Rest, RestError, Unlimited
from workers.ingest.transport import connect

SUBSCRIPTION = json.dumps({"method": "SUBSCRIPTION", "params": [deals("BTCUSDT")], "id": 1})
TCP_CLOSED = 7  # the state after a reset


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[ExchangeServer]:
    """The exchange behind a certificate of an authority whose file is `folder/authority.pem`."""
    authority = make_authority(folder)
    context = server_context(server_files(folder, authority))
    limits = Limits(start_grace_seconds=0, tick_seconds=0.02)
    async with exchange(SyntheticSource(1, START_MS), speed=50, limits=limits, tls=context) as server:
        yield server


class _Client:
    """A connection of the ingest's transport that has received data."""

    def __init__(self, port: int) -> None:
        self._client, self._stream = connect(f"wss://127.0.0.1:{port}/ws", Clock())
        self._states = socket.socket(fileno=os.dup(self._stream.fileno()))
        self._client.send(SUBSCRIPTION)
        for _ in range(3):
            self._stream.expire_in(5)
            assert self._client.recv()

    @property
    def state(self) -> int:
        """The state of the TCP connection."""
        return self._states.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]

    def end(self) -> Exception:
        """Receive until the connection ends."""
        for _ in range(10_000):
            self._stream.expire_in(5)
            try:
                self._client.recv()
            except (OSError, websocket.WebSocketException) as error:
                return error
        raise AssertionError("it never ended")

    def close(self) -> None:
        self._client.shutdown()  # type: ignore[no-untyped-call]
        self._stream.close()
        self._states.close()


def test_the_ingest_trusts_the_authority_it_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with _serving(tmp_path) as server:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
            client = await asyncio.to_thread(_Client, server.port)
            rest = Rest(f"https://127.0.0.1:{server.port}", Unlimited(), Clock())
            assert await asyncio.to_thread(rest.time_ms) >= START_MS
            client.close()

    asyncio.run(run())


def test_without_that_authority_neither_websocket_nor_rest_is_spoken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with _serving(tmp_path) as server:
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(connect, f"wss://127.0.0.1:{server.port}/ws", Clock())
            rest = Rest(f"https://127.0.0.1:{server.port}", Unlimited(), Clock())
            with pytest.raises(RestError, match="certificate verify failed"):
                await asyncio.to_thread(rest.time_ms)
            assert not server.hub.connections

    asyncio.run(run())


def test_a_byte_that_is_changed_on_the_way_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with _serving(tmp_path) as server:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
            with FaultProxy("127.0.0.1", server.port) as proxy:
                with closing(await asyncio.to_thread(_Client, proxy.port)) as client:
                    await asyncio.to_thread(proxy.corrupt, 100, DOWN)
                    error = await asyncio.to_thread(client.end)
                assert isinstance(error, OSError)
                assert "bad record mac" in str(error).lower()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("command", "reset"),
    [
        ({"do": "reset"}, True),
        ({"do": "cut_frame", "then": "reset"}, True),
        ({"do": "close", "code": 1006}, False),
    ],
)
def test_faults_strike_through_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: dict[str, object], reset: bool
) -> None:
    """Python's TLS calls a reset and an end without a close frame alike; the socket's state tells them apart."""

    async def run() -> None:
        async with _serving(tmp_path) as server:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
            with closing(await asyncio.to_thread(_Client, server.port)) as client:
                server.desk.apply(read_command(command))
                error = await asyncio.to_thread(client.end)
                assert isinstance(error, OSError | websocket.WebSocketException)
                assert (client.state == TCP_CLOSED) == reset

    asyncio.run(run())


def test_half_a_certificate_is_a_bad_argument(tmp_path: Path) -> None:
    certificate, key = server_files(tmp_path, None)
    result = _run("--source", "synthetic", "--tls-cert", certificate, "--check")
    assert result.returncode == 2
    assert "--tls-cert and --tls-key belong together" in result.stderr
    key.write_text("no key")
    result = _run("--source", "synthetic", "--tls-cert", certificate, "--tls-key", key, "--check")
    assert result.returncode == 2
    assert result.stderr.startswith(f"{certificate} and {key} cannot be used: ")
    assert result.stderr.count("\n") == 1
