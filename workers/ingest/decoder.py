"""One binary frame of the exchange to a checked value, or the reason why it is none.

What a frame must be is decided here; what its trades must be is decided row by row in `trades.py`, because one bad
row must not take the others with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from proto.gen.push_pb2 import PushDataV3ApiWrapper
from workers.ingest.channels import deals_channel, quotes_channel
from workers.ingest.symbols import QuoteTexts, SymbolState

DEALS: Final = "publicAggreDeals"
QUOTES: Final = "publicAggreBookTicker"
FRAME_BYTES_MAX: Final = 4 * 1024 * 1024
DEALS_MAX: Final = 100_000  # in one frame; a minute of a busy symbol is a few thousand

Deal = tuple[int, int, str, str, str]  # time in ms, side, trade id, price, quantity; nothing of it checked yet
Channels = Mapping[str, tuple[str, SymbolState]]


class FeedProtocolError(Exception):
    """A frame that is not what the exchange's protocol says.

    `may_hold_trades`: dropping it may lose trades of some symbol of its connection. `facts` are for the log.
    """

    def __init__(self, reason: str, *, may_hold_trades: bool, **facts: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_hold_trades = may_hold_trades
        self.facts = facts


class DealsFrame(NamedTuple):
    """Trades of one symbol in the frame's order; `send_ms` is 0 if the frame does not say when it was sent."""

    state: SymbolState
    send_ms: int
    deals: list[Deal]


class QuoteFrame(NamedTuple):
    """The best bid and ask of one symbol, as text."""

    state: SymbolState
    send_ms: int
    texts: QuoteTexts


Frame = DealsFrame | QuoteFrame


def channels_for(states: Mapping[str, SymbolState]) -> dict[str, tuple[str, SymbolState]]:
    """The channels a connection has asked for: the body each must carry, and whose it is."""
    channels = {}
    for symbol, state in states.items():
        channels[deals_channel(symbol)] = (DEALS, state)
        channels[quotes_channel(symbol)] = (QUOTES, state)
    return channels


def decode(payload: bytes, channels: Channels, send_max_ms: int) -> Frame:
    """The frame's value. Raises `FeedProtocolError` for everything that is no frame of `channels`.

    A send time later than `send_max_ms` is nonsense; it would carry watermarks away with it.
    """
    if len(payload) > FRAME_BYTES_MAX:
        raise FeedProtocolError("frame_too_large", may_hold_trades=True, size=len(payload))
    try:
        wrapper = PushDataV3ApiWrapper.FromString(payload)
    except DecodeError:
        raise FeedProtocolError("malformed_frame", may_hold_trades=True, size=len(payload)) from None
    send_ms = wrapper.sendTime
    if not 0 <= send_ms <= send_max_ms:
        raise FeedProtocolError("bad_send_time", may_hold_trades=True, send_ms=send_ms)
    channel, body = wrapper.channel, wrapper.WhichOneof("body")
    known = channels.get(channel)
    if known is None:
        reason = "unknown_symbol" if body in (DEALS, QUOTES) else "unknown_message"
        raise FeedProtocolError(reason, may_hold_trades=False, channel=channel[:100])
    kind, state = known
    if body != kind:
        raise FeedProtocolError("unknown_message", may_hold_trades=kind == DEALS, channel=channel)
    if wrapper.HasField("symbol") and wrapper.symbol != state.symbol:
        raise FeedProtocolError("symbol_mismatch", may_hold_trades=kind == DEALS, channel=channel)
    if kind == QUOTES:
        quote = wrapper.publicAggreBookTicker
        return QuoteFrame(state, send_ms, (quote.bidPrice, quote.bidQuantity, quote.askPrice, quote.askQuantity))
    deals = wrapper.publicAggreDeals.deals
    if len(deals) > DEALS_MAX:
        raise FeedProtocolError("too_many_deals", may_hold_trades=True, deals=len(deals))
    return DealsFrame(state, send_ms, [(d.time, d.tradeType, d.tradeId, d.price, d.quantity) for d in deals])
