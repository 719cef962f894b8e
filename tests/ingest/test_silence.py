"""A symbol that sends nothing while it should: noticed by its own habit, declared by event time, asked for again."""

from __future__ import annotations

import random
from typing import Final

import pytest

from apps.engine import timeouts
from apps.engine.events import Loss
from tests.ingest.frames import deals_frame, quote_frame
from tests.ingest.market import INSTRUMENTS, START_MS, TOKEN, Bench
from workers.ingest.progress import Progress
from workers.ingest.silence import LONG_GAP_SECONDS, SILENCE_SECONDS_MAX, Habit
from workers.ingest.symbols import SymbolState, make_states
from workers.ingest.watch import REASON, Watch

LEAST: Final = timeouts.FEED_SYMBOL_SILENCE_SECONDS
AGAIN: Final = timeouts.FEED_SYMBOL_RESUBSCRIBE_SECONDS


@pytest.mark.parametrize(
    ("gap", "threshold"), [(0.1, LEAST), (1.25, LEAST), (3.0, 24.0), (10.0, 80.0), (10_000.0, SILENCE_SECONDS_MAX)]
)
def test_a_habit_of_long_gaps_asks_for_more_patience(gap: float, threshold: float) -> None:
    habit = Habit()
    for _ in range(300):
        habit.frames += 1
        if gap > LONG_GAP_SECONDS:
            habit.long_gap(gap)
    assert threshold <= habit.threshold <= threshold * 1.2


def test_one_long_gap_in_a_hundred_is_no_habit_and_two_are() -> None:
    habit = Habit()
    habit.frames = 199
    habit.long_gap(30.0)
    assert habit.threshold == LEAST
    habit.long_gap(30.0)
    assert habit.threshold > 200


def test_a_habit_of_the_past_is_forgotten() -> None:
    habit, dice = Habit(), random.Random(1)
    for _ in range(1_000):
        habit.frames += 1
        habit.long_gap(dice.uniform(5.0, 30.0))
    assert habit.threshold > 100
    for _ in range(30):
        habit.frames += 20_000
        habit.long_gap(5.0)
    assert habit.threshold == LEAST


class Watched:
    """One symbol under watch, with a clock that the test moves and a connection whose rounds are 100 ms apart."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.declared: list[tuple[int, int]] = []
        self.state: SymbolState = next(iter(make_states(INSTRUMENTS[:1], 1).values()))
        self.progress = Progress()
        self.watch = Watch(self._declare, self.asked.append)
        for number in range(50):
            self.progress.round_at(START_MS - 5_000 + 100 * number)
        self.state.since_ms = START_MS - 10_000
        self.state.seen_ms, self.state.seen_at = START_MS, 100.0
        self.state.frame_quote = ("1", "1", "2", "1")

    def _declare(self, state: SymbolState, from_ms: int, to_ms: int, reason: str) -> None:
        assert (state, reason) == (self.state, REASON)
        self.declared.append((from_ms - START_MS, to_ms - START_MS))

    def look(self, seconds: float, *, rounds: bool = True) -> None:
        """Look so many seconds after the last frame; `rounds`: others on the connection went on meanwhile."""
        if rounds:
            self.progress.newest_ms = START_MS + round(seconds * 1_000)
        self.watch.look(100.0 + seconds, [self.state], self.progress)


def test_a_silent_symbol_shows_at_once_and_what_it_may_have_lost_is_declared_minute_by_minute() -> None:
    watched = Watched()
    watched.look(LEAST - 0.1)
    assert (watched.watch.silent, watched.declared) == ((), [])
    watched.look(LEAST)
    watched.look(LEAST + 1)
    assert (watched.watch.silent, watched.declared) == (("BTCUSDT",), [(0, 10_000)])
    watched.look(59)
    watched.look(61)
    assert watched.declared == [(0, 10_000), (10_000, 61_000)]
    watched.watch.heard_again(watched.state, START_MS + 70_000, watched.progress)
    assert watched.declared[2:] == [(61_000, 70_000)]
    watched.state.seen_at = 170.0
    watched.look(70)
    assert watched.watch.silent == ()


def test_frames_that_were_only_late_are_no_loss() -> None:
    watched = Watched()
    watched.look(30, rounds=False)
    assert (watched.watch.silent, watched.declared) == (("BTCUSDT",), [])
    watched.watch.heard_again(watched.state, START_MS + 100, watched.progress)
    assert watched.declared == []


def test_silence_of_the_whole_connection_is_declared_when_its_frames_come_again() -> None:
    watched = Watched()
    watched.look(30, rounds=False)
    watched.watch.heard_again(watched.state, START_MS + 30_000, watched.progress)
    assert watched.declared == [(0, 30_000)]


def test_a_symbol_that_was_accepted_and_never_sent_a_frame_is_declared_from_its_coverage_on() -> None:
    watched = Watched()
    watched.state.seen_ms, watched.state.frame_quote = 0, None
    watched.look(LEAST)
    assert watched.declared == [(-10_000, 10_000)]


def test_without_quotes_silence_proves_nothing() -> None:
    watched = Watched()
    watched.state.frame_quote = None
    watched.look(LEAST)
    assert (watched.watch.silent, watched.declared) == (("BTCUSDT",), [])


def test_its_channels_are_asked_for_again_after_a_minute_and_not_more_often_than_once_a_minute() -> None:
    watched = Watched()
    for second in range(300):
        watched.look(second)
        assert len(watched.asked) == second // AGAIN
    assert set(watched.asked) == {"BTCUSDT"}


def test_a_symbol_muted_for_a_while_loses_nothing_unsaid() -> None:
    """The whole way: frames of another symbol go on, the clock of the consumer says how long it has been."""
    bench = Bench()
    bench.cover()
    for number in range(40):
        bench.send(quote_frame("BTCUSDT", "1.00", "2.00", START_MS + 100 * number))
        bench.send(quote_frame("XRPUSDT", "0.1000", "0.2000", START_MS + 100 * number))
    bench.events()
    state = bench.states["XRPUSDT"]
    state.seen_at -= LEAST
    bench.feed.watch.look_at = 0.0
    bench.send(quote_frame("BTCUSDT", "1.00", "2.00", START_MS + 60_000))
    (loss,) = bench.events(Loss)
    assert (loss.symbols, loss.from_ms, loss.to_ms) == (["XRPUSDT"], START_MS + 3_900, START_MS + 60_000)
    assert (loss.token, loss.reason, bench.feed.watch.silent) == (TOKEN, REASON, ("XRPUSDT",))
    bench.send(deals_frame("XRPUSDT", [("0.1", "1", 1, START_MS + 64_990, "a")], START_MS + 65_000))
    (rest,) = bench.events(Loss)
    assert (rest.from_ms, rest.to_ms) == (START_MS + 60_000, START_MS + 65_000)
