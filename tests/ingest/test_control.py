"""Answers of the exchange: `code` is 0 for yes and no, so the words decide."""

from __future__ import annotations

import json

import pytest

from workers.ingest.channels import channels_of, deals_channel, quotes_channel, spread
from workers.ingest.config import Instrument
from workers.ingest.control import judge, parse

A, B, C = deals_channel("BTCUSDT"), deals_channel("ETHUSDT"), quotes_channel("BTCUSDT")
PREFIX_OF_A = deals_channel("BTCUSD")
REASON = "Reason\uff1a Blocked! "


def message(text: str, **changes: object) -> bytes:
    return json.dumps({"id": 0, "code": 0, "msg": text} | changes, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "accepted", "refused"),
    [
        (A, {A}, {}),
        (f"{A},{B},{C}", {A, B, C}, {}),
        (f"Not Subscribed successfully! [{A},{B}].  {REASON}", set(), {A: "Blocked!", B: "Blocked!"}),
        (f"Not Subscribed successfully! [{A}]. {REASON.strip()}", set(), {A: "Blocked!"}),
        (f"Not Subscribed successfully! [{A}]. Reason: Blocked!", set(), {A: "Blocked!"}),
        (
            f"Subscribed successful! [{A},{B}]. Not Subscribed successfully! [{C}]. {REASON}",
            {A, B},
            {C: "Blocked!"},
        ),
        (
            f"Subscribed successful! [{A}]. Not Subscribed successfully! [{B}]",
            {A},
            {B: f"Subscribed successful! [{A}]"},
        ),
        ("msg format invalid", set(), {}),
        ("", set(), {}),
        (deals_channel("DOGEUSDT"), set(), {}),
    ],
)
def test_an_answer_is_read_by_its_words(text: str, accepted: set[str], refused: dict[str, str]) -> None:
    parsed = parse(message(text))
    assert parsed is not None
    answer = judge(parsed, [A, B, C])
    assert answer.accepted == accepted
    assert set(answer.refused) == set(refused)
    for channel, reason in refused.items():
        assert answer.refused[channel].startswith(reason)


def test_a_channel_whose_name_begins_another_is_not_accepted_with_it() -> None:
    parsed = parse(message(A))
    assert parsed is not None
    assert judge(parsed, [A, PREFIX_OF_A]).accepted == {A}


def test_a_code_that_is_not_zero_refuses_the_whole_request_even_if_the_text_echoes_it() -> None:
    parsed = parse(message(A, code=1))
    assert parsed is not None
    answer = judge(parsed, [A, B])
    assert not answer.accepted
    assert set(answer.refused) == {A, B}
    assert answer.refused[A].startswith("code 1")


@pytest.mark.parametrize("text", ["PONG", "pong", " PONG "])
def test_a_pong_is_a_pong_whatever_its_id(text: str) -> None:
    parsed = parse(message(text, id=9))
    assert parsed is not None
    assert parsed.is_pong


@pytest.mark.parametrize(
    "payload", [b"Invalid listen key", b"", b"[]", b'{"id":0}', b'{"msg":5}', b'{"msg":"x","id":"y"}', b"{", b"\xff"]
)
def test_what_is_no_control_frame_is_none(payload: bytes) -> None:
    assert parse(payload) is None


def test_an_id_may_be_absent() -> None:
    parsed = parse(b'{"msg":"PONG"}')
    assert parsed is not None
    assert (parsed.id, parsed.code) == (0, 0)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (15, [15]), (16, [8, 8]), (31, [11, 10, 10]), (300, [15] * 20)])
def test_symbols_are_spread_evenly_within_the_cap(count: int, sizes: list[int]) -> None:
    instruments = [Instrument(f"S{number:03}USDT", 2, 2) for number in range(count)]
    groups = spread(instruments)
    assert sorted(map(len, groups), reverse=True) == sizes
    assert sorted(i.symbol for group in groups for i in group) == [i.symbol for i in instruments]
    assert all(len(channels_of([i.symbol for i in group])) <= 30 for group in groups)
