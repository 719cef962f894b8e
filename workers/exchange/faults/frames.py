"""Frames that are wrong in one particular way, made from right ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from proto.gen.push_pb2 import PushDataV3ApiWrapper
from workers.exchange.frames import BINARY_FRAME, TEXT_FRAME, varint, websocket_frame

_FRAGMENT_FIRST: Final = b"\x02"
_FRAGMENT_NEXT: Final = b"\x00"
_FRAGMENT_LAST: Final = b"\x80"
_UNKNOWN_BODY: Final = b"\xfa\x18"  # field 399, length-delimited: no body of the protocol
_GROUP_START, _GROUP_END = b"\x83\x19", b"\x84\x19"  # field 400 as nested groups
_NESTED: Final = 250

Options = Mapping[str, Any]
BAD_NUMBERS: Final = ("0", "0.000", "-1", "NaN", "inf", "1e400", "", "1,5", "9" * 40, "+1", ".5", "\uff11")
BAD_VALUES: Final[Mapping[str, tuple[str | int, ...]]] = {
    "price": BAD_NUMBERS,
    "quantity": BAD_NUMBERS,
    "side": (0, 3, -1),
    "time": (0, -1, 10**18),
}


def payload_of(frame: bytes) -> bytes:
    """The message of one unmasked frame."""
    start = {126: 4, 127: 10}.get(frame[1], 2)
    return frame[start:]


def _binary(payload: bytes) -> bytes:
    return websocket_frame(BINARY_FRAME, payload)


def _truncated(payload: bytes, dice: random.Random, _: Options) -> bytes:
    return _binary(payload[: dice.randrange(1, len(payload))])


def _garbage(payload: bytes, dice: random.Random, _: Options) -> bytes:
    return _binary(dice.randbytes(len(payload)))


def _wrapper(payload: bytes) -> Any:
    return PushDataV3ApiWrapper.FromString(payload)


def _unknown_oneof(payload: bytes, dice: random.Random, _: Options) -> bytes:
    """The deals under a field that no version knows, or a candle where the channel says deals."""
    message = _wrapper(payload)
    body = message.publicAggreDeals.SerializeToString()
    message.ClearField("publicAggreDeals")
    if dice.random() < 0.5:
        message.publicSpotKline.interval = "Min1"
        return _binary(message.SerializeToString())
    return _binary(message.SerializeToString() + _UNKNOWN_BODY + varint(len(body)) + body)


def _unknown_channel(payload: bytes, _: random.Random, __: Options) -> bytes:
    message = _wrapper(payload)
    message.channel, message.symbol = message.channel.replace(message.symbol, "NOBODYUSDT"), "NOBODYUSDT"
    return _binary(message.SerializeToString())


def _text_in_binary(_: bytes, __: random.Random, ___: Options) -> bytes:
    return _binary(b'{"id":0,"code":0,"msg":"PONG"}')


def _binary_in_text(payload: bytes, _: random.Random, __: Options) -> bytes:
    return websocket_frame(TEXT_FRAME, payload)


def _bad_utf8(payload: bytes, _: random.Random, __: Options) -> bytes:
    """The first character of the channel is no character."""
    return _binary(payload[:2] + b"\xff" + payload[3:])


def _deep(payload: bytes, _: random.Random, __: Options) -> bytes:
    return _binary(payload + _GROUP_START * _NESTED + _GROUP_END * _NESTED)


def _huge(_: bytes, __: random.Random, options: Options) -> bytes:
    return _binary(bytes(options["bytes"]))


def _empty_deals(payload: bytes, _: random.Random, __: Options) -> bytes:
    message = _wrapper(payload)
    del message.publicAggreDeals.deals[:]
    return _binary(message.SerializeToString())


SPOILERS: Final[Mapping[str, Callable[[bytes, random.Random, Options], bytes]]] = {
    "truncate": _truncated,
    "garbage": _garbage,
    "unknown_oneof": _unknown_oneof,
    "unknown_channel": _unknown_channel,
    "text_in_binary": _text_in_binary,
    "binary_in_text": _binary_in_text,
    "bad_utf8": _bad_utf8,
    "deep": _deep,
    "huge_frame": _huge,
    "empty_deals": _empty_deals,
}


def with_bad_value(frame: bytes, row: int, field: str, value: str | int) -> bytes:
    """The frame with one field of one of its trades replaced."""
    message = _wrapper(payload_of(frame))
    deal = message.publicAggreDeals.deals[row]
    names = {"price": "price", "quantity": "quantity", "side": "tradeType", "time": "time", "id": "tradeId"}
    setattr(deal, names[field], value)
    return _binary(message.SerializeToString())


def fragments(frame: bytes, pieces: int) -> bytes:
    """One message in several WebSocket frames."""
    payload = payload_of(frame)
    size = max(-(-len(payload) // pieces), 1)
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    heads: Sequence[bytes] = [_FRAGMENT_FIRST, *[_FRAGMENT_NEXT] * (len(parts) - 2), _FRAGMENT_LAST]
    if len(parts) == 1:
        return frame
    return b"".join(websocket_frame(head, part) for head, part in zip(heads, parts, strict=True))
