"""What the tests of the stack share. Each is marked `stack`; `make test-stack` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.proxy import Proxy
from tests.stack.valkey import OwnValkey
from tests.stack.worker import Sender, Worker

StartWorker = Callable[..., Worker]
MakeSender = Callable[[str], Sender]


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[OwnValkey]:
    server = OwnValkey(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.thaw()
        server.remove()


@pytest.fixture
def proxy(own_valkey: OwnValkey) -> Iterator[Proxy]:
    between = Proxy(own_valkey.port)
    yield between
    between.close()


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """`start_worker(name, application, url, queue, **more)`; all are killed at the end."""
    started: list[Worker] = []

    def start(name: str, application: str, url: str, queue: str, **more: Any) -> Worker:
        started.append(Worker(tmp_path / f"{name}.log", application, url, queue, **more))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def make_sender() -> Iterator[MakeSender]:
    made: list[Sender] = []

    def make(url: str) -> Sender:
        made.append(Sender(url))
        return made[-1]

    yield make
    for sender in made:
        sender.close()
