"""Klines become bars in whole ticks and steps, or nothing at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from apps.bus.budget import BudgetSpent
from apps.engine.events import CoverageStart, TradeBlock, WarmupBar
from tests.ingest.market import START_MS, Bench, deals_frame, quote_frame
from tests.ingest.processes import wait_until
from workers.ingest.clock import Clock
from workers.ingest.config import Instrument
from workers.ingest.log import BoundedLog
from workers.ingest.rest import Rest, RestError, parse_klines
from workers.ingest.symbols import make_states
from workers.ingest.tally import Tally
from workers.ingest.warmup import DEADLINE_SECONDS, Warmup, WarmupJob, bars_before

MINUTE = START_MS // 60_000
STATE = Bench().states["BTCUSDT"]  # 2 and 6 decimals


def row(minute: int, *values: str) -> list[Any]:
    opening, high, low, close, volume, turnover = values or ("10.5", "11", "10", "10.25", "1.5", "15.75")
    return [minute * 60_000, opening, high, low, close, volume, minute * 60_000 + 60_000, turnover]


def parse(rows: Any, bars: int = 60) -> list[WarmupBar]:
    return bars_before(parse_klines(json.dumps(rows).encode(), STATE), STATE.symbol, MINUTE, bars, 1)


def test_a_row_becomes_a_bar_in_ticks_steps_and_their_product() -> None:
    assert parse([row(MINUTE - 1)]) == [
        WarmupBar("BTCUSDT", MINUTE - 1, 1050, 1100, 1000, 1025, 1_500_000, 1_575_000_000, 1)
    ]


def test_the_open_minute_is_left_out_and_the_newest_closed_ones_are_kept_in_order() -> None:
    rows = [row(MINUTE - back) for back in (0, 3, 1, 2, 2, 4)]
    assert [bar.minute for bar in parse(rows, 3)] == [MINUTE - 3, MINUTE - 2, MINUTE - 1]


def test_more_decimals_than_the_instrument_has_are_rounded_half_to_even() -> None:
    (bar,) = parse([row(MINUTE - 1, "10.005", "11", "10", "10.015", "0.0000005", "0.123456785")])
    assert (bar.open, bar.close, bar.volume, bar.turnover) == (1000, 1002, 0, 12_345_678)


def test_a_minute_without_trades_is_a_bar_without_volume() -> None:
    (bar,) = parse([row(MINUTE - 1, "10", "10", "10", "10", "0", "0")])
    assert (bar.volume, bar.turnover) == (0, 0)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        [[1]],
        [row(MINUTE - 1, "x", "11", "10", "10", "1", "1")],
        [row(MINUTE - 1, "-10", "11", "10", "10", "1", "1")],
        [row(MINUTE - 1, "1e1", "11", "10", "10", "1", "1")],
        [row(MINUTE - 1, "12", "11", "10", "10", "1", "1")],
        [row(MINUTE - 1, "0", "0", "0", "0", "0", "0")],
        [row(MINUTE - 1, "10", "11", "10", "10", "99999999999999", "1")],
        [[MINUTE * 60_000 - 1, "10", "10", "10", "10", "0", 1, "0"]],
        [[MINUTE * 60_000 - 60_000, 10.5, 11, 10, 10, 1, 1, 1]],
    ],
)
def test_a_bad_row_spoils_the_answer(rows: Any) -> None:
    with pytest.raises(RestError):
        parse(rows)


@contextmanager
def rest(body: bytes, status: int = 200, gate: threading.Event | None = None) -> Iterator[tuple[str, list[str]]]:
    """A REST server that answers everything alike; yields its address and the paths it was asked.

    With a gate, no answer is given before it opens.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if gate is not None:
                gate.wait(10)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def begin(bench: Bench) -> list[Any]:
    """Accept, send a quote and a trade, and wait for what comes out."""
    bench.accept()
    bench.send(quote_frame("BTCUSDT", "1.00", "2.00", START_MS))
    bench.send(deals_frame("BTCUSDT", [("1.00", "1", 1, START_MS + 1, "a")], START_MS + 100))

    def covered() -> bool:
        bench.feed.poll(bench.clock.monotonic())
        return not bench.feed.coverage.settling

    wait_until(covered, "coverage begins")
    return bench.events()


def test_bars_come_first_then_the_coverage_then_what_was_held_meanwhile() -> None:
    body = json.dumps([row(MINUTE - 2), row(MINUTE - 1), row(MINUTE)]).encode()
    with rest(body) as (address, asked):
        bench = Bench(warmup_bars=5, rest_url=address)
        events = begin(bench)
    kinds = [type(event) for event in events]
    bars = kinds.count(WarmupBar)
    assert bars == 4  # two closed minutes for each of the two symbols
    assert kinds[:bars] == [WarmupBar] * bars
    assert kinds[bars] is CoverageStart
    assert kinds.index(TradeBlock) > bars
    queries = [parse_qs(urlsplit(path).query) for path in asked]
    assert sorted(query["symbol"][0] for query in queries) == ["BTCUSDT", "XRPUSDT"]
    assert all((query["interval"], query["limit"]) == (["1m"], ["6"]) for query in queries)


@pytest.mark.parametrize(("body", "status"), [(b"[]", 500), (b"{", 200), (b"[[1]]", 200)])
def test_without_klines_the_feed_begins_all_the_same_and_counts_the_failure(body: bytes, status: int) -> None:
    with rest(body, status) as (address, _):
        bench = Bench(warmup_bars=5, rest_url=address)
        events = begin(bench)
    assert [type(event) for event in events if isinstance(event, CoverageStart | TradeBlock)] == [
        CoverageStart,
        TradeBlock,
    ]
    assert not any(isinstance(event, WarmupBar) for event in events)
    assert bench.tally.warmup_failures == 2


def test_nobody_listens_at_the_rest_address() -> None:
    bench = Bench(warmup_bars=5)
    assert any(isinstance(event, TradeBlock) for event in begin(bench))
    assert bench.tally.warmup_failures == 2


def test_a_reconnect_fetches_nothing() -> None:
    with rest(json.dumps([row(MINUTE - 1)]).encode()) as (address, asked):
        bench = Bench(warmup_bars=5, rest_url=address)
        begin(bench)
        bench.feed.closed()
        bench.feed.opened()
        events = begin(bench)
    assert not any(isinstance(event, WarmupBar) for event in events)
    assert len(asked) == 2


def test_the_bars_of_a_symbol_accepted_late_come_before_its_trades_and_hold_up_no_other() -> None:
    gate = threading.Event()
    with rest(json.dumps([row(MINUTE - 1)]).encode(), gate=gate) as (address, _):
        bench = Bench(warmup_bars=5, rest_url=address)
        bench.states["BTCUSDT"].warmed = True
        bench.accept("BTCUSDT")
        bench.send(quote_frame("BTCUSDT", "1.00", "2.00", START_MS))
        bench.accept("XRPUSDT", initial=False)
        bench.events()
        for symbol in ("XRPUSDT", "BTCUSDT"):
            bench.send(deals_frame(symbol, [("1.00", "1", 1, START_MS + 1, "a")], START_MS + 100))
        assert [event.symbol for event in bench.events()] == ["BTCUSDT"]
        gate.set()

        def covered() -> bool:
            bench.feed.poll(bench.clock.monotonic())
            return not bench.feed.coverage.settling

        wait_until(covered, "coverage begins")
    assert [type(event) for event in bench.events()] == [WarmupBar, CoverageStart, TradeBlock]


def test_bars_that_were_on_their_way_when_the_connection_ended_are_fetched_again() -> None:
    gate = threading.Event()
    with rest(json.dumps([row(MINUTE - 1)]).encode(), gate=gate) as (address, asked):
        bench = Bench(warmup_bars=5, rest_url=address)
        bench.accept()
        bench.send(quote_frame("BTCUSDT", "1.00", "2.00", START_MS))
        wait_until(lambda: len(asked) == 2, "asked")
        bench.feed.closed()
        gate.set()
        events = begin(bench)
    assert [type(event) for event in events][:3] == [WarmupBar, WarmupBar, CoverageStart]
    assert len(asked) == 4


class Paced:
    """A budget in which every turn takes a moment and the first calls are refused."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.lock = threading.Lock()

    def take(self, weight: int, *, wait_max_seconds: float = 0.0) -> float:
        del wait_max_seconds
        with self.lock:
            if self.refusals:
                self.refusals -= 1
                raise BudgetSpent(0.01)
            return 0.04 * weight

    def penalty(self, seconds: float) -> None:
        """Not asked for."""


def test_hundreds_of_symbols_all_get_their_bars_however_long_their_turn_takes() -> None:
    """At this pace of the clock their turns take several deadlines; each kline that comes shows that it is worth it."""
    instruments = [Instrument(f"C{number}USDT", 2, 6) for number in range(200)]
    states = make_states(instruments, 1)
    with rest(json.dumps([row(MINUTE - 1)]).encode()) as (address, asked):
        clock = Clock(10.0)
        tally = Tally(BoundedLog(clock.monotonic))
        warmup = Warmup(Rest(address, Paced(refusals=7), clock), 5, tally, clock)
        job = warmup.start(list(states.values()), START_MS)
        assert job is not None
        wait_until(lambda: job.finished(clock.monotonic()), "finished", 60)
        assert sorted(bar.symbol for bar in job.bars()) == sorted(states)
    assert tally.warmup_failures == 0
    assert len(asked) == 200


def test_an_exchange_that_answers_nobody_holds_up_the_feed_for_one_deadline_only() -> None:
    clock = Clock(200.0)
    job = WarmupJob(3, clock.monotonic(), lambda: 0.0)
    began = clock.monotonic()
    wait_until(lambda: job.finished(clock.monotonic()), "finished")
    assert clock.monotonic() - began >= DEADLINE_SECONDS - 1
