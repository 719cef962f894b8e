"""The private stream: frames about orders, fills and balances to the sockets of one account.

Frames wait for the next tick of the exchange, so an answer over REST usually comes first; nobody may rely on it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from proto.gen.push_pb2 import PushDataV3ApiWrapper
from workers.exchange.connection import Connection
from workers.exchange.faults.private import PrivateFaults
from workers.exchange.frames import BINARY_FRAME, websocket_frame
from workers.exchange.private.listen_keys import ListenKeys
from workers.exchange.private.orders import ORDER_TYPES, STATUSES, ZERO, Deal, Order
from workers.exchange.private.values import text_of
from workers.exchange.private.wallet import BalanceChange

ORDERS: Final = "spot@private.orders.v3.api.pb"
DEALS: Final = "spot@private.deals.v3.api.pb"
ACCOUNT: Final = "spot@private.account.v3.api.pb"
CHANNELS: Final = (ORDERS, DEALS, ACCOUNT)
_WAITING_MAX: Final = 10_000


class Waiting(NamedTuple):
    """A frame and whose it is."""

    account: str
    channel: str
    message: PushDataV3ApiWrapper


@dataclass
class Feed:
    """One socket of an account. When its key is over it is sent nothing more, without a word."""

    connection: Connection
    account: str
    listen_key: str


class PrivateStream:
    """Gathers what is to be told and sends it once per tick."""

    def __init__(self, keys: ListenKeys, faults: PrivateFaults[Waiting]) -> None:
        self.keys = keys
        self.feeds: dict[int, Feed] = {}  # by the connection's number
        self._faults = faults
        self._waiting: deque[Waiting] = deque(maxlen=_WAITING_MAX)

    @property
    def waiting(self) -> int:
        """How many frames the next tick will take up."""
        return len(self._waiting)

    def order(self, account: str, order: Order, now_ms: int) -> None:
        """An order has changed."""
        self._waiting.append(Waiting(account, ORDERS, order_message(order, now_ms)))

    def deal(self, account: str, order: Order, deal: Deal, now_ms: int) -> None:
        """An order has traded."""
        self._waiting.append(Waiting(account, DEALS, deal_message(order, deal, now_ms)))

    def balance(self, account: str, change: BalanceChange, now_ms: int) -> None:
        """A balance has changed."""
        self._waiting.append(Waiting(account, ACCOUNT, balance_message(change, now_ms)))

    def flush(self, skew_ms: int) -> None:
        """Send what waits, in the order in which it happened unless a fault wants it otherwise."""
        while self._waiting:
            item = self._waiting.popleft()
            for one in self._faults.pass_through(item.channel, item):
                self._send(one, skew_ms)
        for one in self._faults.due():
            self._send(one, skew_ms)

    def _send(self, item: Waiting, skew_ms: int) -> None:
        frame = b""
        for feed in list(self.feeds.values()):
            if feed.account != item.account or item.channel not in feed.connection.private_channels:
                continue
            if self.keys.account_of(feed.listen_key) is None:
                continue
            if not frame:
                message = PushDataV3ApiWrapper.FromString(item.message.SerializeToString())
                message.sendTime += skew_ms
                frame = websocket_frame(BINARY_FRAME, message.SerializeToString())
            if feed.connection.faults is not None:
                feed.connection.faults.control(frame)
            else:
                feed.connection.write(frame)


def order_message(order: Order, now_ms: int) -> PushDataV3ApiWrapper:
    """The whole state of an order after a change."""
    wish, last = order.wish, order.deals[-1] if order.deals else None
    message = PushDataV3ApiWrapper(channel=ORDERS, symbol=wish.symbol, sendTime=now_ms)
    body = message.privateOrders
    body.id, body.clientId = order.order_id, wish.client_id
    body.price, body.quantity = text_of(order.shown_price), text_of(wish.quantity)
    body.amount = text_of(order.shown_amount)
    body.avgPrice = text_of(order.average_price)
    body.orderType, body.tradeType = ORDER_TYPES[wish.kind], wish.side
    body.isMaker = last is not None and last.maker
    body.remainAmount, body.remainQuantity = text_of(order.remaining_amount), text_of(order.remaining)
    body.lastDealQuantity = text_of(last.quantity if last else ZERO)
    body.cumulativeQuantity, body.cumulativeAmount = text_of(order.executed), text_of(order.executed_amount)
    body.status, body.createTime = STATUSES[order.status], order.created_ms
    return message


def deal_message(order: Order, deal: Deal, now_ms: int) -> PushDataV3ApiWrapper:
    """One fill."""
    message = PushDataV3ApiWrapper(channel=DEALS, symbol=order.wish.symbol, sendTime=now_ms)
    body = message.privateDeals
    body.price, body.quantity, body.amount = text_of(deal.price), text_of(deal.quantity), text_of(deal.amount)
    body.tradeType, body.isMaker = order.wish.side, deal.maker
    body.tradeId, body.clientOrderId, body.orderId = deal.trade_id, order.wish.client_id, order.order_id
    body.feeAmount, body.feeCurrency, body.time = text_of(deal.fee), deal.fee_asset, deal.time_ms
    return message


def balance_message(change: BalanceChange, now_ms: int) -> PushDataV3ApiWrapper:
    """One asset after a change. It names no symbol."""
    message = PushDataV3ApiWrapper(channel=ACCOUNT, createTime=now_ms, sendTime=now_ms)
    body = message.privateAccount
    body.vcoinName, body.coinId = change.asset, hashlib.blake2b(change.asset.encode(), digest_size=16).hexdigest()
    body.balanceAmount, body.balanceAmountChange = text_of(change.free), text_of(change.free_change)
    body.frozenAmount, body.frozenAmountChange = text_of(change.locked), text_of(change.locked_change)
    body.type, body.time = change.why, now_ms
    return message
