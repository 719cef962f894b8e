"""A Redis behind a proxy that can cut the connection at the worst moment."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class CuttingProxy:
    """Forwards bytes. Asked to, it cuts the connection around one append: before the server sees it, or after."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        credentials = parts.netloc.rpartition("@")[0]
        netloc = f"{credentials}@{address}" if credentials else address
        self.url = urlunsplit(parts._replace(netloc=netloc))
        self.cuts = 0
        self._armed: str | None = None
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def cut_next_append(self, *, after_the_server: bool) -> None:
        self._armed = "after" if after_the_server else "before"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            _cut(each)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for thread in (
                    threading.Thread(target=self._upward, args=(client, server), daemon=True),
                    threading.Thread(target=self._downward, args=(server, client), daemon=True),
                ):
                    self._threads.append(thread)
                    thread.start()

    def _upward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if self._armed == "before" and b"EVALSHA" in data:
                    self._armed = None
                    self.cuts += 1
                    break
                if self._armed == "after" and b"EVALSHA" in data:
                    self._armed = "answer"
                server.sendall(data)
        _cut(client)
        _cut(server)

    def _downward(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if self._armed == "answer":
                    self._armed = None
                    self.cuts += 1
                    break
                client.sendall(data)
        _cut(client)
        _cut(server)


def _cut(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
