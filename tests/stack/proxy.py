"""A TCP proxy that can swallow: connections stay open and not a byte arrives any more."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

PIECE_BYTES = 65_536


class Proxy:
    """Forwards 127.0.0.1:`port` to a port of this machine.

    While it is dark every connection is half open: what is sent into it is read and forgotten. A connection that met
    the dark stays lost when the light is back, as after a router forgot it; new ones work.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._dark = False
        self._sockets: list[socket.socket] = []
        self._lost: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def go_dark(self) -> None:
        with self._lock:
            self._dark = True
            self._lost.update(self._sockets)

    def light_up(self) -> None:
        with self._lock:
            self._dark = False

    def close(self) -> None:
        with self._lock:
            for one in (self._listener, *self._sockets):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                return
            far.settimeout(None)
            with self._lock:
                self._sockets += [near, far]
                if self._dark:
                    self._lost.update((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Until one side ends; the end of a lost connection is swallowed like everything else."""
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                if source not in self._lost:
                    sink.sendall(piece)
            if source not in self._lost:
                sink.shutdown(socket.SHUT_WR)
