"""The stream's packed form gives back what went in, and refuses everything else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.bus import codec
from apps.engine.events import (
    Backfill,
    CoverageEnd,
    CoverageStart,
    Event,
    Loss,
    QuoteBlock,
    TradeBlock,
    WarmupBar,
    Watermark,
)

NUMBER = st.integers(0, 2**62)
SYMBOL = st.text("ABCDEFUSDT0123456789", min_size=4, max_size=20)


def column(draw: st.DrawFn, length: int, values: st.SearchStrategy[Any] = NUMBER) -> list[Any]:
    return draw(st.lists(values, min_size=length, max_size=length))


@st.composite
def trade_blocks(draw: st.DrawFn) -> Event:
    length = draw(st.integers(1, 5))
    times, prices, quantities, sides = (column(draw, length) for _ in range(4))
    ids = column(draw, length, st.text(max_size=41))
    return TradeBlock(draw(SYMBOL), draw(NUMBER), draw(NUMBER), draw(NUMBER), times, prices, quantities, sides, ids)


@st.composite
def quote_blocks(draw: st.DrawFn) -> Event:
    length = draw(st.integers(1, 5))
    return QuoteBlock(draw(SYMBOL), draw(NUMBER), draw(NUMBER), *[column(draw, length) for _ in range(5)])


@st.composite
def backfills(draw: st.DrawFn) -> Event:
    length = draw(st.integers(0, 5))
    source = draw(st.sampled_from(["trades", "aggTrades"]))
    numbers = [column(draw, length) for _ in range(4)]
    return Backfill(draw(NUMBER), draw(SYMBOL), draw(NUMBER), draw(NUMBER), source, *numbers)


EVENTS = st.one_of(
    trade_blocks(),
    quote_blocks(),
    backfills(),
    st.builds(Watermark, NUMBER, NUMBER, NUMBER, st.dictionaries(SYMBOL, NUMBER, max_size=5)),
    st.builds(CoverageStart, NUMBER, NUMBER, NUMBER, st.lists(SYMBOL, max_size=5), st.text(max_size=20)),
    st.builds(CoverageEnd, NUMBER, NUMBER, st.lists(SYMBOL, max_size=5), st.text(max_size=20)),
    st.builds(Loss, NUMBER, NUMBER, NUMBER, NUMBER, st.lists(SYMBOL, max_size=5), st.text(max_size=20)),
    st.builds(WarmupBar, SYMBOL, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER),
)


@given(st.lists(EVENTS, min_size=1, max_size=6))
def test_what_is_encoded_decodes_to_the_same_events(events: list[Event]) -> None:
    assert codec.decode(codec.encode(events)) == events


GOOD = [1, "AAAUSDT", 1, 1, 1, [5], [6], [7], [1], ["id"]]
REPAIR = [8, 1, "AAAUSDT", 1, 1, "trades", [5], [6], [7], [1]]
WRONG: list[tuple[str, Any]] = [
    ("an empty entry", []),
    ("no list", {"a": 1}),
    ("an unknown tag", [[99, 1]]),
    ("a tag of another type", [["1", 1]]),
    ("a missing field", [GOOD[:-1]]),
    ("a field too many", [[*GOOD, 1]]),
    ("a float price", [[*GOOD[:6], [6.5], *GOOD[7:]]]),
    ("a text price", [[*GOOD[:6], ["6"], *GOOD[7:]]]),
    ("columns of different length", [[*GOOD[:5], [5, 5], *GOOD[6:]]]),
    ("no trades", [[*GOOD[:5], [], [], [], [], []]]),
    ("a repair with columns of different length", [[*REPAIR[:6], [5, 5], *REPAIR[7:]]]),
    ("a repair without a token", [[REPAIR[0], *REPAIR[2:]]]),
]


@pytest.mark.parametrize(("what", "value"), WRONG, ids=[row[0] for row in WRONG])
def test_anything_else_is_an_error_and_never_a_value(what: str, value: Any) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(msgspec.msgpack.encode(value))


@given(st.binary(max_size=200))
def test_noise_is_an_error_of_ours(noise: bytes) -> None:
    try:
        codec.decode(noise)
    except codec.CodecError:
        return


def test_a_truncated_entry_is_an_error() -> None:
    payload = codec.encode([Watermark(1, 2, 3, {"AAAUSDT": 4})])
    for length in range(len(payload)):
        with pytest.raises(codec.CodecError):
            codec.decode(payload[:length])
