"""Bytes of outgoing frames, written by hand because thousands leave per second.

A frame is an unmasked RFC 6455 frame around one PushDataV3ApiWrapper. Field order and encoding are those of the
protobuf runtime (a test compares every byte); what never changes for a channel is encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from apps.engine.instrument_specs import InstrumentSpec
from workers.exchange.channels import Channel
from workers.exchange.market import Print, TimedQuote

TEXT_FRAME: Final = b"\x81"
BINARY_FRAME: Final = b"\x82"
_DEALS_TAG: Final = b"\xd2\x13"  # field 314
_BOOK_TICKER_TAG: Final = b"\xda\x13"  # field 315


def varint(value: int) -> bytes:
    """Protobuf's base-128 encoding of a non-negative number."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def websocket_frame(opcode: bytes, payload: bytes) -> bytes:
    """A whole unmasked message in one frame."""
    length = len(payload)
    if length < 126:
        return opcode + length.to_bytes(1, "big") + payload
    if length < 65_536:
        return opcode + b"\x7e" + length.to_bytes(2, "big") + payload
    return opcode + b"\x7f" + length.to_bytes(8, "big") + payload


def decimal_text(decimals: int) -> Callable[[int], str]:
    """A writer of ticks or steps as a decimal number with all its decimals."""
    if decimals == 0:
        return str
    scale = 10**decimals

    def write(value: int) -> str:
        return f"{value // scale}.{value % scale:0{decimals}d}"

    return write


def _field(tag: int, text: bytes) -> bytes:
    return bytes((tag,)) + varint(len(text)) + text


class _TimeWriter:
    """Varints of times: the upper bits change every 16 seconds, so they are kept."""

    def __init__(self) -> None:
        self._upper = -1
        self._upper_bytes = b""

    def __call__(self, time_ms: int) -> bytes:
        upper = time_ms >> 14
        if upper == 0:
            return varint(time_ms)
        if upper != self._upper:
            self._upper, self._upper_bytes = upper, varint(upper)
        return bytes((time_ms & 0x7F | 0x80, time_ms >> 7 & 0x7F | 0x80)) + self._upper_bytes


class FrameEncoder:
    """Frames of one channel."""

    def __init__(
        self,
        channel: Channel,
        spec: InstrumentSpec,
        trades_per_frame_max: int,
        *,
        trade_ids: bool = True,
        clock_skew_ms: int = 0,
    ) -> None:
        # Tags: channel 1, symbol 3, then sendTime 6, whose value follows.
        names = _field(0x0A, channel.text.encode()) + _field(0x1A, channel.symbol.encode())
        self._head = names + b"\x30"
        self._event_type = _field(0x12, channel.event_type.encode())
        self._price, self._quantity = decimal_text(spec.price_decimals), decimal_text(spec.quantity_decimals)
        self._time = _TimeWriter()
        self._send_time = _TimeWriter()
        self._trades_per_frame_max = trades_per_frame_max
        self._trade_ids = trade_ids
        self._clock_skew_ms = clock_skew_ms

    def quotes(self, changes: Sequence[TimedQuote]) -> bytes:
        """One bookTicker frame per change, sent at the time of the change."""
        return b"".join([self.quote(change, change.time_ms) for change in changes])

    def quote(self, timed: TimedQuote, send_ms: int) -> bytes:
        """One bookTicker frame."""
        price, quantity = self._price, self._quantity
        bid_ticks, bid_steps, ask_ticks, ask_steps = timed.quote
        fields = (price(bid_ticks), quantity(bid_steps), price(ask_ticks), quantity(ask_steps), str(timed.version))
        # No number has more than 127 characters, so each length is one byte.
        body = "".join(
            [f"{tag}{chr(len(text))}{text}" for tag, text in zip("\x0a\x12\x1a\x22\x2a", fields, strict=True)]
        )
        return self._frame(_BOOK_TICKER_TAG, body.encode() + b"\x30" + self._time(timed.time_ms), send_ms)

    def no_quote(self, send_ms: int) -> bytes:
        """A bookTicker frame with empty fields: nobody has quoted yet, and this is the time."""
        return self._frame(_BOOK_TICKER_TAG, b"", send_ms)

    def deals(self, prints: Sequence[Print], send_ms: int) -> bytes:
        """One frame with all trades, or as few as the maximum per frame allows; nothing for no trades."""
        size = self._trades_per_frame_max
        return b"".join([self.deals_frame(prints[at : at + size], send_ms) for at in range(0, len(prints), size)])

    def deals_frame(self, prints: Sequence[Print], send_ms: int) -> bytes:
        """One frame with exactly these trades."""
        body = b"".join([self._deal(*row) for row in prints]) + self._event_type
        return self._frame(_DEALS_TAG, body, send_ms)

    def _deal(self, time_ms: int, trade_id: bytes, side: int, price_ticks: int, quantity_steps: int) -> bytes:
        price, quantity = self._price(price_ticks), self._quantity(quantity_steps)
        head = f"\x0a{chr(len(price))}{price}\x12{chr(len(quantity))}{quantity}\x18{chr(side)}\x20".encode()
        item = head + self._time(time_ms)
        if self._trade_ids:
            item = b"%b\x2a%c%b" % (item, len(trade_id), trade_id)
        return b"\x0a" + varint(len(item)) + item

    def _frame(self, tag: bytes, body: bytes, send_ms: int) -> bytes:
        send_time = self._send_time(send_ms + self._clock_skew_ms)
        payload = b"".join((self._head, send_time, tag, varint(len(body)), body))
        return websocket_frame(BINARY_FRAME, payload)
