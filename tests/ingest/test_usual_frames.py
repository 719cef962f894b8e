"""The quick way through a frame whose rows are all good says exactly what the careful way says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import NUMBERS
from tests.ingest.market import INSTRUMENTS, START_MS
from workers.ingest import trades
from workers.ingest.decoder import Deal
from workers.ingest.numbers import BadNumber, known_units, to_units
from workers.ingest.symbols import make_states

AT = START_MS + 100
GOOD: st.SearchStrategy[Deal] = st.tuples(
    st.integers(START_MS - 1_000, AT),
    st.sampled_from([1, 2]),
    st.integers(0, 60).map(str),
    st.sampled_from(["93220.00", "1", "0.10", "7.5"]),
    st.sampled_from(["0.044382", "1.000000", "12"]),
)
ANY: st.SearchStrategy[Deal] = st.tuples(
    st.sampled_from([0, 1, START_MS, AT, AT + 10_000]),
    st.sampled_from([0, 1, 2, 3]),
    st.sampled_from(["", "1", "2", "x" * 64, "x" * 65]),
    st.sampled_from(NUMBERS),
    st.sampled_from(NUMBERS),
)
FRAMES = st.lists(st.lists(GOOD, max_size=6) | st.lists(GOOD | ANY, max_size=4), max_size=12)


@settings(deadline=None, max_examples=300)
@given(frames=FRAMES, send_ms=st.sampled_from([0, AT]))
def test_both_ways_agree(frames: list[list[Deal]], send_ms: int) -> None:
    quick, careful = (make_states(INSTRUMENTS, 1)["BTCUSDT"] for _ in range(2))
    earliest, latest = (AT - trades.AGE_MAX_MS, AT + trades.LEAD_MAX_MS) if send_ms else (1, trades.TIME_MAX_MS)
    for deals in frames:
        ours = trades.check_trades(deals, quick, send_ms)
        theirs = trades._one_by_one(deals, careful, earliest, latest)
        assert (ours.ts_event, ours.price, ours.quantity) == (theirs.ts_event, theirs.price, theirs.quantity)
        assert (ours.side, ours.trade_id) == (theirs.side, theirs.trade_id)
        assert ([*ours.bad], ours.duplicates) == ([*theirs.bad], theirs.duplicates)


@settings(deadline=None)
@given(texts=st.lists(st.sampled_from(NUMBERS), max_size=30), decimals=st.integers(0, 8))
def test_remembered_units_are_those_of_the_text(texts: list[str], decimals: int) -> None:
    known = known_units(decimals)
    for text in texts:
        try:
            expected = to_units(text, decimals)
        except BadNumber:
            assert text not in known
        else:
            assert known[text] == expected
