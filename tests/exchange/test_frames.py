"""Hand-written frames against the protobuf runtime, byte by byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.engine.quotes import Quote
from apps.engine.recording import InstrumentSpec
from proto.gen.push_pb2 import PushDataV3ApiWrapper
from tests.exchange.helpers import book_ticker, deals
from workers.exchange.channels import parse_channel
from workers.exchange.frames import BINARY_FRAME, FrameEncoder, decimal_text, varint, websocket_frame
from workers.exchange.market import Print, TimedQuote

times = st.integers(1, 2**45)
amounts = st.integers(1, 10**18 - 1)
decimals = st.integers(0, 18)
trade_ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
prints = st.lists(
    st.builds(Print, times, trade_ids.map(str.encode), st.sampled_from([1, 2]), amounts, amounts), max_size=20
)


def _encoder(channel: str, price_decimals: int, quantity_decimals: int, per_frame: int = 1_000) -> FrameEncoder:
    parsed = parse_channel(channel, {"ETHUSDT"})
    assert parsed is not None
    return FrameEncoder(parsed, InstrumentSpec("ETHUSDT", "ETH", "USDT", price_decimals, quantity_decimals), per_frame)


def _payloads(data: bytes) -> list[bytes]:
    """The messages of unmasked binary frames."""
    payloads = []
    while data:
        assert data[:1] == BINARY_FRAME
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        payloads.append(data[start : start + length])
        data = data[start + length :]
    return payloads


@given(prints, times, decimals, decimals)
def test_deals_frames_are_what_the_runtime_encodes(
    rows: list[Print], send_ms: int, price_decimals: int, quantity_decimals: int
) -> None:
    channel = deals("ETHUSDT")
    price, quantity = decimal_text(price_decimals), decimal_text(quantity_decimals)
    message = PushDataV3ApiWrapper(channel=channel, symbol="ETHUSDT", sendTime=send_ms)
    for row in rows:
        message.publicAggreDeals.deals.add(
            price=price(row.price_ticks),
            quantity=quantity(row.quantity_steps),
            tradeType=row.side,
            time=row.time_ms,
            tradeId=row.trade_id.decode(),
        )
    message.publicAggreDeals.eventType = "spot@public.aggre.deals.v3.api.pb@100ms"
    expected = [message.SerializeToString()] if rows else []
    assert _payloads(_encoder(channel, price_decimals, quantity_decimals).deals(rows, send_ms)) == expected


@given(st.tuples(amounts, amounts, amounts, amounts), times, times, st.integers(1, 2**60), decimals)
def test_book_ticker_frames_are_what_the_runtime_encodes(
    quote: tuple[int, int, int, int], quote_ms: int, send_ms: int, version: int, places: int
) -> None:
    channel = book_ticker("ETHUSDT", "10ms")
    write = decimal_text(places)
    message = PushDataV3ApiWrapper(channel=channel, symbol="ETHUSDT", sendTime=send_ms)
    body = message.publicAggreBookTicker
    body.bidPrice, body.bidQuantity, body.askPrice, body.askQuantity = (write(value) for value in quote)
    body.version, body.lastOrderCreateTime = str(version), quote_ms
    frame = _encoder(channel, places, places).quote(TimedQuote(quote_ms, Quote(*quote), version), send_ms)
    assert _payloads(frame) == [message.SerializeToString()]


def test_more_trades_than_fit_into_one_frame_are_sent_in_several_in_order() -> None:
    rows = [Print(1_000 + number, str(number).encode(), 1, 5, 5) for number in range(7)]
    payloads = _payloads(_encoder(deals("ETHUSDT"), 0, 0, per_frame=3).deals(rows, 9))
    bodies = [PushDataV3ApiWrapper.FromString(payload).publicAggreDeals.deals for payload in payloads]
    assert [[deal.tradeId for deal in body] for body in bodies] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


@given(st.integers(0, 2**63 - 1))
def test_a_varint_holds_seven_bits_per_byte(value: int) -> None:
    encoded = varint(value)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == value
    assert all(byte & 0x80 for byte in encoded[:-1])
    assert not encoded[-1] & 0x80


@given(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000]))
def test_a_frame_of_any_length_is_read_back(length: int) -> None:
    assert _payloads(websocket_frame(BINARY_FRAME, b"x" * length)) == [b"x" * length]
