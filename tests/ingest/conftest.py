"""Ports and servers of the ingest's tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingest.processes import Valkey


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of the loopback on which somebody listens already."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of its own that the test may stop and kill."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    server = Valkey(folder)
    server.start()
    yield server
    server.kill()
