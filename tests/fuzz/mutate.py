"""Damage, from dice with a seed: to the bytes as a line does it, and to the values as a faulty sender would."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from proto.gen.push_pb2 import PushDataV3ApiWrapper
from tests.fuzz.seeds import SEND_MS, SYMBOL
from workers.ingest.channels import deals_channel, quotes_channel
from workers.ingest.decoder import DEALS_MAX, FRAME_BYTES_MAX

NUMBERS: Final = (
    *("", "0", "0.0", "00", "-1", "+1", "-0", "1e400", "1E5", "1e-5", "NaN", "nan", "inf", "-Infinity", "1,5", "1_000"),
    *(
        ".5",
        "5.",
        ".",
        "..",
        "1.2.3",
        " 1",
        "1 ",
        "1\n",
        "\x00",
        "0x10",
        "\u0661",
        "\u00b2",
        "\uff11",
        "\U0001d7d8",
        "½",
    ),
    *("9" * 19, "9" * 40, "9" * 41, "9" * 5000, "0." + "0" * 39 + "1", "1." + "0" * 500, "0" * 39 + "1"),
    *("9223372036854775807", "9223372036854775808", "92233720368547758.07", "92233720368547758.08"),
    *("93220.00", "93220.001", "0.000001", "0.0000001", "0.00000001", "1"),
)
TIMES: Final = (
    *(0, 1, -1, 2**31, 2**62, 2**63 - 1, -(2**63), SEND_MS // 1000, SEND_MS, SEND_MS + 5_000, SEND_MS + 5_001),
    *(SEND_MS - 24 * 3600 * 1000, SEND_MS - 24 * 3600 * 1000 - 1, 4_102_444_800_000, 4_102_444_800_001),
)
SIDES: Final = (0, 1, 2, 3, -1, 255, 2**31 - 1, -(2**31))
IDS: Final = ("", "x", "x" * 64, "x" * 65, "x" * 100_000, "\u0000", "\U0001f600" * 64, "730292425431437318X0")
SYMBOLS: Final = ("", "btcusdt", "XRPUSDT", "BTCUSDT ", "NOPEUSDT", "B" * 10_000, "\u0422", SYMBOL)
_VARINTS: Final = (
    b"\xff" * 10,
    b"\xff\xff\xff\xff\x07",
    b"\xff\xff\xff\xff\x0f",
    b"\x80" * 9 + b"\x01",
    b"\x80\x00",
    b"\x80" * 11,
)
_BAD_UTF8: Final = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe2\x82")
_HUGE_SHARE: Final = 1 / 40_000

Damage = Callable[[bytearray, random.Random, Sequence[bytes]], bytes | bytearray]


def mutate(payload: bytes, dice: random.Random, pool: Sequence[bytes]) -> bytes:
    """One damaged frame; `pool` is what others are spliced from."""
    if dice.random() < _HUGE_SHARE:
        return _huge(dice)
    damaged: bytes | bytearray = bytearray(payload)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        damaged = dice.choice(_DAMAGES)(bytearray(damaged), dice, pool)
    return bytes(damaged)


def _flip(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    for _number in range(dice.randint(1, 8) if data else 0):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return data


def _overwrite(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    if data:
        data[dice.randrange(len(data))] = dice.randrange(256)
    return data


def _truncate(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    return data[: dice.randint(0, len(data))]


def _cut_out(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    first, last = sorted((dice.randint(0, len(data)), dice.randint(0, len(data))))
    del data[first:last]
    return data


def _double(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    first, last = sorted((dice.randint(0, len(data)), dice.randint(0, len(data))))
    data[last:last] = data[first:last] * dice.choice((1, 2, 10))
    return data[:20_000]


def _splice(data: bytearray, dice: random.Random, pool: Sequence[bytes]) -> bytes:
    other = dice.choice(pool)
    return bytes(data[: dice.randint(0, len(data))]) + other[dice.randint(0, len(other)) :]


def _join(data: bytearray, dice: random.Random, pool: Sequence[bytes]) -> bytes:
    """Two whole messages are one message, in which the later fields win."""
    return (bytes(data) + dice.choice(pool))[:20_000]


def _length(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    at = dice.randint(0, len(data))
    data[at : at + dice.randint(0, 2)] = dice.choice(_VARINTS)
    return data


def _nudge(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    if data:
        at = dice.randrange(len(data))
        data[at] = (data[at] + dice.choice((-1, 1))) % 256
    return data


def _nest(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    """Groups in groups, which no version of the messages has."""
    depth, at = dice.choice((1, 50, 99, 100, 101, 5_000)), dice.randint(0, len(data))
    data[at:at] = b"\xfb\x07" * depth + (b"\xfc\x07" * depth if dice.random() < 0.5 else b"")
    return data


def _bad_text(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytearray:
    at = dice.randint(0, len(data))
    bad = dice.choice(_BAD_UTF8)
    data[at : at + len(bad)] = bad
    return data


def _other_body(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytes:
    """Another number of the oneof, or one that it does not have."""
    return bytes(data).replace(b"\xd2\x13", bytes((dice.choice(range(0x82, 0xFB, 8)), dice.choice((0x12, 0x13, 0x14)))))


def _values(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> bytes:
    """Whole by its form, with values that nobody should believe."""
    frame = PushDataV3ApiWrapper()
    try:
        frame.ParseFromString(bytes(data))
    except DecodeError:
        return bytes(data)
    for _number in range(dice.randint(1, 3)):
        dice.choice(_VALUES)(frame, dice)
    return frame.SerializeToString()[:200_000]


def _deal_value(frame: PushDataV3ApiWrapper, dice: random.Random) -> None:
    deals = frame.publicAggreDeals.deals
    deal = dice.choice(deals) if deals else deals.add()
    match dice.randrange(6):
        case 0:
            deal.price = dice.choice(NUMBERS)
        case 1:
            deal.quantity = dice.choice(NUMBERS)
        case 2:
            deal.tradeType = dice.choice(SIDES)
        case 3:
            deal.time = dice.choice(TIMES)
        case 4:
            deal.tradeId = dice.choice(IDS)
        case _:
            deals.add().CopyFrom(deal)


def _quote_value(frame: PushDataV3ApiWrapper, dice: random.Random) -> None:
    quote = frame.publicAggreBookTicker
    name = dice.choice(("bidPrice", "bidQuantity", "askPrice", "askQuantity"))
    setattr(quote, name, dice.choice(NUMBERS))


def _head_value(frame: PushDataV3ApiWrapper, dice: random.Random) -> None:
    symbol = dice.choice(SYMBOLS)
    match dice.randrange(4):
        case 0:
            frame.symbol = symbol
        case 1:
            frame.channel = dice.choice((deals_channel, quotes_channel))(symbol)
        case 2:
            frame.sendTime = dice.choice(TIMES)
        case _:
            frame.ClearField(dice.choice(("symbol", "channel", "sendTime", "publicAggreDeals")))


def _huge(dice: random.Random) -> bytes:
    """As large as a frame may be, and larger."""
    return empty_rows(dice.choice((1_000, DEALS_MAX, DEALS_MAX + 1, FRAME_BYTES_MAX // 2, FRAME_BYTES_MAX)))


def empty_rows(count: int) -> bytes:
    """A frame with so many trades that say nothing: two bytes each."""
    frame = PushDataV3ApiWrapper(channel=deals_channel(SYMBOL), symbol=SYMBOL, sendTime=SEND_MS)
    for _ in range(count):
        frame.publicAggreDeals.deals.add()
    return frame.SerializeToString()


_VALUES: Final = (_deal_value, _deal_value, _quote_value, _head_value)
_DAMAGES: Final[tuple[Damage, ...]] = (
    *(_flip, _overwrite, _truncate, _cut_out, _double, _splice, _join, _length, _nudge, _nest, _bad_text, _other_body),
    *(_values,) * 8,
)
