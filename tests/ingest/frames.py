"""Frames as the exchange sends them."""

from __future__ import annotations

from collections.abc import Sequence

from proto.gen.push_pb2 import PushDataV3ApiWrapper
from workers.ingest.channels import deals_channel, quotes_channel

Deal = tuple[str, str, int, int, str]  # price, quantity, side, time, id


def deals_frame(symbol: str, deals: Sequence[Deal], send_ms: int = 0) -> bytes:
    frame = PushDataV3ApiWrapper(channel=deals_channel(symbol), symbol=symbol)
    if send_ms:
        frame.sendTime = send_ms
    frame.publicAggreDeals.eventType = "spot@public.aggre.deals.v3.api.pb@100ms"
    for price, quantity, side, time_ms, trade_id in deals:
        frame.publicAggreDeals.deals.add(price=price, quantity=quantity, tradeType=side, time=time_ms, tradeId=trade_id)
    return frame.SerializeToString()


def quote_frame(symbol: str, bid: str, ask: str, send_ms: int = 0, sizes: tuple[str, str] = ("1", "1")) -> bytes:
    frame = PushDataV3ApiWrapper(channel=quotes_channel(symbol), symbol=symbol)
    if send_ms:
        frame.sendTime = send_ms
    quote = frame.publicAggreBookTicker
    quote.bidPrice, quote.bidQuantity, quote.askPrice, quote.askQuantity = bid, sizes[0], ask, sizes[1]
    return frame.SerializeToString()
