"""Orders and their fills, and how REST writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from apps.engine.money import exact
from workers.exchange.private.values import text_of

BUY: Final = 1
SELL: Final = 2
SIDES: Final = {"BUY": BUY, "SELL": SELL}
SIDE_NAMES: Final = {BUY: "BUY", SELL: "SELL"}
ORDER_TYPES: Final = {"LIMIT": 1, "LIMIT_MAKER": 2, "IMMEDIATE_OR_CANCEL": 3, "FILL_OR_KILL": 4, "MARKET": 5}
STATUSES: Final = {"NEW": 1, "FILLED": 2, "PARTIALLY_FILLED": 3, "CANCELED": 4, "PARTIALLY_CANCELED": 5}
OPEN: Final = ("NEW", "PARTIALLY_FILLED")
ZERO: Final = Decimal(0)
Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Wish:
    """An order that has passed every filter. A market order has no price; a market purchase has an amount instead
    of a quantity."""

    symbol: str
    side: int
    kind: str
    price: Decimal = ZERO
    quantity: Decimal = ZERO
    amount: Decimal = ZERO
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Deal:
    """A fill. Numbers grow with every fill of the exchange."""

    number: int
    price: Decimal
    quantity: Decimal
    amount: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool
    time_ms: int

    @property
    def trade_id(self) -> str:
        return f"{self.number}X1"


@dataclass(slots=True)
class Order:
    """What has become of a wish. `locked` is what it still holds of `lock_asset`."""

    order_id: str
    wish: Wish
    created_ms: int
    updated_ms: int
    lock_asset: str
    locked: Decimal
    status: str = "NEW"
    executed: Decimal = ZERO
    executed_amount: Decimal = ZERO
    last_price: Decimal = ZERO
    deals: list[Deal] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.status in OPEN

    @property
    @exact
    def remaining(self) -> Decimal:
        """In base units; a market purchase knows only what it may still spend."""
        return max(self.wish.quantity - self.executed, ZERO)

    @property
    @exact
    def remaining_amount(self) -> Decimal:
        whole = self.wish.amount or self.wish.price * self.wish.quantity
        return max(whole - self.executed_amount, ZERO)

    @property
    @exact
    def average_price(self) -> Decimal:
        """Zero before the first fill; twelve decimals at most."""
        if not self.executed:
            return ZERO
        return (self.executed_amount / self.executed).quantize(Decimal("1e-12"))

    @property
    def shown_price(self) -> Decimal:
        """A market order shows the price of its last fill."""
        return self.wish.price if self.wish.kind != "MARKET" else self.last_price

    @property
    @exact
    def shown_amount(self) -> Decimal:
        return self.wish.amount or self.wish.price * self.wish.quantity


def acknowledgement(order: Order, price: Decimal) -> Document:
    """The answer to a new order: neither its status nor what was executed, nor the caller's own id."""
    return {
        "symbol": order.wish.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "price": text_of(price),
        "origQty": text_of(order.wish.quantity),
        "type": order.wish.kind,
        "side": SIDE_NAMES[order.wish.side],
        "transactTime": order.created_ms,
    }


def order_document(order: Order) -> Document:
    """An order as queries tell of it."""
    wish = order.wish
    return {
        "symbol": wish.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": wish.client_id or None,
        "price": text_of(order.shown_price),
        "origQty": text_of(wish.quantity),
        "executedQty": text_of(order.executed),
        "cummulativeQuoteQty": text_of(order.executed_amount),
        "status": order.status,
        "timeInForce": "GTC",
        "type": wish.kind,
        "side": SIDE_NAMES[wish.side],
        "stopPrice": None,
        "icebergQty": None,
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": True,
        "origQuoteOrderQty": text_of(order.shown_amount),
    }


def canceled_document(order: Order) -> Document:
    """The answer to a cancellation."""
    kept = (
        "symbol", "orderId", "orderListId", "clientOrderId", "price", "origQty", "executedQty", "cummulativeQuoteQty",
        "status", "timeInForce", "type", "side",
    )  # fmt: skip
    document = order_document(order)
    return {name: document[name] for name in kept} | {"origClientOrderId": order.wish.client_id or None}


def trade_document(order: Order, deal: Deal) -> Document:
    """One row of the account's trades."""
    return {
        "symbol": order.wish.symbol,
        "id": deal.trade_id,
        "orderId": order.order_id,
        "orderListId": -1,
        "price": text_of(deal.price),
        "qty": text_of(deal.quantity),
        "quoteQty": text_of(deal.amount),
        "commission": text_of(deal.fee),
        "commissionAsset": deal.fee_asset,
        "time": deal.time_ms,
        "isBuyer": order.wish.side == BUY,
        "isMaker": deal.maker,
        "isBestMatch": True,
        "isSelfTrade": False,
        "clientOrderId": order.wish.client_id or None,
    }
