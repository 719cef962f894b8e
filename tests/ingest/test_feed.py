"""From frames to events: checks, coverage, losses and watermarks, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.events import CoverageStart, Loss, QuoteBlock, TradeBlock, Watermark
from proto.gen.push_pb2 import PushDataV3ApiWrapper
from tests.ingest.market import START_MS, TOKEN, Bench, Deal, deals_frame, quote_frame
from workers.ingest.channels import deals_channel
from workers.ingest.progress import GRACE_MS
from workers.ingest.trades import AGE_MAX_MS, LEAD_MAX_MS

AT = START_MS + 100


def deal(**changes: object) -> Deal:
    names = ("price", "quantity", "side", "time", "id")
    values = dict(zip(names, ("93220.00", "0.044382", 2, START_MS + 50, "a1"), strict=True)) | changes
    return tuple(values[name] for name in names)  # type: ignore[return-value]


def test_a_trade_becomes_ticks_and_steps() -> None:
    bench = Bench()
    bench.cover()
    bench.send(deals_frame("BTCUSDT", [deal(), deal(id="a2", side=1, time=START_MS + 60)], AT))
    assert bench.events(TradeBlock) == [
        TradeBlock(
            "BTCUSDT", TOKEN, 1, 1, [START_MS + 50, START_MS + 60], [9_322_000] * 2, [44_382] * 2, [2, 1], ["a1", "a2"]
        )
    ]
    assert (bench.tally.trades_received, bench.tally.trades_decoded) == (2, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": "0"}, "not_positive"),
        ({"price": "-1"}, "not_decimal"),
        ({"price": "1e5"}, "not_decimal"),
        ({"price": "93220.001"}, "too_many_decimals"),
        ({"price": ""}, "not_decimal"),
        ({"quantity": "0.0000001"}, "too_many_decimals"),
        ({"quantity": "nan"}, "not_decimal"),
        ({"quantity": "99999999999999"}, "too_large"),
        ({"side": 0}, "bad_side"),
        ({"side": 3}, "bad_side"),
        ({"time": 0}, "bad_time"),
        ({"time": -5}, "bad_time"),
        ({"time": AT + LEAD_MAX_MS + 1}, "bad_time"),
        ({"time": AT - AGE_MAX_MS - 1}, "bad_time"),
        ({"id": "x" * 65}, "bad_trade_id"),
    ],
)
def test_a_bad_trade_is_counted_dropped_and_declared_while_the_rest_of_its_frame_is_kept(
    changes: dict[str, object], reason: str
) -> None:
    bench = Bench()
    bench.cover()
    bench.send(deals_frame("BTCUSDT", [deal(id="a0"), deal(**changes), deal(id="a2")], AT))
    events = bench.events()
    (block,) = [event for event in events if isinstance(event, TradeBlock)]
    (loss,) = [event for event in events if isinstance(event, Loss)]
    assert block.trade_id == ["a0", "a2"]
    assert bench.tally.dropped == {reason: 1}
    assert (loss.symbols, loss.reason) == (["BTCUSDT"], "bad trade")
    time_ms = changes.get("time", START_MS + 50)
    assert isinstance(time_ms, int)
    if reason == "bad_time":
        assert (loss.from_ms, loss.to_ms) == (START_MS, AT)
    else:
        assert (loss.from_ms, loss.to_ms) == (time_ms, time_ms)


def test_without_a_send_time_any_plausible_trade_time_is_taken() -> None:
    bench = Bench()
    bench.cover()
    bench.send(deals_frame("BTCUSDT", [deal(time=1)]))
    assert len(bench.events(TradeBlock)) == 1


def test_a_trade_id_is_published_once_however_often_it_comes() -> None:
    bench = Bench()
    bench.cover()
    frame = deals_frame("BTCUSDT", [deal(), deal()], AT)
    bench.send(frame, frame)
    assert sum(len(block.trade_id) for block in bench.events(TradeBlock)) == 1
    assert bench.tally.dropped == {"duplicate": 3}


def test_the_same_id_on_another_symbol_is_another_trade() -> None:
    bench = Bench()
    bench.cover()
    other = deal(price="0.2400", quantity="5")
    bench.send(deals_frame("BTCUSDT", [deal()], AT), deals_frame("XRPUSDT", [other], AT))
    assert {block.symbol for block in bench.events(TradeBlock)} == {"BTCUSDT", "XRPUSDT"}


def test_equal_rows_without_an_id_are_all_kept() -> None:
    bench = Bench()
    bench.cover()
    bench.send(deals_frame("BTCUSDT", [deal(id=""), deal(id="")], AT))
    (block,) = bench.events(TradeBlock)
    assert block.trade_id == ["", ""]


@pytest.mark.parametrize(
    ("bid", "ask", "sizes", "reason"),
    [
        ("2.00", "2.00", ("1", "1"), "quote_crossed"),
        ("2.01", "2.00", ("1", "1"), "quote_crossed"),
        ("0", "2.00", ("1", "1"), "quote_not_positive"),
        ("1.00", "", ("1", "1"), "quote_not_decimal"),
        ("1.00", "2.00", ("0", "1"), "quote_not_positive"),
        ("1.001", "2.00", ("1", "1"), "quote_too_many_decimals"),
    ],
)
def test_a_bad_quote_is_counted_and_dropped(bid: str, ask: str, sizes: tuple[str, str], reason: str) -> None:
    bench = Bench()
    bench.cover()
    bench.send(quote_frame("BTCUSDT", bid, ask, AT, sizes))
    assert bench.events(QuoteBlock) == []
    assert bench.tally.dropped == {reason: 1}


def test_only_changed_quotes_are_published_with_the_time_they_were_sent() -> None:
    bench = Bench()
    bench.cover()
    bench.send(*[quote_frame("BTCUSDT", "5.00", "6.00", AT + n) for n in range(5)])
    bench.send(quote_frame("BTCUSDT", "5.00", "6.00", AT + 9, ("1", "2")))
    blocks = bench.events(QuoteBlock)
    assert [time_ms for block in blocks for time_ms in block.ts_event] == [AT, AT + 9]
    assert [size for block in blocks for size in block.ask_quantity] == [1_000_000, 2_000_000]


def test_what_a_full_ring_let_go_is_a_declared_loss_and_its_quote_is_published_again() -> None:
    bench = Bench(trades_max=1_000)
    bench.cover()
    same = quote_frame("BTCUSDT", "5.00", "6.00", AT)
    bench.send(same)
    for number in range(6):
        deals = [deal(id=f"{number}-{row}", time=START_MS + number) for row in range(400)]
        bench.send(deals_frame("BTCUSDT", deals, AT + number))
        bench.builder.flush(everything=True)
    bench.send(same)
    events = bench.events()
    loss = events[0]
    assert isinstance(loss, Loss)
    assert (loss.symbols, loss.from_ms, loss.to_ms) == (["BTCUSDT"], START_MS, AT)
    blocks = [event for event in events if isinstance(event, TradeBlock)]
    assert [block.ordinal for block in blocks] == [1601, 2001]
    assert (bench.tally.trades_decoded, bench.tally.trades_overflowed) == (2_400, 1_600)
    assert isinstance(events[-1], QuoteBlock)


def test_coverage_begins_at_the_first_frame_after_the_answer_and_stands_before_its_trades() -> None:
    bench = Bench()
    bench.send(deals_frame("BTCUSDT", [deal(id="early")], START_MS))
    assert bench.events() == []
    bench.accept(reason="reconnect: why")
    bench.send(deals_frame("BTCUSDT", [deal()], AT))
    start, *blocks = bench.events()
    assert isinstance(start, CoverageStart)
    assert (start.since_ms, start.symbols, start.reason) == (AT, ["BTCUSDT", "XRPUSDT"], "reconnect: why")
    assert [block.trade_id for block in blocks] == [["early"], ["a1"]]


def test_a_symbol_that_was_refused_is_not_covered_and_may_be_accepted_late() -> None:
    bench = Bench()
    bench.accept("BTCUSDT")
    bench.send(quote_frame("XRPUSDT", "0.1000", "0.2000", AT))
    start, quote = bench.events()
    assert (start.symbols, quote.symbol) == (["BTCUSDT"], "XRPUSDT")
    bench.accept("XRPUSDT", initial=False, reason="accepted late")
    bench.send(deals_frame("XRPUSDT", [deal(price="0.1", quantity="1")], AT + 100))
    start, block = bench.events()
    assert (start.symbols, start.since_ms, start.reason) == (["XRPUSDT"], AT + 100, "accepted late")
    assert block.symbol == "XRPUSDT"


def test_a_connection_that_ends_before_its_coverage_began_leaves_nothing_but_a_count() -> None:
    bench = Bench()
    bench.send(deals_frame("BTCUSDT", [deal()], AT))
    bench.feed.closed()
    bench.feed.opened()
    bench.accept()
    bench.send(quote_frame("BTCUSDT", "1.00", "2.00", AT + 50))
    assert bench.events(TradeBlock) == []
    assert bench.tally.dropped == {"not_covered": 1}


def test_ordinals_go_on_over_a_reconnect() -> None:
    bench = Bench()
    bench.cover()
    bench.send(deals_frame("BTCUSDT", [deal()], AT))
    bench.feed.closed()
    bench.feed.opened()
    bench.cover(AT + 500)
    bench.send(deals_frame("BTCUSDT", [deal(id="b", time=AT + 600)], AT + 600))
    assert [block.ordinal for block in bench.events(TradeBlock)] == [2]


def bodiless() -> bytes:
    return PushDataV3ApiWrapper(channel=deals_channel("BTCUSDT"), symbol="BTCUSDT", sendTime=AT).SerializeToString()


def mismatched() -> bytes:
    frame = PushDataV3ApiWrapper.FromString(deals_frame("BTCUSDT", [deal()], AT))
    frame.symbol = "XRPUSDT"
    return frame.SerializeToString()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\xff\xff\xff", "malformed_frame"),
        (deals_frame("BTCUSDT", [deal()], AT)[:-7], "malformed_frame"),
        (bodiless(), "unknown_message"),
        (mismatched(), "symbol_mismatch"),
        (deals_frame("BTCUSDT", [deal()], AT + 10 * AGE_MAX_MS), "bad_send_time"),
        (deals_frame("BTCUSDT", [deal()], -1), "bad_send_time"),
    ],
)
def test_a_frame_that_may_have_held_trades_is_a_loss_from_the_settled_round_to_the_next(
    frame: bytes, reason: str
) -> None:
    bench = Bench()
    bench.cover()
    for step in range(3):
        bench.send(deals_frame("XRPUSDT", [deal(price="0.1", quantity="1", id=str(step))], AT + 100 * step))
    bench.events()
    bench.send(frame)
    assert bench.events(Loss) == []
    bench.send(deals_frame("BTCUSDT", [deal(id="z", time=AT + 300)], AT + 300))
    (loss,) = bench.events(Loss)
    assert (loss.from_ms, loss.to_ms, loss.reason) == (AT + 100, AT + 300, reason)
    assert loss.symbols == ["BTCUSDT", "XRPUSDT"]
    assert bench.tally.dropped == {reason: 1}
    bench.send(deals_frame("BTCUSDT", [deal(id="zz", time=AT + 400)], AT + 400))
    assert bench.events(Loss) == []


def test_a_frame_of_a_symbol_that_was_not_asked_for_is_counted_and_is_nobodys_loss() -> None:
    bench = Bench()
    bench.cover()
    bench.send(deals_frame("DOGEUSDT", [deal()], AT), deals_frame("BTCUSDT", [deal()], AT))
    assert bench.tally.dropped == {"unknown_symbol": 1}
    assert bench.events(Loss) == []


def test_a_message_of_another_kind_is_counted_as_unknown() -> None:
    bench = Bench()
    bench.cover()
    other = PushDataV3ApiWrapper(channel="spot@public.kline.v3.api.pb@BTCUSDT@Min1", symbol="BTCUSDT", sendTime=AT)
    other.publicSpotKline.interval = "Min1"
    bench.send(other.SerializeToString())
    assert bench.tally.dropped == {"unknown_message": 1}


@settings(deadline=None)
@given(noise=st.binary(max_size=300))
def test_no_bytes_whatever_break_the_feed(noise: bytes) -> None:
    bench = Bench()
    bench.cover()
    bench.send(noise, deals_frame("BTCUSDT", [deal()], AT))
    assert len(bench.events(TradeBlock)) == 1


@settings(deadline=None)
@given(cut=st.integers(0, 400), position=st.integers(0, 400), value=st.integers(0, 255))
def test_a_damaged_frame_yields_what_it_says_or_a_drop_never_a_crash(cut: int, position: int, value: int) -> None:
    frame = bytearray(deals_frame("BTCUSDT", [deal(), deal(id="a2")], AT))
    frame[position % len(frame)] = value
    bench = Bench()
    bench.cover()
    bench.send(bytes(frame[: cut or None]))
    for block in bench.events(TradeBlock):
        assert all(price > 0 for price in block.price)
        assert all(quantity > 0 for quantity in block.quantity)


def test_a_watermark_follows_the_trades_it_covers_and_names_their_ordinals() -> None:
    bench = Bench()
    bench.cover()
    for step in range(40):
        at = START_MS + 100 * step
        bench.send(deals_frame("BTCUSDT", [deal(id=str(step), time=at)], at))
    events = bench.events()
    marks = [event for event in events if isinstance(event, Watermark)]
    assert [mark.ts_event // 1000 for mark in marks] == [START_MS // 1000 + n for n in (1, 2, 3)]
    for mark in marks:
        before = [e for e in events[: events.index(mark)] if isinstance(e, TradeBlock)]
        assert mark.ordinals == {"BTCUSDT": before[-1].ordinal, "XRPUSDT": 0}
        after = [e for e in events[events.index(mark) :] if isinstance(e, TradeBlock)]
        assert all(time_ms > mark.ts_event for block in after for time_ms in block.ts_event)


def test_watermarks_keep_their_pause() -> None:
    bench = Bench()
    bench.feed.coverage.watermark_seconds[0] = 3600.0
    bench.cover()
    for step in range(100):
        bench.send(deals_frame("BTCUSDT", [], START_MS + 1000 * step))
    assert len(bench.events(Watermark)) == 1


def test_changed_quotes_do_not_say_that_the_trades_up_to_their_time_have_arrived() -> None:
    bench = Bench()
    bench.cover()
    for second in range(10):
        bench.send(quote_frame("BTCUSDT", f"{second + 5}.00", "20.00", START_MS + 1000 * second))
    assert bench.events(Watermark) == []
    bench.send(deals_frame("BTCUSDT", [deal(time=START_MS + 1_500)], START_MS + 10_000))
    bench.send(deals_frame("BTCUSDT", [], START_MS + 20_000))
    (mark,) = bench.events(Watermark)
    assert mark.ts_event == START_MS + 10_000 - GRACE_MS


def test_a_symbol_accepted_late_is_in_no_watermark_before_its_own_coverage() -> None:
    bench = Bench()
    bench.accept("BTCUSDT")
    for step in range(20):
        bench.send(deals_frame("BTCUSDT", [], START_MS + 500 * step))
    bench.accept("XRPUSDT", initial=False)
    bench.send(quote_frame("XRPUSDT", "0.1000", "0.2000", START_MS + 15_000))
    bench.events()
    for step in range(20, 60):
        bench.send(deals_frame("BTCUSDT", [], START_MS + 500 * step))
    marks = bench.events(Watermark)
    assert {mark.ts_event for mark in marks if "XRPUSDT" not in mark.ordinals} != set()
    assert all(("XRPUSDT" in mark.ordinals) == (mark.ts_event >= START_MS + 15_000) for mark in marks)


def test_no_watermark_speaks_of_a_time_before_the_coverage() -> None:
    bench = Bench()
    bench.cover()
    bench.send(*[deals_frame("BTCUSDT", [], START_MS + 100 * step) for step in range(3)])
    assert bench.events(Watermark) == []


@pytest.mark.parametrize("shard_count", [1, 2, 8])
def test_every_shard_learns_where_its_own_symbols_coverage_begins(shard_count: int) -> None:
    bench = Bench(shard_count=shard_count)
    bench.accept()
    bench.send(quote_frame("BTCUSDT", "1.00", "2.00", AT))
    starts = bench.events(CoverageStart)
    assert sorted(symbol for start in starts for symbol in start.symbols) == ["BTCUSDT", "XRPUSDT"]
    assert len(starts) == len({state.shard for state in bench.states.values()})
