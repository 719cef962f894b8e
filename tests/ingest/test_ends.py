"""Who is not delivered any more is said once; rows without an id are kept unless the whole frame has come twice."""

from __future__ import annotations

import pytest

from apps.engine.events import CoverageEnd, CoverageStart, Loss, TradeBlock, Watermark
from tests.ingest.frames import Deal, deals_frame, quote_frame
from tests.ingest.market import INSTRUMENTS, START_MS, TOKEN, Bench
from workers.ingest.progress import GRACE_MS
from workers.ingest.recent import IdMemory
from workers.ingest.stored import remember
from workers.ingest.symbols import PLAIN_FRAMES

AT = START_MS + 100


def deal(trade_id: str = "", time_ms: int = START_MS + 50, price: str = "1.50") -> Deal:
    return price, "1", 1, time_ms, trade_id


def test_a_refused_symbol_ends_once_and_begins_when_it_is_accepted() -> None:
    bench = Bench()
    bench.accept("BTCUSDT")
    for _ in range(3):
        bench.feed.refused(["XRPUSDT"], "refused: Blocked!")
    bench.send(quote_frame("BTCUSDT", "1.00", "2.00", AT))
    end, start, _ = bench.events()
    assert isinstance(end, CoverageEnd)
    assert (end.token, end.symbols, end.reason) == (TOKEN, ["XRPUSDT"], "refused: Blocked!")
    assert start.symbols == ["BTCUSDT"]
    bench.accept("XRPUSDT", initial=False, reason="accepted late")
    bench.send(quote_frame("XRPUSDT", "0.1000", "0.2000", AT + 100))
    bench.feed.refused(["XRPUSDT"], "refused: Blocked!")
    events = bench.events()
    assert [type(event) for event in events if isinstance(event, CoverageStart | CoverageEnd)] == [
        CoverageStart,
        CoverageEnd,
    ]


def test_a_symbol_that_ended_is_in_no_watermark_and_holds_nobody_back() -> None:
    bench = Bench()
    bench.cover()
    bench.feed.refused(["XRPUSDT"], "refused: Blocked!")
    bench.send(*[deals_frame("BTCUSDT", [], START_MS + 500 * step) for step in range(1, 10)])
    marks = bench.events(Watermark)
    assert marks
    assert all(set(mark.ordinals) == {"BTCUSDT"} for mark in marks)


def test_a_blocked_connection_ends_its_symbols_once_over_many_attempts() -> None:
    bench = Bench()
    for link in range(1, 4):
        bench.feed.opened(link)
        bench.feed.closed(link)
        bench.feed.refused(["BTCUSDT", "XRPUSDT"], "blocked: Blocked!", 0)
    (end,) = bench.events()
    assert sorted(end.symbols) == ["BTCUSDT", "XRPUSDT"]


def test_an_interruption_is_no_end() -> None:
    bench = Bench()
    bench.cover()
    bench.feed.closed()
    assert bench.events() == []


def test_a_symbol_that_leaves_ends_and_what_still_comes_of_it_is_no_complaint() -> None:
    bench = Bench()
    bench.cover()
    bench.feed.leave(["XRPUSDT"])
    bench.send(deals_frame("XRPUSDT", [deal("a")], AT), quote_frame("XRPUSDT", "0.1000", "0.2000", AT))
    (end,) = bench.events()
    assert (end.symbols, end.reason) == (["XRPUSDT"], "not wanted")
    assert bench.tally.dropped == {"not_wanted": 2}
    assert bench.tally.decode_errors == 0


def test_a_symbol_that_comes_back_goes_on_with_its_ordinals_and_remembers_its_trades() -> None:
    bench = Bench()
    bench.cover()
    bench.send(deals_frame("XRPUSDT", [deal("a")], AT))
    bench.feed.leave(["XRPUSDT"])
    bench.feed.join([bench.states["XRPUSDT"]])
    bench.accept("XRPUSDT", initial=False)
    bench.events()
    bench.send(deals_frame("XRPUSDT", [deal("a"), deal("b")], AT + 100))
    start, block = bench.events()
    assert (start.symbols, block.ordinal, block.trade_id) == (["XRPUSDT"], 2, ["b"])


def test_frames_that_waited_for_a_coverage_that_will_not_begin_are_counted() -> None:
    bench = Bench()
    bench.send(deals_frame("XRPUSDT", [deal("a"), deal("b")], AT))
    bench.feed.leave(["XRPUSDT"])
    assert bench.tally.dropped == {"not_covered": 2}


def test_equal_rows_without_an_id_in_different_frames_are_different_trades() -> None:
    bench = Bench()
    bench.cover()
    bench.send(deals_frame("BTCUSDT", [deal(), deal()], AT), deals_frame("BTCUSDT", [deal()], AT + 100))
    assert sum(len(block.ts_event) for block in bench.events(TradeBlock)) == 3


@pytest.mark.parametrize("rows", [[deal()], [deal(), deal()], [deal("a"), deal(), deal("b", price="1.60")]])
def test_a_frame_with_rows_without_id_that_comes_twice_is_taken_once(rows: list[Deal]) -> None:
    bench = Bench()
    bench.cover()
    frame = deals_frame("BTCUSDT", rows, AT)
    other = deals_frame("BTCUSDT", [deal(time_ms=START_MS + 60)], AT)
    bench.send(frame, other, frame, frame)
    assert sum(len(block.ts_event) for block in bench.events(TradeBlock)) == len(rows) + 1
    assert bench.tally.dropped == {"duplicate": 2 * len(rows)}


def test_a_frame_without_id_that_comes_twice_is_known_over_a_reconnect() -> None:
    bench = Bench()
    bench.cover()
    frame = deals_frame("BTCUSDT", [deal()], AT)
    bench.send(frame)
    bench.feed.closed()
    bench.feed.opened(2)
    bench.accept(link=2)
    bench.feed.frames([frame], 1, 2)
    assert sum(len(block.ts_event) for block in bench.events(TradeBlock)) == 1


def test_the_memory_of_frames_without_id_is_bounded() -> None:
    bench = Bench()
    bench.cover()
    for number in range(10 * PLAIN_FRAMES):
        bench.send(deals_frame("BTCUSDT", [deal(time_ms=START_MS + number)], AT + number))
    assert len(bench.states["BTCUSDT"].plain_frames) <= 2 * PLAIN_FRAMES


def test_a_reconnect_to_a_server_that_is_behind_repeats_no_row_without_id() -> None:
    bench = Bench()
    bench.cover()
    rows = [deal(time_ms=START_MS + 1_000 + 100 * number) for number in range(20)]
    for row in rows[:15]:
        bench.send(deals_frame("BTCUSDT", [row], row[3]))
    bench.feed.closed()
    bench.feed.opened(2)
    bench.accept(link=2, reason="reconnect: why")
    published = [time_ms for block in bench.events(TradeBlock) for time_ms in block.ts_event]
    for row in rows[10:]:
        bench.feed.frames([deals_frame("BTCUSDT", [row], row[3] + 7)], 1, 2)
    events = bench.events()
    (start,) = [event for event in events if isinstance(event, CoverageStart)]
    assert start.since_ms == START_MS + 2_007
    assert not [event for event in events if isinstance(event, Loss)]
    published += [time_ms for e in events if isinstance(e, TradeBlock) for time_ms in e.ts_event]
    assert published == [row[3] for row in rows]


def test_an_early_row_without_id_is_published_long_after_a_reconnect_and_declared_shortly_after_it() -> None:
    bench = Bench()
    bench.cover()
    bench.send(*[deals_frame("BTCUSDT", [deal(time_ms=AT + 100 * n)], AT + 100 * n) for n in range(10)])
    bench.feed.closed()
    bench.feed.opened(2)
    bench.accept(link=2)
    bench.events()
    between, after = AT + 900 + GRACE_MS + 1, AT + 60_000
    bench.feed.frames([deals_frame("BTCUSDT", [deal(time_ms=AT + 1)], between)], 1, 2)
    (loss,) = bench.events(Loss)
    assert (loss.from_ms, loss.to_ms, loss.symbols) == (AT + 1, AT + 1, ["BTCUSDT"])
    for step in range(3):
        bench.feed.frames([deals_frame("XRPUSDT", [], after + 500 * step)], 1, 2)
        bench.feed.poll(bench.clock.monotonic())
    bench.events()
    bench.feed.frames([deals_frame("BTCUSDT", [deal(time_ms=AT + 2)], after + 2_000)], 1, 2)
    assert [block.ts_event for block in bench.events(TradeBlock)] == [[AT + 2]]


def test_a_symbol_new_to_the_feed_is_followed_like_the_others() -> None:
    bench = Bench()
    bench.cover()
    bench.feed.leave([INSTRUMENTS[0].symbol])
    bench.events()
    bench.feed.join([bench.states["BTCUSDT"]])
    bench.send(deals_frame("BTCUSDT", [deal("early")], AT))
    assert bench.events() == []
    bench.accept("BTCUSDT", initial=False, reason="accepted late")
    bench.send(deals_frame("BTCUSDT", [deal("a")], AT + 100))
    start, *rest = bench.events()
    assert (start.since_ms, start.symbols) == (AT + 100, ["BTCUSDT"])
    assert [block.trade_id for block in rest] == [["early"], ["a"]]


def test_two_generations_of_ids_are_remembered() -> None:
    recent = IdMemory(2).member()
    assert [recent.add(text) for text in "abcab"] == [True, True, True, False, False]


def test_rows_without_id_that_the_process_before_has_published_are_not_repeated_by_a_server_that_is_behind() -> None:
    bench = Bench()
    remembered = TradeBlock("BTCUSDT", TOKEN, 1, 1, [AT, AT + 300], [150] * 2, [1] * 2, [1] * 2, ["", ""])
    remember(remembered, bench.states)
    bench.feed.leave(["BTCUSDT"])
    bench.feed.join([bench.states["BTCUSDT"]])
    bench.feed.opened(1)
    bench.accept()
    bench.send(*[deals_frame("BTCUSDT", [deal(time_ms=AT + 100 * n)], AT + 100 * n) for n in range(1, 6)])
    assert [block.ts_event for block in bench.events(TradeBlock)] == [[AT + 400], [AT + 500]]
