"""The thread between the wish for repairs and the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from apps.bus.orders import FAILED, FILLED, PARTIAL, UNFILLABLE, Repair, RepairOutcome
from apps.engine.events import BUY, Backfill
from tests.ingest.leases import Hands
from tests.ingest.processes import wait_until
from tests.ingest.told import BTC, Told, kline_of
from workers.ingest.config import Instrument
from workers.ingest.log import BoundedLog
from workers.ingest.repairer import LAG_MS, Repairer
from workers.ingest.rest import MINUTE_MS, PAGE_ROWS, Busy, Kline, Print, RestError
from workers.ingest.tally import Tally

MINUTE = 28_333_334
START = MINUTE * MINUTE_MS
LATER = START + 1_000 * MINUTE_MS


def at(ms: int, price: int = 1_000, quantity: int = 5, side: int = BUY) -> Print:
    return Print(START + ms, price, quantity, side)


class Shop:
    """A repairer between an exchange that tells and lists that note what comes out."""

    def __init__(self, told: Told, reached_ms: int = LATER, symbols: tuple[str, ...] = ("BTCUSDT",)) -> None:
        self.told = told
        self.reached_ms = reached_ms
        self.may_work = True
        self.has_room = True
        self.redis_is_away = False
        self.events: list[Backfill] = []
        self.outcomes: list[RepairOutcome] = []
        self.clock = Hands()
        self.tally = Tally(BoundedLog(self.clock.monotonic))
        instruments = {symbol: Instrument(symbol, 2, 4) for symbol in symbols}
        self.repairer = Repairer(
            5,
            told,
            self.clock,
            self.tally,
            instruments=instruments.get,
            event_time_ms=lambda: self.reached_ms,
            may_work=lambda: self.may_work,
            has_room=lambda: self.has_room,
            hand_over=self.events.append,
            say=self._say,
        )

    def _say(self, outcome: RepairOutcome) -> None:
        if self.redis_is_away:
            raise redis.ConnectionError
        self.outcomes.append(outcome)

    def wish(self, *minutes: int, attempt: int = 1, symbol: str = "BTCUSDT") -> None:
        self.repairer.wish([Repair(symbol, minute, attempt) for minute in minutes])
        self.repairer.work()

    @property
    def statuses(self) -> list[tuple[int, str]]:
        return [(outcome.minute - MINUTE, outcome.status) for outcome in self.outcomes]


def test_a_short_gap_is_filled_from_the_last_trades_with_their_times_in_ms() -> None:
    trades = [at(1, 1_000), at(1, 1_010), at(59_999, 990), at(60_001)]
    shop = Shop(Told(trades))
    shop.wish(MINUTE)
    (event,) = shop.events
    assert (event.token, event.symbol, event.minute, event.source) == (5, "BTCUSDT", MINUTE, "trades")
    assert [(ts - START, price) for ts, price in zip(event.ts_event, event.price, strict=True)] == [
        (1, 1_000),
        (1, 1_010),
        (59_999, 990),
    ]
    (outcome,) = shop.outcomes
    assert (outcome.status, outcome.attempt, outcome.rows, outcome.source) == (FILLED, 1, 3, "trades")
    assert shop.told.count("klines") == shop.told.count("trades") == 1
    assert shop.told.count("aggTrades") == 0
    assert shop.repairer.report() == {"waiting": 0, "filled": 1, "failed": 0, "rows": 3}


def test_what_lies_before_the_last_trades_comes_from_aggregates_and_shares_their_calls() -> None:
    old = [at(minute * MINUTE_MS + ms * 1_000) for minute in range(10) for ms in range(60)]
    new = [at(10 * MINUTE_MS + ms * 10) for ms in range(PAGE_ROWS)]
    shop = Shop(Told(old + new))
    shop.wish(*range(MINUTE, MINUTE + 11))
    assert [event.minute - MINUTE for event in shop.events] == list(range(11))
    assert {event.source for event in shop.events} == {"aggTrades"}
    assert shop.told.count("klines") == shop.told.count("trades") == 1
    assert shop.told.count("aggTrades") <= 3


def test_what_was_filled_equals_the_klines() -> None:
    trades = [at(ms * 700, 1_000 + ms % 13, 1 + ms % 5) for ms in range(2_000)]
    shop = Shop(Told(trades))
    shop.wish(*range(MINUTE, MINUTE + 20))
    assert len(shop.events) == 20
    for event in shop.events:
        columns = zip(event.ts_event, event.price, event.quantity, event.side, strict=True)
        assert kline_of(event.minute, [Print(*row) for row in columns]) == kline_of(event.minute, trades)


def test_empty_minutes_are_filled_without_asking_for_trades_unless_they_are_recent() -> None:
    shop = Shop(Told([at(0), at(300 * MINUTE_MS)]))
    shop.wish(*range(MINUTE, MINUTE + 301))
    assert sorted(shop.statuses) == [(ahead, FILLED) for ahead in range(301)]
    assert sum(len(event.ts_event) for event in shop.events) == 2
    assert shop.told.count("klines") == 1
    assert shop.told.count("aggTrades") <= 2


def test_many_symbols_at_once_spare_the_dear_call() -> None:
    symbols = tuple(f"S{number}USDT" for number in range(20))
    shop = Shop(Told([at(0)]), symbols=symbols)
    shop.repairer.wish([Repair(symbol, MINUTE, 1) for symbol in symbols])
    shop.repairer.work()
    assert len(shop.events) == 20
    assert shop.told.count("trades") == 10  # only once the last ten are left
    assert shop.told.count("klines") == 20


def test_no_attempt_is_made_twice_and_the_next_one_is() -> None:
    shop = Shop(Told([at(0)]))
    for _ in range(3):
        shop.wish(MINUTE)
    assert len(shop.events) == len(shop.outcomes) == 1
    shop.wish(MINUTE, attempt=2)
    assert len(shop.events) == 2
    assert [outcome.attempt for outcome in shop.outcomes] == [1, 2]


def test_an_answer_that_did_not_reach_the_asker_is_said_again_without_a_second_event() -> None:
    shop = Shop(Told([at(0)]))
    shop.redis_is_away = True
    shop.wish(MINUTE)
    assert shop.outcomes == []
    shop.redis_is_away = False
    shop.wish(MINUTE)
    assert len(shop.outcomes) == 1
    shop.clock.passed += 6  # still wished: Redis was emptied before the asker had read it
    shop.wish(MINUTE)
    assert len(shop.outcomes) == 2
    assert len(shop.events) == 1
    assert shop.tally.redis_errors["outcome"] == 1


def test_a_minute_that_rest_may_not_know_whole_yet_waits() -> None:
    told = Told([at(0), at(59_999)], now_ms=START + MINUTE_MS + LAG_MS - 1)
    shop = Shop(told, reached_ms=START + MINUTE_MS)
    shop.wish(MINUTE)
    assert not shop.events
    assert shop.repairer.waiting == 1
    shop.reached_ms = START + MINUTE_MS + LAG_MS
    shop.wish(MINUTE)
    assert shop.statuses == [(0, FILLED)]


def test_when_the_stream_stands_still_the_exchange_is_asked_for_the_time() -> None:
    shop = Shop(Told([at(0)], now_ms=LATER), reached_ms=0)
    shop.wish(MINUTE)
    assert shop.statuses == [(0, FILLED)]
    assert shop.told.count("time") == 1


def test_rest_that_lags_behind_its_own_klines_fails_and_the_next_attempt_fills() -> None:
    class KlinesAhead(Told):
        def klines(self, *arguments: object) -> dict[int, Kline]:
            self.lag_ms, lag_ms = 0, self.lag_ms
            found = super().klines(*arguments)  # type: ignore[arg-type]
            self.lag_ms = lag_ms
            return found

    told = KlinesAhead([at(0), at(59_999)], now_ms=START + 61_000, lag_ms=1_500)
    shop = Shop(told)
    shop.wish(MINUTE)
    assert shop.statuses == [(0, FAILED)]
    assert shop.outcomes[0].detail == "volume 0.0005 in rows, 0.0010 in the kline"
    told.lag_ms = 0
    shop.wish(MINUTE, attempt=2)
    assert shop.statuses[1:] == [(0, FILLED)]


@pytest.mark.parametrize(
    ("errors", "status", "words"),
    [
        ({"klines": RestError("klines: HTTP 500")}, FAILED, "klines: HTTP 500"),
        ({"aggTrades": RestError("aggTrades: timed out"), "trades": RestError("x")}, FAILED, "aggTrades: timed out"),
        ({"trades": RestError("trades: HTTP 500")}, FILLED, ""),
    ],
)
def test_an_error_is_an_answer_and_the_one_source_stands_in_for_the_other(
    errors: dict[str, Exception], status: str, words: str
) -> None:
    shop = Shop(Told([at(0)], errors=errors))
    shop.wish(MINUTE)
    assert shop.statuses == [(0, status)]
    assert shop.outcomes[0].detail == words


@pytest.mark.parametrize("what", ["klines", "trades", "aggTrades"])
def test_a_busy_exchange_costs_no_attempt(what: str) -> None:
    old, new = [at(0)], [at(MINUTE_MS + ms) for ms in range(PAGE_ROWS)]
    shop = Shop(Told(old + new, errors={what: Busy("HTTP 429", 0.01)}))
    shop.wish(MINUTE)
    assert not shop.outcomes
    assert shop.repairer.waiting == 1
    shop.told.errors.clear()
    shop.wish(MINUTE)
    assert shop.statuses == [(0, FILLED)]


def test_a_second_with_too_many_rows_leaves_one_minute_partial_and_fills_the_others() -> None:
    burst = [at(MINUTE_MS + ms % 900, price=1_000 + ms) for ms in range(PAGE_ROWS + 5)]
    trades = sorted([at(0), *burst, at(2 * MINUTE_MS)], key=lambda row: row.ts_event)
    shop = Shop(Told(trades))
    shop.wish(MINUTE, MINUTE + 1, MINUTE + 2)
    assert sorted(shop.statuses) == [(0, FILLED), (1, PARTIAL), (2, FILLED)]
    assert shop.repairer.report()["failed"] == 1


def test_trades_that_rest_does_not_keep_any_more_make_the_minute_unfillable() -> None:
    shop = Shop(Told([at(0)], kept_from_ms=LATER))
    shop.wish(MINUTE)
    assert shop.statuses == [(0, UNFILLABLE)]
    assert "volume 0.0005 in the kline" in shop.outcomes[0].detail


def test_nothing_is_asked_for_while_nothing_can_be_published_or_for_unknown_symbols() -> None:
    shop = Shop(Told([at(0)]))
    shop.may_work = False
    shop.wish(MINUTE)
    assert shop.told.asked == []
    shop.may_work = True
    shop.wish(MINUTE, symbol="NOPEUSDT")
    assert shop.told.asked == []
    shop.wish(MINUTE)
    assert shop.statuses == [(0, FILLED)]


def test_an_answer_found_after_the_right_to_write_has_passed_on_is_not_said() -> None:
    class Sleepy(Told):
        def aggregates(self, *arguments: Any) -> list[Print]:
            shop.may_work = False
            return super().aggregates(*arguments)

    shop = Shop(Sleepy([at(0)], errors={"trades": RestError("x")}))
    shop.wish(MINUTE)
    assert shop.told.count("aggTrades") == 1
    assert not shop.outcomes
    shop.may_work = True
    shop.wish(MINUTE)
    assert shop.statuses == [(0, FILLED)]


def test_what_is_found_waits_for_room_before_the_stream() -> None:
    shop = Shop(Told([at(0)]))
    shop.has_room = False
    shop.repairer.wish([Repair(BTC.symbol, MINUTE, 1)])
    shop.repairer.start()
    wait_until(lambda: shop.told.count("klines"), "asked")
    assert not shop.events
    shop.has_room = True
    wait_until(lambda: shop.outcomes, "answered")
    assert len(shop.events) == 1
    shop.repairer.stop()
    shop.repairer.join(5)


def test_the_thread_works_on_what_is_wished_and_ends_when_asked_to() -> None:
    shop = Shop(Told([at(0), at(MINUTE_MS)]))
    shop.repairer.start()
    wishes: list[Callable[[], None]] = [
        lambda: shop.repairer.wish([Repair(BTC.symbol, MINUTE, 1)]),
        lambda: shop.repairer.wish([Repair(BTC.symbol, MINUTE + 1, 1)]),
    ]
    for number, wish in enumerate(wishes, 1):
        wish()
        wait_until(lambda n=number: len(shop.outcomes) == n, "answered")  # type: ignore[misc]
    shop.repairer.stop()
    shop.repairer.join(5)
    assert not shop.repairer.is_alive()
