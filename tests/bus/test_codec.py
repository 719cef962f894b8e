"""The stream's packed form gives back what went in, and refuses everything else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.bus import codec
from apps.engine.events import CoverageStart, Event, Loss, QuoteBlock, TradeBlock, WarmupBar, Watermark

NUMBER = st.integers(0, 2**62)
SYMBOL = st.text("ABCDEFUSDT0123456789", min_size=4, max_size=20)


@st.composite
def blocks(draw: st.DrawFn, kind: type[TradeBlock | QuoteBlock], columns: int, text_last: bool) -> Event:
    length = draw(st.integers(1, 5))
    column = st.lists(NUMBER, min_size=length, max_size=length)
    head: list[Any] = (
        [draw(SYMBOL), draw(NUMBER), draw(NUMBER), draw(NUMBER)] if text_last else [draw(SYMBOL), draw(NUMBER)]
    )
    body: list[Any] = [draw(column) for _ in range(columns)]
    if text_last:
        body.append(draw(st.lists(st.text(max_size=41), min_size=length, max_size=length)))
    return kind(*head, *body)


EVENTS = st.one_of(
    blocks(TradeBlock, 4, True),
    blocks(QuoteBlock, 5, False),
    st.builds(Watermark, NUMBER, NUMBER, NUMBER, st.dictionaries(SYMBOL, NUMBER, max_size=5)),
    st.builds(CoverageStart, NUMBER, NUMBER, NUMBER, st.lists(SYMBOL, max_size=5), st.text(max_size=20)),
    st.builds(Loss, NUMBER, NUMBER, NUMBER, NUMBER, st.lists(SYMBOL, max_size=5), st.text(max_size=20)),
    st.builds(WarmupBar, SYMBOL, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER),
)


@given(st.lists(EVENTS, min_size=1, max_size=6))
def test_what_is_encoded_decodes_to_the_same_events(events: list[Event]) -> None:
    assert codec.decode(codec.encode(events)) == events


GOOD = [1, "AAAUSDT", 1, 1, 1, [5], [6], [7], [1], ["id"]]
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
