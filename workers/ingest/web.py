"""GET /health and GET /metrics on the loopback."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from workers.ingest.report import Report

_REQUEST_SECONDS = 5


class StatusServer(ThreadingHTTPServer):
    """Listens at once, so that a taken port is known before anything starts; knows something from `open` on."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), _Handler)
        self.report: Report | None = None
        self.registry: CollectorRegistry | None = None
        self.waiting: str | None = None  # what for, while another ingest writes

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="status", daemon=True).start()

    def open(self, report: Report, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.report = report


class _Handler(BaseHTTPRequestHandler):
    server: StatusServer
    timeout = _REQUEST_SECONDS
    server_version = "ingest"
    sys_version = ""

    def do_GET(self) -> None:
        report, registry = self.server.report, self.server.registry
        if self.server.waiting is not None:
            self._standby(self.server.waiting)
        elif report is None or registry is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"starting\n")
        elif self.path == "/health":
            healthy, parts = report.health()
            status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, "application/json", json.dumps(parts).encode())
        elif self.path == "/metrics":
            self._answer(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")

    def _standby(self, words: str) -> None:
        """No data flows here, so it is not healthy in the sense of the other answers; the words say why."""
        if self.path == "/health":
            body = json.dumps({"healthy": False, "standby": True, "words": words}).encode()
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "application/json", body)
        elif self.path == "/metrics":
            self._answer(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, b"cdb_ingest_standby 1\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class calls it so)
        """A request every few seconds is no news."""
