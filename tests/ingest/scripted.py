"""A WebSocket server that does what a test tells it, also what no decent server would do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

Script = Callable[["Visit"], None]


@dataclass
class Visit:
    """One connection of a client, counted from 1."""

    number: int
    connection: ServerConnection
    requests: list[dict[str, Any]] = field(default_factory=list)

    def read(self, timeout: float | None = None) -> dict[str, Any]:
        """The next request."""
        request: dict[str, Any] = json.loads(self.connection.recv(timeout))
        self.requests.append(request)
        return request

    def accept(self, *, refused: tuple[str, ...] = ()) -> None:
        """Read a subscription and answer it, refusing the named channels."""
        request = self.read()
        accepted = [name for name in request["params"] if name not in refused]
        text = ",".join(accepted)
        if refused:
            no = f"Not Subscribed successfully! [{','.join(refused)}]. Reason\uff1a Blocked! "
            text = f"Subscribed successful! [{text}]. {no}" if accepted else no
        self.say(text, request["id"])

    def say(self, text: str, number: int = 0) -> None:
        self.connection.send(json.dumps({"id": number, "code": 0, "msg": text}, ensure_ascii=False))

    def serve_pings(self) -> None:
        """Answer every PING until the client goes."""
        while True:
            if self.read()["method"] == "PING":
                self.say("PONG")

    def listen_only(self) -> None:
        """Take what comes and answer nothing."""
        while True:
            self.read()

    def raw(self, data: bytes) -> None:
        """Bytes past every rule of the protocol."""
        self.connection.socket.sendall(data)


@dataclass
class Scripted:
    """A running server: its address, and every visit it had."""

    url: str
    visits: list[Visit]


@contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    """Serve `script` to every client until the block ends."""
    visits: list[Visit] = []

    def handle(connection: ServerConnection) -> None:
        visit = Visit(len(visits) + 1, connection)
        visits.append(visit)
        try:
            script(visit)
        except (ConnectionClosed, OSError):
            return

    with _serving(serve(handle, "127.0.0.1", 0, ping_interval=None, close_timeout=0.2)) as url:
        try:
            yield Scripted(url, visits)
        finally:
            for visit in visits:
                visit.connection.close_socket()


@contextmanager
def refusing(status: HTTPStatus) -> Iterator[str]:
    """The address of a server that answers every handshake with this status."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(status, "no")

    with _serving(serve(lambda _: None, "127.0.0.1", 0, process_request=refuse)) as url:
        yield url


@contextmanager
def _serving(server: Server) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws"
    finally:
        server.shutdown()
        thread.join()
