"""Connecting to a name: bounded in time, whatever the resolver and the addresses do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from apps.engine import timeouts
from workers.ingest.clock import Clock
from workers.ingest.dialing import Address, NameUnresolved, dial

RATE = 20.0


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def row(host: str, port: int) -> Address:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))


def refusing_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def test_a_name_that_the_machine_knows_is_connected_to(listening: int) -> None:
    with dial("localhost", listening, Clock()) as raw:
        assert raw.getpeername()[1] == listening


def test_the_next_address_is_tried_when_one_refuses(listening: int) -> None:
    rows = [row("127.0.0.1", refusing_port()), row("127.0.0.1", listening)]
    with dial("exchange.example", 1, Clock(), resolve=lambda *_: rows) as raw:
        assert raw.getpeername()[1] == listening


def test_when_every_address_refuses_the_last_ones_reason_is_told() -> None:
    rows = [row("127.0.0.1", refusing_port())] * 2
    with pytest.raises(ConnectionRefusedError):
        dial("exchange.example", 1, Clock(), resolve=lambda *_: rows)


def test_a_name_that_nobody_knows_is_told_as_that() -> None:
    def unknown(host: str, port: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NameUnresolved, match=r"exchange\.example cannot be resolved: Name or service not known"):
        dial("exchange.example", 443, Clock(), resolve=unknown)


def test_a_name_without_an_address_is_told_as_that() -> None:
    with pytest.raises(NameUnresolved, match="has no address"):
        dial("exchange.example", 443, Clock(), resolve=lambda *_: [])


def test_a_resolver_that_never_answers_is_left_after_three_seconds() -> None:
    release = threading.Event()

    def never(host: str, port: int) -> list[Address]:
        release.wait(30)
        return []

    begun = time.monotonic()
    try:
        with pytest.raises(NameUnresolved, match=f"within {timeouts.FEED_RESOLVE_SECONDS} s"):
            dial("exchange.example", 443, Clock(RATE), resolve=never)
        assert time.monotonic() - begun < 10
    finally:
        release.set()


def test_questions_that_are_never_answered_do_not_pile_up() -> None:
    """However often the connections come back, no more than a handful of threads wait for the resolver."""
    release = threading.Event()
    asked: list[str] = []

    def never(host: str, port: int) -> list[Address]:
        asked.append(host)
        release.wait(30)
        return []

    try:
        for number in range(12):
            with pytest.raises(NameUnresolved):
                dial(f"exchange{number}.example", 443, Clock(200.0), resolve=never)
        assert 0 < len(asked) <= 8
    finally:
        release.set()
        for thread in [thread for thread in threading.enumerate() if thread.name == "resolve"]:
            thread.join(10)
