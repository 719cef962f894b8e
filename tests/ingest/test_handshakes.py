"""What stands between us and the exchange at the beginning: TLS that does not verify, proxies that answer otherwise."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.ingest.certificates import Authority, make_authority, server_context, server_files
from tests.ingest.processes import wait_until
from tests.ingest.scripted import Visit, refusing
from tests.ingest.test_connection import watching
from workers.ingest.inbox import Opened
from workers.ingest.status import State

Files = Callable[[Path, Authority], tuple[Path, Path]]


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that this process trusts, as it would trust those of the machine."""
    made = make_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    return made


@contextmanager
def serving_over(context: ssl.SSLContext) -> Iterator[tuple[str, list[str]]]:
    """A server that accepts every subscription over TLS, and the texts that reached it."""
    texts: list[str] = []

    def handle(connection: ServerConnection) -> None:
        try:
            visit = Visit(1, connection)
            visit.accept()
            texts.append("subscribed")
            visit.serve_pings()
        except (ConnectionClosed, OSError):
            return

    server = serve(handle, "127.0.0.1", 0, ssl=context, ping_interval=None, close_timeout=0.2)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"wss://127.0.0.1:{server.socket.getsockname()[1]}/ws", texts
    finally:
        server.shutdown()
        thread.join()


def test_a_certificate_that_verifies_is_all_it_takes(tmp_path: Path, authority: Authority) -> None:
    context = server_context(server_files(tmp_path, authority))
    with serving_over(context) as (url, texts), watching(url) as watched:
        watched.state(State.STREAMING)
    assert texts == ["subscribed"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param(lambda folder, _: server_files(folder, None), "self-signed", id="signed by itself"),
        pytest.param(
            lambda folder, _: server_files(folder, make_authority(folder, "somebody else")),
            "unable to get local issuer",
            id="unknown authority",
        ),
        pytest.param(
            lambda folder, _: server_files(folder, make_authority(folder)),
            "certificate signature failure",
            id="authority of the same name",
        ),
        pytest.param(lambda folder, authority: server_files(folder, authority, days=(-9, -2)), "expired", id="expired"),
        pytest.param(
            lambda folder, authority: server_files(folder, authority, days=(2, 9)), "not yet valid", id="not yet valid"
        ),
        pytest.param(
            lambda folder, authority: server_files(folder, authority, address="127.0.0.9"),
            "IP address mismatch",
            id="another host",
        ),
    ],
)
def test_what_does_not_verify_is_refused_again_and_again_and_never_spoken_to(
    files: Files, words: str, tmp_path: Path, authority: Authority
) -> None:
    """No attempt falls back to a connection that is not verified, however many fail."""
    other = tmp_path / "other"
    other.mkdir()
    with serving_over(server_context(files(other, authority))) as (url, texts), watching(url) as watched:
        wait_until(lambda: watched.status.closes >= 4, "attempts")
        assert words in watched.status.reason.lower() or words in watched.status.reason, watched.status.reason
        assert not watched.seen(Opened)
    assert texts == []


def test_a_server_that_only_speaks_an_outdated_tls_is_refused(tmp_path: Path, authority: Authority) -> None:
    context = server_context(server_files(tmp_path, authority))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving_over(context) as (url, texts), watching(url) as watched:
        wait_until(lambda: watched.status.closes >= 2, "attempts")
        assert "connect: " in watched.status.reason
        assert not watched.seen(Opened)
    assert texts == []


def test_a_tls_handshake_that_stalls_ends_at_the_connect_deadline(taken_port: int, authority: Authority) -> None:
    assert authority.file.exists()
    with watching(f"wss://127.0.0.1:{taken_port}/ws") as watched:
        wait_until(lambda: "timed out" in watched.status.reason, "given up")
        assert not watched.seen(Opened)


def test_plain_http_where_tls_belongs_is_no_connection(authority: Authority) -> None:
    assert authority.file.exists()
    with refusing(HTTPStatus.OK) as url:
        secure = url.replace("ws://", "wss://")
        with watching(secure) as watched:
            wait_until(lambda: watched.status.closes >= 2, "attempts")
            assert not watched.seen(Opened)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "HTTP status 200"),
        (301, "Redirect limit exhausted"),
        (403, "HTTP status 403"),
        (407, "HTTP status 407"),
        (429, "HTTP status 429"),
        (502, "HTTP status 502"),
        (503, "HTTP status 503"),
    ],
)
def test_a_proxy_that_answers_the_upgrade_itself_is_told_by_its_status(status: int, words: str) -> None:
    with refusing(HTTPStatus(status)) as url, watching(url) as watched:
        wait_until(lambda: watched.status.closes >= 2, "attempts")
        assert words in watched.status.reason
        assert not watched.seen(Opened)


def test_a_redirect_is_not_followed() -> None:
    """Whoever answers in the exchange's place does not get to send us elsewhere."""
    visits: list[ServerConnection] = []
    with serve(visits.append, "127.0.0.1", 0) as target:
        thread = threading.Thread(target=target.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{target.socket.getsockname()[1]}/ws"
        try:
            with _redirecting(address) as url, watching(url) as watched:
                wait_until(lambda: watched.status.closes >= 3, "attempts")
                assert not watched.seen(Opened)
        finally:
            target.shutdown()
            thread.join()
    assert visits == []


@contextmanager
def _redirecting(address: str) -> Iterator[str]:
    """A server that answers whatever comes with a redirect, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))
    answer = f"HTTP/1.1 301 Moved\r\nLocation: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()

    def serve_all() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                client.sendall(answer)

    thread = threading.Thread(target=serve_all)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
