"""Whatever comes instead of a frame, it is refused by a name of its own or it is a trade that can be believed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import Run
from tests.fuzz.mutate import IDS, NUMBERS, SIDES, TIMES, empty_rows
from tests.fuzz.seeds import SEND_MS, SYMBOL, kept, seeds
from tests.fuzz.target import FeedTarget, Target
from tests.ingest.frames import Deal, deals_frame
from workers.ingest.config import Instrument
from workers.ingest.decoder import DEALS_MAX, FRAME_BYTES_MAX, FeedProtocolError, channels_for, decode
from workers.ingest.symbols import make_states
from workers.ingest.trades import TIME_MAX_MS

FRAMES = 20_000
OUTCOMES_MIN = 40

FIXED_POINT = st.decimals(min_value=0, max_value=10**12, places=2).map(str)
DEALS: st.SearchStrategy[list[Deal]] = st.lists(
    st.tuples(
        st.sampled_from(NUMBERS) | FIXED_POINT,
        st.sampled_from(NUMBERS) | FIXED_POINT,
        st.sampled_from(SIDES),
        st.sampled_from(TIMES) | st.integers(SEND_MS - 10**8, SEND_MS + 10**4),
        st.sampled_from(IDS) | st.text(max_size=70).filter(lambda text: text.isprintable()),
    ),
    max_size=5,
)


def test_damaged_frames_are_refused_by_name_or_believable() -> None:
    run = Run(seed=20_261_121)
    run.go(FRAMES)
    assert run.failures == []
    assert run.target.frames >= FRAMES
    assert len(run.outcomes) >= OUTCOMES_MIN
    assert run.target.trades > 0


def test_what_earlier_runs_kept_still_holds() -> None:
    target = Target()
    outcomes = {target.try_one(payload) for payload in kept()}
    assert len(outcomes) >= OUTCOMES_MIN / 2


@settings(deadline=None, max_examples=200)
@given(deals=DEALS, send_ms=st.sampled_from([0, SEND_MS, SEND_MS + 1]))
def test_rows_of_any_values_are_judged_one_by_one(deals: list[Deal], send_ms: int) -> None:
    frame = deals_frame(SYMBOL, deals, send_ms)
    Target().try_one(frame)
    FeedTarget().take([frame, frame])


@settings(deadline=None, max_examples=200)
@given(payload=st.binary(max_size=300) | st.sampled_from(seeds()), tail=st.binary(max_size=50))
def test_any_bytes_are_taken_or_refused(payload: bytes, tail: bytes) -> None:
    Target().try_one(payload + tail)
    FeedTarget().take([payload + tail])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x00" * (FRAME_BYTES_MAX + 1), "frame_too_large"),
        (empty_rows(DEALS_MAX + 1), "too_many_deals"),
    ],
    ids=["too many bytes", "too many rows"],
)
def test_what_is_too_large_is_refused_whole(payload: bytes, reason: str) -> None:
    channels = channels_for(make_states([Instrument(SYMBOL, 2, 8)], 1))
    with pytest.raises(FeedProtocolError) as caught:
        decode(payload, channels, TIME_MAX_MS)
    assert (caught.value.reason, caught.value.may_hold_trades) == (reason, True)
