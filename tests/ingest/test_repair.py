"""Which questions a repair asks, and when their answers count as a whole minute."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.bus.orders import FAILED, FILLED, PARTIAL, UNFILLABLE, Repair
from apps.engine.events import BUY, SELL
from tests.ingest.told import BTC, Told, kline_of, merged
from workers.ingest.repair import AGGREGATES, TRADES, Pages, arrange, compare, cut, plan, reach_ms, settle, windows
from workers.ingest.rest import MINUTE_MS, PAGE_ROWS, Kline, Print, RestError

MINUTE = 28_333_334
START = MINUTE * MINUTE_MS


def at(ms: int, price: int = 1_000, quantity: int = 5, side: int = BUY) -> Print:
    return Print(START + ms, price, quantity, side)


def fetch(told: Told, newest_first: list[int]) -> Pages:
    pages = Pages(newest_first)
    while (window := pages.next()) is not None:
        pages.add(told.aggregates(BTC, *window))
        assert len(told.asked) < 1_000
    return pages


# --- the plan -----------------------------------------------------------------------------------------------------


def test_neighbouring_minutes_of_a_symbol_are_one_batch_and_the_newest_come_first() -> None:
    repairs = [Repair("AUSDT", m, 1) for m in (5, 3, 4)] + [Repair("BUSDT", 9, 2), Repair("CUSDT", 4, 1)]
    batches = plan(repairs, 10 * MINUTE_MS)
    assert [(batch.symbol, batch.minutes) for batch in batches] == [
        ("BUSDT", [9]),
        ("AUSDT", [3, 4, 5]),
        ("CUSDT", [4]),
    ]
    assert batches[0].attempts == {9: 2}


def test_a_minute_that_has_not_ended_is_not_asked_for() -> None:
    repairs = [Repair("AUSDT", minute, 1) for minute in (4, 5, 6)]
    assert [batch.minutes for batch in plan(repairs, 6 * MINUTE_MS)] == [[4, 5]]
    assert plan(repairs, 5 * MINUTE_MS - 1) == []


@given(st.lists(st.integers(0, 5_000), unique=True), st.integers(0, 6_000))
def test_every_ended_minute_is_in_one_batch_and_no_batch_is_longer_than_klines_reach(
    minutes: list[int], before: int
) -> None:
    batches = plan([Repair("AUSDT", minute, minute % 3 + 1) for minute in minutes], before * MINUTE_MS)
    planned = [minute for batch in batches for minute in batch.minutes]
    assert sorted(planned) == sorted(minute for minute in minutes if minute < before)
    for batch in batches:
        assert batch.minutes == sorted(batch.minutes)
        assert batch.minutes[-1] - batch.minutes[0] < 1_000
        assert all(batch.attempts[minute] == minute % 3 + 1 for minute in batch.minutes)


@given(st.lists(st.integers(0, 1_000), unique=True, min_size=1))
def test_windows_span_an_hour_at_most_and_lose_no_minute(minutes: list[int]) -> None:
    found = windows(minutes)
    assert sorted(minute for window in found for minute in window) == sorted(minutes)
    assert all(window == sorted(window, reverse=True) and window[0] - window[-1] < 60 for window in found)


# --- pages of aggTrades -------------------------------------------------------------------------------------------


def test_one_page_is_enough_for_a_quiet_hour_and_its_bounds_are_whole_seconds() -> None:
    told = Told([at(0), at(59_999), at(60_000), at(59 * 60_000)])
    pages = fetch(told, [MINUTE + 59, MINUTE + 1, MINUTE])
    assert told.asked == [("aggTrades", "BTCUSDT", START, START + 3_600_000 - 1_000)]
    assert [row.ts_event - START for row in pages.rows(MINUTE)] == [0, 59_000]
    assert [row.ts_event - START for row in pages.rows(MINUTE + 1)] == [60_000]
    assert [row.ts_event - START for row in pages.rows(MINUTE + 59)] == [59 * 60_000]


def test_a_full_page_is_followed_by_one_that_ends_with_its_oldest_second() -> None:
    told = Told([at(ms * 30, price=1_000 + ms % 7, quantity=1 + ms) for ms in range(1_900)])
    pages = fetch(told, [MINUTE])
    assert pages.rows(MINUTE) == merged(told.trades)
    ends = [end - START for _, _, _, end in told.asked]
    assert ends == [59_000, 27_000]


def test_a_second_with_more_rows_than_a_page_leaves_its_minute_partial_and_the_others_whole() -> None:
    burst = [at(90_000 + ms % 1_000, price=1_000 + ms, side=SELL) for ms in range(PAGE_ROWS + 50)]
    trades = sorted([at(10_000), at(70_000), *burst, at(150_000)], key=lambda row: row.ts_event)
    pages = fetch(Told(trades), [MINUTE + 2, MINUTE + 1, MINUTE])
    assert [pages.is_cut(MINUTE + ahead) for ahead in range(3)] == [False, True, False]
    assert [len(pages.rows(MINUTE + ahead)) for ahead in (0, 2)] == [1, 1]
    assert cut(MINUTE + 1, AGGREGATES).status == PARTIAL


def test_a_second_with_exactly_a_page_of_rows_cannot_be_told_from_a_cut_one() -> None:
    pages = fetch(Told([at(1_000 + ms % 1_000, price=1_000 + ms) for ms in range(PAGE_ROWS)]), [MINUTE])
    assert pages.is_cut(MINUTE)


def test_pages_leave_out_the_stretch_between_wanted_minutes() -> None:
    busy = [at(ms * 20, price=1_000 + ms % 3) for ms in range(24_000)]  # 8 minutes, 50 rows a second
    told = Told(busy)
    pages = fetch(told, [MINUTE + 7, MINUTE])
    assert len(pages.rows(MINUTE)) == len(pages.rows(MINUTE + 7)) == 3_000
    assert told.count("aggTrades") <= 10


@pytest.mark.parametrize(
    "rows",
    [
        [at(2_000), at(1_000)],
        [at(-1_000)],
        [at(60_000)],
    ],
)
def test_rows_that_no_answer_can_hold_are_refused(rows: list[Print]) -> None:
    with pytest.raises(RestError):
        Pages([MINUTE]).add(rows)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 6_000),
    seconds=st.integers(1, 240),
    wanted=st.sets(st.integers(0, 4), min_size=1),
)
def test_pages_end_with_every_row_of_every_wanted_minute_or_name_the_minute_as_cut(
    seed: int, count: int, seconds: int, wanted: set[int]
) -> None:
    dice = random.Random(seed)
    times = sorted(dice.randrange(seconds * 1_000) for _ in range(count))
    trades = [at(ms, 1_000 + dice.randrange(5), 1 + dice.randrange(9), dice.choice((BUY, SELL))) for ms in times]
    told = Told(trades)
    newest_first = sorted((MINUTE + ahead for ahead in wanted), reverse=True)
    pages = fetch(told, newest_first)
    rows = merged(trades)
    for minute in newest_first:
        whole = [row for row in rows if row.ts_event // MINUTE_MS == minute]
        assert pages.is_known(minute)
        if pages.is_cut(minute):
            per_second = [row.ts_event for row in whole]
            assert max(per_second.count(second) for second in set(per_second)) >= PAGE_ROWS
        else:
            assert pages.rows(minute) == whole
    assert told.count("aggTrades") <= len(rows) // (PAGE_ROWS // 2) + len(newest_first) + 4


# --- the last trades ----------------------------------------------------------------------------------------------


def test_the_oldest_second_of_a_full_answer_is_not_whole() -> None:
    trades = [at(ms * 100) for ms in range(PAGE_ROWS)]
    assert reach_ms(trades) == START + 1_000
    assert reach_ms(trades[1:]) == 0
    assert reach_ms([]) == 0


# --- against the kline --------------------------------------------------------------------------------------------

ROWS = [at(100, 1_000, 5), at(100, 1_020, 2), at(30_000, 990, 7), at(59_000, 1_010, 1)]
KLINE = kline_of(MINUTE, ROWS)


def test_rows_that_agree_with_the_kline_are_the_minute() -> None:
    result = settle(MINUTE, TRADES, ROWS, KLINE, BTC)
    assert (result.status, result.source, result.rows) == (FILLED, TRADES, tuple(ROWS))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"volume": KLINE.volume + 1}, "volume 0.0015 in rows, 0.0016 in the kline"),
        ({"turnover": KLINE.turnover + 1}, "turnover 0.014980 in rows, 0.014981 in the kline"),
        ({"high": 1_021}, "high 10.20 in rows, 10.21 in the kline"),
        ({"low": 989}, "low 9.90 in rows, 9.89 in the kline"),
        ({"open": 990}, "open 10.00 in rows, 9.90 in the kline"),
        ({"close": 990}, "close 10.10 in rows, 9.90 in the kline"),
    ],
)
def test_every_difference_to_the_kline_is_named_with_both_numbers(changes: dict[str, int], words: str) -> None:
    result = settle(MINUTE, TRADES, ROWS, replace(KLINE, **changes), BTC)
    assert (result.status, result.detail, result.rows) == (FAILED, words, ())


@pytest.mark.parametrize(("difference", "agrees"), [(0, True), (99, True), (-99, True), (100, False), (-100, False)])
def test_the_turnover_may_differ_by_what_the_exchange_rounds_away(difference: int, agrees: bool) -> None:
    kline = replace(KLINE, turnover=KLINE.turnover + difference, turnover_unit=100)
    assert (compare(ROWS, kline, BTC) == "") is agrees


@pytest.mark.parametrize(
    ("rows", "kline", "status"),
    [
        ([], None, FAILED),
        (ROWS, None, FAILED),
        ([], KLINE, UNFILLABLE),
        ([], kline_of(MINUTE, []), FILLED),
        (ROWS, kline_of(MINUTE, []), FAILED),
        ([at(0)] * 20_001, kline_of(MINUTE, [at(0)]), UNFILLABLE),
    ],
)
def test_what_is_missing_decides_what_becomes_of_the_minute(
    rows: list[Print], kline: Kline | None, status: str
) -> None:
    assert settle(MINUTE, AGGREGATES, rows, kline, BTC).status == status


def test_rows_of_one_time_are_put_in_the_order_of_the_kline() -> None:
    rows = [at(0, 1_020), at(0, 1_000), at(30_000, 990), at(59_000, 1_010), at(59_000, 1_030)]
    kline = replace(kline_of(MINUTE, rows), open=1_000, close=1_010)
    arranged = arrange(rows, kline)
    assert [row.price for row in arranged] == [1_000, 1_020, 990, 1_030, 1_010]
    assert settle(MINUTE, AGGREGATES, rows, kline, BTC).rows == tuple(arranged)


def test_a_merged_row_that_is_both_the_first_and_the_last_price_is_split() -> None:
    trades = [at(5, 1_000, 3), at(5, 1_001, 4), at(5, 1_000, 2)]
    rows = merged(trades)
    assert [row.price for row in rows] == [1_000, 1_001]
    result = settle(MINUTE, AGGREGATES, rows, kline_of(MINUTE, trades), BTC)
    assert [(row.price, row.quantity) for row in result.rows] == [(1_000, 4), (1_001, 4), (1_000, 1)]


def test_rows_that_no_order_brings_together_with_the_kline_fail() -> None:
    rows = [at(0, 1_000, 1), at(0, 1_001, 4)]
    kline = replace(kline_of(MINUTE, rows), close=1_000)
    assert settle(MINUTE, AGGREGATES, rows, kline, BTC).status == FAILED


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40), seconds=st.integers(1, 5))
def test_the_merged_rows_of_any_minute_become_its_kline_again(seed: int, count: int, seconds: int) -> None:
    dice = random.Random(seed)
    times = sorted(dice.randrange(seconds * 1_000) // 250 * 250 for _ in range(count))
    trades = [at(ms, 1_000 + dice.randrange(4), 2 + dice.randrange(9), dice.choice((BUY, SELL))) for ms in times]
    kline = kline_of(MINUTE, trades)
    result = settle(MINUTE, AGGREGATES, merged(trades), kline, BTC)
    assert result.status == FILLED, result.detail
    assert kline_of(MINUTE, result.rows) == kline
