"""A watermark never passes a trade that still comes."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.ingest.progress import GRACE_MS, Progress

START_MS = 1_700_000_000_000
SYMBOLS = "ABC"


class Seen(NamedTuple):
    """A frame as it arrives: a changed quote, a repeated quote, or trades."""

    kind: str
    symbol: str
    send_ms: int
    trades: tuple[int, ...] = ()


@st.composite
def replay_rounds(draw: st.DrawFn) -> list[Seen]:
    """Rounds as the local exchange sends them at any speed: each covers (before, now], changed quotes carry the
    times of their changes, the clock may stand still, and a round may leave symbols out."""
    frames, now_ms = [], START_MS
    for _ in range(draw(st.integers(1, 12))):
        before_ms, now_ms = now_ms, now_ms + draw(st.sampled_from([0, 1, 37, 100, 60_000, 3_600_000]))
        for symbol in SYMBOLS:
            inside = st.integers(before_ms + 1, now_ms)
            trades = draw(st.lists(inside, max_size=4)) if now_ms > before_ms else []
            if trades:
                frames += [Seen("changed", symbol, time_ms) for time_ms in sorted(trades)]
            elif draw(st.booleans()):
                frames.append(Seen("repeated", symbol, now_ms))
            if trades:
                frames.append(Seen("trades", symbol, now_ms, tuple(sorted(trades))))
    return frames


def claims(frames: list[Seen]) -> list[int]:
    """What may be claimed after each frame."""
    progress, made = Progress(), []
    for frame in frames:
        if frame.kind == "repeated":
            progress.repeated_quote(frame.symbol, frame.send_ms)
        elif frame.kind == "trades":
            progress.round_at(frame.send_ms)
        made.append(progress.claim_ms)
    return made


@settings(deadline=None)
@given(frames=replay_rounds())
def test_no_claim_passes_a_trade_that_arrives_later_in_rounds_of_any_length(frames: list[Seen]) -> None:
    made = claims(frames)
    assert made == sorted(made)
    for position, claim in enumerate(made):
        later = [time_ms for frame in frames[position + 1 :] for time_ms in frame.trades]
        assert all(claim + GRACE_MS < time_ms for time_ms in later)


@settings(deadline=None)
@given(
    jitters=st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(0, GRACE_MS - 1), st.integers(0, 99)), max_size=60)
)
def test_no_claim_passes_a_trade_when_symbols_are_sent_out_of_step_by_less_than_the_grace(
    jitters: list[tuple[str, int, int]],
) -> None:
    frames, now_ms = [], START_MS
    for symbol, late_ms, step_ms in jitters:
        now_ms += step_ms
        frames.append(Seen("trades", symbol, now_ms, (now_ms - late_ms,)))
    made = claims(frames)
    for position, claim in enumerate(made):
        assert all(claim < frame.trades[0] for frame in frames[position + 1 :])


def test_a_round_is_settled_by_the_first_frame_of_the_next() -> None:
    progress = Progress()
    progress.round_at(START_MS)
    progress.round_at(START_MS)
    assert progress.settled_ms == 0
    progress.round_at(START_MS + 100)
    assert progress.claim_ms == START_MS - GRACE_MS


def test_a_clock_that_stands_still_settles_by_the_second_repetition_of_one_symbol() -> None:
    progress = Progress()
    progress.repeated_quote("A", START_MS)
    progress.repeated_quote("B", START_MS)
    assert progress.settled_ms == 0
    progress.repeated_quote("A", START_MS)
    assert progress.settled_ms == START_MS


def test_a_repetition_that_comes_late_takes_nothing_back() -> None:
    progress = Progress()
    progress.repeated_quote("A", START_MS)
    progress.round_at(START_MS + 100)
    progress.round_at(START_MS + 200)
    progress.repeated_quote("A", START_MS)
    assert progress.settled_ms == START_MS + 100
