"""What REST answers becomes whole ticks and steps, or a named error; and every call waits for its turn."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from apps.bus import clients
from apps.bus.budget import WEIGHTS, BudgetSpent, RestBudget
from apps.engine import timeouts
from apps.engine.events import BUY, SELL
from tests.ingest.told import BTC
from workers.ingest.clock import Clock
from workers.ingest.rest import Busy, Ended, Print, Rest, RestError, Unlimited

START = 1_700_000_040_000


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Answers:
    """A server that gives every request the same bytes; notes what it was asked."""

    def __init__(self, answer: bytes | Callable[[socket.socket], None]) -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                request = connection.recv(65_536).decode()
                if not request:
                    return
                self.asked.append(request.split(" ")[1])
                if callable(self._answer):
                    self._answer(connection)
                else:
                    connection.sendall(self._answer)

    def close(self) -> None:
        with socket.create_connection(self._listener.getsockname()):
            """An empty request ends the thread."""
        self._thread.join(10)
        self._listener.close()


@contextmanager
def answering(answer: bytes | Callable[[socket.socket], None]) -> Iterator[Answers]:
    answers = Answers(answer)
    try:
        yield answers
    finally:
        answers.close()


def ask(url: str, clock_rate: float = 1.0) -> Rest:
    return Rest(url, Unlimited(), Clock(clock_rate))


def test_trades_come_oldest_first_with_the_side_of_the_taker() -> None:
    rows = [
        {"id": None, "price": "10.02", "qty": "0.5", "quoteQty": "5.01", "time": START + 2, "isBuyerMaker": True},
        {"id": None, "price": "10.01", "qty": "0.0001", "quoteQty": "1", "time": START + 1, "isBuyerMaker": False},
    ]
    with answering(http(json.dumps(rows).encode())) as server:
        trades = ask(server.url).last_trades(BTC)
    assert trades == [Print(START + 1, 1_001, 1, BUY), Print(START + 2, 1_002, 5_000, SELL)]
    assert server.asked == ["/api/v3/trades?symbol=BTCUSDT&limit=1000"]


def test_aggregates_are_asked_for_with_both_bounds_and_never_for_more_than_an_hour() -> None:
    rows = [
        {"a": None, "f": None, "l": None, "p": "10.00", "q": "1", "T": START + second * 1_000, "m": False, "M": True}
        for second in (59, 59, 0)
    ]
    with answering(http(json.dumps(rows).encode())) as server:
        rest = ask(server.url)
        found = rest.aggregates(BTC, START, START + 59_000)
        with pytest.raises(ValueError, match="3600001 ms"):
            rest.aggregates(BTC, START, START + 3_600_001)
    assert [row.ts_event - START for row in found] == [0, 59_000, 59_000]
    (asked,) = server.asked
    query = parse_qs(urlsplit(asked).query)
    assert (query["startTime"], query["endTime"], query["limit"]) == ([str(START)], [str(START + 59_000)], ["1000"])


def test_klines_say_in_which_decimal_their_turnover_is_rounded() -> None:
    row = [START, "10.00", "10.50", "9.99", "10.10", "3.5", START + 60_000, "35.01"]
    other = [START + 60_000, "10.10", "10.10", "10.10", "10.10", "0", START + 120_000, "0"]
    with answering(http(json.dumps([row, other]).encode())) as server:
        found = ask(server.url).klines(BTC, START // 60_000, START // 60_000)
        with pytest.raises(ValueError, match="klines"):
            ask(server.url).klines(BTC, 1, 1_001)
    (kline,) = found.values()  # what was not asked for is left out
    assert (kline.open, kline.high, kline.low, kline.close, kline.volume) == (1_000, 1_050, 999, 1_010, 35_000)
    assert (kline.turnover, kline.turnover_unit) == (35_010_000, 10_000)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        [{}],
        [{"price": 10.0, "qty": "1", "time": START, "isBuyerMaker": True}],
        [{"price": "0", "qty": "1", "time": START, "isBuyerMaker": True}],
        [{"price": "10.001", "qty": "1", "time": START, "isBuyerMaker": True}],
        [{"price": "1e1", "qty": "1", "time": START, "isBuyerMaker": True}],
        [{"price": "10", "qty": "-1", "time": START, "isBuyerMaker": True}],
        [{"price": "10", "qty": "1", "time": 0, "isBuyerMaker": True}],
        [{"price": "10", "qty": "1", "time": str(START), "isBuyerMaker": True}],
    ],
)
def test_one_bad_row_spoils_the_answer(rows: Any) -> None:
    with answering(http(json.dumps(rows).encode())) as server, pytest.raises(RestError):
        ask(server.url).last_trades(BTC)


def drop_by_drop(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    try:
        while True:
            connection.sendall(b" ")
            time.sleep(0.01)
    except OSError:
        """The client has left."""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(b"<html>busy</html>", "500 Internal Server Error"), "HTTP 500 <html>busy</html>"),
        (http(b'{"code":-1121,"msg":"Invalid symbol."}', "400 Bad Request"), "HTTP 400 .*Invalid symbol"),
        (http(b"", "302 Found", "Location: http://elsewhere.example/"), "HTTP 302"),
        (http(b"<html>"), "not readable"),
        (http(b"\xff\xfe"), "not readable"),
        (http(b"[]")[:-1] + b"", "broke off|IncompleteRead|Incomplete"),
        (b"SSH-2.0-OpenSSH\r\n", "BadStatusLine|SSH"),
        (b"", "closed|Disconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", "broke off"),
        (http(b" " * 5_000_000), "larger than"),
        (drop_by_drop, "no whole answer|timed out"),
    ],
)
def test_whatever_else_comes_is_an_error_with_its_words(
    answer: bytes | Callable[[socket.socket], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "REST_TOTAL_SECONDS", 1)
    with answering(answer) as server, pytest.raises(RestError, match=words) as caught:
        ask(server.url).last_trades(BTC)
    assert not isinstance(caught.value, Busy)


def test_nobody_listens() -> None:
    with pytest.raises(RestError, match="refused"):
        ask("http://127.0.0.1:9").time_ms()


def test_a_mute_server_is_left_after_a_second_of_the_machine_at_least_however_fast_the_clock() -> None:
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(RestError, match="timed out"):
        ask(f"http://127.0.0.1:{mute.getsockname()[1]}", clock_rate=1_000.0).time_ms()
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        ("429 Too Many Requests", ["Retry-After: 7"], 7),
        ("429 Too Many Requests", [], 10),
        ("418 I'm a teapot", ["Retry-After: 300"], 300),
        ("418 I'm a teapot", [], 120),
    ],
)
def test_a_pause_that_the_exchange_asks_for_holds_for_every_process(
    redis_client: redis.Redis, servers: dict[str, str], status: str, headers: list[str], seconds: int
) -> None:
    with clients.glance(servers["REDIS_URL"]) as own, clients.glance(servers["REDIS_URL"]) as others:
        with answering(http(b"{}", status, *headers)) as server, pytest.raises(Busy, match=f"{seconds} s") as busy:
            Rest(server.url, RestBudget(own), Clock()).time_ms()
        assert busy.value.seconds == seconds
        with pytest.raises(BudgetSpent) as spent:
            RestBudget(others).take(1, wait_max_seconds=1)
        assert seconds - 5 < spent.value.seconds <= seconds + 5
        unasked = Rest("http://127.0.0.1:9", RestBudget(others), Clock())
        if seconds > 60:  # longer than anybody waits for a turn
            with pytest.raises(Busy):
                unasked.time_ms()


def test_every_call_takes_its_weight_and_waits_for_its_turn() -> None:
    taken: list[int] = []

    class Counting(Unlimited):
        def take(self, weight: int, *, wait_max_seconds: float = 0.0) -> float:
            taken.append(weight)
            return super().take(weight, wait_max_seconds=wait_max_seconds)

    with answering(http(b"[]")) as server:
        rest = Rest(server.url, Counting(), Clock())
        rest.last_trades(BTC)
        rest.aggregates(BTC, START, START)
        rest.klines(BTC, 1, 1)
        rest.last_klines(BTC, 61)
    assert taken == [WEIGHTS["trades"], WEIGHTS["aggTrades"], WEIGHTS["klines"], WEIGHTS["klines"]]


def test_a_stop_ends_the_wait_for_a_turn_and_nothing_is_asked_any_more() -> None:
    class Slow(Unlimited):
        def take(self, weight: int, *, wait_max_seconds: float = 0.0) -> float:
            return wait_max_seconds + super().take(weight)

    ended = threading.Event()
    rest = Rest("http://127.0.0.1:9", Slow(), Clock(), ended)
    threading.Timer(0.05, ended.set).start()
    with pytest.raises(Ended):
        rest.time_ms()
    with pytest.raises(Ended):
        Rest("http://127.0.0.1:9", Unlimited(), Clock(), ended).time_ms()
