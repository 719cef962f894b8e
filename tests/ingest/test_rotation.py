"""Two links deliver the same trades at their own pace; the stream gets each trade once, in order, without a seam."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Final, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.events import CoverageStart, Loss, QuoteBlock, TradeBlock, Watermark
from tests.ingest.frames import Deal, deals_frame, quote_frame
from tests.ingest.market import START_MS, Bench
from workers.ingest.inbox import Handover
from workers.ingest.rotation import Rotation, Sieve

ROUND_MS: Final = 100
ROUNDS: Final = 80
PACED: Final = 45  # rounds that a link may come to at its own pace; the cut needs some more
SYMBOLS: Final = ("BTCUSDT", "XRPUSDT")
Kind = TypeVar("Kind")
IDS: Final = ("ids", "no ids", "mixed")


@dataclass
class Market:
    """What the exchange sends: per round and symbol its trades, in time order."""

    rounds: list[dict[str, list[Deal]]]

    def frames(self, number: int, skew_ms: int) -> list[bytes]:
        """One round as a connection receives it: per symbol a quote, then its trades. Servers stamp it differently."""
        send_ms = START_MS + number * ROUND_MS + skew_ms
        frames = []
        for symbol in SYMBOLS:
            frames.append(quote_frame(symbol, "1.00", f"{2 + number // 5}.00", send_ms))
            deals = self.rounds[number][symbol]
            if deals:
                frames.append(deals_frame(symbol, deals, send_ms))
        return frames

    def trades(self, symbol: str) -> list[tuple[int, str, int]]:
        """(time, id, ticks) in the order in which they were made."""
        decimals = {"BTCUSDT": 2, "XRPUSDT": 4}[symbol]
        return [
            (time_ms, trade_id, int(price.replace(".", "")) * 10 ** (decimals - 2))
            for each in self.rounds
            for price, _, _, time_ms, trade_id in each[symbol]
        ]


def make_market(ids: str, seed: int) -> Market:
    dice = random.Random(seed)
    rounds = []
    for number in range(ROUNDS):
        end_ms = START_MS + number * ROUND_MS
        made: dict[str, list[Deal]] = {}
        for symbol in SYMBOLS:
            times = sorted(end_ms - dice.randrange(ROUND_MS) for _ in range(dice.choice((0, 0, 1, 2, 4))))
            made[symbol] = []
            for position, time_ms in enumerate(times):
                named = ids == "ids" or (ids == "mixed" and dice.random() < 0.5)
                price = f"{dice.randrange(100, 103)}.00"  # few prices, so that rows without id are often equal
                made[symbol].append((price, "1", 1, time_ms, f"{number}-{position}" if named else ""))
        rounds.append(made)
    return Market(rounds)


class Links:
    """An old and a new link of one feed, each delivering round after round."""

    def __init__(self, market: Market, skew_ms: int = 7) -> None:
        self.market = market
        self.bench = Bench()
        self.bench.accept()
        self.handover = Handover()
        self.at = {1: 0, 2: 0}
        self.skew_ms = {1: 0, 2: skew_ms}
        self.events: list[object] = []

    def open_new(self, first: int, *, answered: bool = True) -> None:
        self.at[2] = min(max(first, 0), ROUNDS)
        self.bench.feed.opened(2, self.handover)
        if answered:
            self.bench.accept(link=2)

    def deliver(self, link: int, rounds: int) -> None:
        for _ in range(rounds):
            if self.at[link] < ROUNDS:
                for frame in self.market.frames(self.at[link], self.skew_ms[link]):
                    self.bench.feed.frames([frame], 1, link)
                    self.bench.feed.poll(self.bench.clock.monotonic())
                self.at[link] += 1
        self.events += self.bench.events()

    def published(self, symbol: str) -> list[tuple[int, str, int]]:
        return [
            row
            for block in self.events
            if isinstance(block, TradeBlock) and block.symbol == symbol
            for row in zip(block.ts_event, block.trade_id, block.price, strict=True)
        ]

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    def check_order(self) -> None:
        """Ordinals without a hole; no trade at or before what a watermark before it claims; quotes in time order.

        A coverage that begins anew may begin at an earlier time than the one before had come to.
        """
        claimed: dict[str, int] = {}
        marked: dict[str, int] = {}
        ordinals: dict[str, int] = {}
        quoted: dict[str, int] = {}
        for event in self.events:
            if isinstance(event, TradeBlock):
                assert event.ordinal == ordinals.get(event.symbol, 0) + 1
                ordinals[event.symbol] = event.ordinal + len(event.ts_event) - 1
                assert min(event.ts_event) > claimed.get(event.symbol, 0)
            elif isinstance(event, Watermark):
                for symbol, ordinal in event.ordinals.items():
                    assert ordinal == ordinals.get(symbol, 0)
                    assert event.ts_event >= marked.get(symbol, 0)
                    marked[symbol] = event.ts_event
                    claimed[symbol] = max(claimed.get(symbol, 0), event.ts_event)
            elif isinstance(event, CoverageStart):
                marked.clear()
            elif isinstance(event, QuoteBlock):
                assert event.ts_event[0] > quoted.get(event.symbol, 0)
                quoted[event.symbol] = event.ts_event[-1]


paces = st.lists(st.tuples(st.sampled_from((1, 2)), st.integers(1, 6)), max_size=30)


@settings(deadline=None, max_examples=100)
@given(
    ids=st.sampled_from(IDS),
    seed=st.integers(0, 10_000),
    before=st.integers(1, 30),
    shift=st.integers(-8, 8),
    pace=paces,
    skew_ms=st.integers(0, 90),
)
def test_a_planned_move_publishes_every_trade_once_and_in_order(
    ids: str, seed: int, before: int, shift: int, pace: list[tuple[int, int]], skew_ms: int
) -> None:
    links = Links(make_market(ids, seed), skew_ms)
    links.deliver(1, before)
    links.open_new(before + shift)
    for link, rounds in pace:
        links.deliver(link, min(rounds, PACED - links.at[link]))
    while not links.handover.done and min(links.at.values()) < ROUNDS:
        links.deliver(1, 1)
        links.deliver(2, 1)
    assert links.handover.done
    links.deliver(1, 3)  # what the old link still sends changes nothing
    links.bench.feed.closed(1)
    links.deliver(2, ROUNDS)
    for symbol in SYMBOLS:
        assert links.published(symbol) == links.market.trades(symbol)
    links.check_order()
    assert len(links.of_kind(CoverageStart)) == 1
    assert not links.of_kind(Loss)
    assert links.of_kind(Watermark)[-1].ts_event > START_MS + (ROUNDS - 15) * ROUND_MS


@settings(deadline=None, max_examples=100)
@given(
    ids=st.sampled_from(IDS),
    seed=st.integers(0, 10_000),
    before=st.integers(1, 30),
    shift=st.integers(-8, 8),
    pace=paces,
    answered=st.booleans(),
)
def test_when_the_old_link_dies_nothing_is_doubled_and_what_is_missing_lies_in_a_declared_gap(
    ids: str, seed: int, before: int, shift: int, pace: list[tuple[int, int]], answered: bool
) -> None:
    links = Links(make_market(ids, seed))
    links.deliver(1, before)
    links.open_new(before + shift, answered=answered)
    for link, rounds in pace:
        links.deliver(link, min(rounds, PACED - links.at[link]))
    links.bench.feed.closed(1)
    links.deliver(1, 3)
    if not answered:
        links.bench.accept(link=2)
    links.deliver(2, ROUNDS)
    links.check_order()
    starts = links.of_kind(CoverageStart)
    claimed_before = max(
        (e.ts_event for e in links.events[: links.events.index(starts[-1])] if isinstance(e, Watermark)), default=0
    )
    for symbol in SYMBOLS:
        made, published = links.market.trades(symbol), links.published(symbol)
        assert not Counter(published) - Counter(made)
        if len(starts) == 1:
            assert published == made
        missing = Counter(made) - Counter(published)
        assert all(claimed_before < time_ms < starts[-1].since_ms for time_ms, _, _ in missing)


@pytest.mark.parametrize("ids", IDS)
def test_with_the_successor_in_step_a_dying_link_leaves_no_gap_after_the_cut(ids: str) -> None:
    links = Links(make_market(ids, 3))
    links.deliver(1, 10)
    links.open_new(10)
    for _ in range(13 if ids == "ids" else 15):
        links.deliver(2, 1)
        links.deliver(1, 1)
        if links.handover.done:
            break
    links.bench.feed.closed(1)
    links.deliver(2, ROUNDS)
    assert len(links.of_kind(CoverageStart)) == 1
    for symbol in SYMBOLS:
        assert links.published(symbol) == links.market.trades(symbol)


@pytest.mark.parametrize("ids", IDS)
def test_what_the_old_link_left_out_comes_after_all_but_is_declared_out_of_order(ids: str) -> None:
    overtaken = 0
    for seed in range(8):
        links = Links(make_market(ids, seed))
        links.deliver(1, 10)
        links.open_new(10)
        links.deliver(2, 30)
        links.deliver(1, 8)
        links.at[1] += 10  # it says nothing of these rounds and goes on
        while not links.handover.done:
            links.deliver(1, 1)
            links.deliver(2, 1)
        for symbol in SYMBOLS:
            times = [time_ms for time_ms, _, _ in links.published(symbol)]
            assert not Counter(links.published(symbol)) - Counter(links.market.trades(symbol))
            losses = [loss for loss in links.of_kind(Loss) if symbol in loss.symbols]
            for at, time_ms in enumerate(times):
                if at and time_ms < max(times[:at]):
                    overtaken += 1
                    assert any(loss.from_ms <= time_ms <= loss.to_ms for loss in losses)
    assert overtaken > 20


def test_a_rotation_that_is_given_up_leaves_everything_as_it_was() -> None:
    links = Links(make_market("no ids", 4))
    links.deliver(1, 5)
    links.open_new(5)
    links.deliver(2, 8)
    assert links.handover.give_up("too slow")
    links.bench.feed.closed(2)
    links.deliver(1, ROUNDS)
    for symbol in SYMBOLS:
        assert links.published(symbol) == links.market.trades(symbol)
    assert len(links.of_kind(CoverageStart)) == 1
    assert not links.handover.finish()


def test_a_frame_that_the_successor_loses_makes_it_unfit() -> None:
    links = Links(make_market("ids", 5))
    links.deliver(1, 5)
    links.open_new(5)
    links.deliver(2, 2)
    links.bench.feed.frames([b"\xff\xff"], 1, 2)
    assert "malformed_frame" in links.handover.failed
    links.deliver(2, 30)
    links.deliver(1, ROUNDS)
    assert not links.handover.done
    for symbol in SYMBOLS:
        assert links.published(symbol) == links.market.trades(symbol)


def test_a_successor_that_is_refused_what_the_old_link_delivers_is_unfit() -> None:
    links = Links(make_market("ids", 6))
    links.deliver(1, 5)
    links.open_new(5, answered=False)
    links.bench.accept("BTCUSDT", link=2)
    assert "XRPUSDT" in links.handover.failed


def test_an_unfit_successor_takes_over_all_the_same_when_the_old_link_dies_but_with_a_gap() -> None:
    links = Links(make_market("ids", 7))
    links.deliver(1, 5)
    links.open_new(5)
    links.deliver(2, 2)
    links.bench.feed.frames([b"\xff\xff"], 1, 2)
    links.bench.feed.closed(1)
    links.deliver(2, ROUNDS)
    assert len(links.of_kind(CoverageStart)) == 2


def test_the_move_is_decided_once_by_whoever_comes_first() -> None:
    first, second = Handover(), Handover()
    assert first.finish()
    assert not first.give_up("late")
    assert second.give_up("early")
    assert not second.finish()
    assert (first.done, first.failed, second.done, second.failed) == (True, "", False, "early")


def test_the_cut_is_the_first_whole_second_behind_everything_seen() -> None:
    rotation = Rotation()
    rotation.both_deliver(since_ms=5_200, newest_ms=(6_300, 5_900), published_ms=6_999)
    assert rotation.cut_ms == 7_000
    assert not rotation.may_move(old_claim_ms=6_999, new_claim_ms=9_000)
    assert not rotation.may_move(old_claim_ms=9_000, new_claim_ms=6_999)
    assert rotation.may_move(old_claim_ms=7_000, new_claim_ms=7_000)
    rotation.both_deliver(since_ms=0, newest_ms=(99_000,), published_ms=0)
    assert rotation.cut_ms == 7_000


def test_a_sieve_lets_every_row_pass_as_often_as_it_is_new() -> None:
    sieve = Sieve(1_000)
    row, other, early, named = (
        (1_500, 1, "", "1", "1"),
        (1_500, 2, "", "1", "1"),
        (999, 1, "", "1", "1"),
        (5, 1, "x", "1", "1"),
    )
    sieve.note([row, early, named])
    assert sieve.sift([row, row, other, early, named]) == ([row, other, named], [999])
