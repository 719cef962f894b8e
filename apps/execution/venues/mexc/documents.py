"""The exchange's documents as values. What is not as documented is `VenueUnclear`: nothing is guessed of an order."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from apps.engine.matching import Liquidity
from apps.engine.portfolio import Fill, Side
from apps.execution.venues.base import Balance, Report, VenueFill, VenueOrderView, VenueStatus, VenueUnclear

_NUMBER: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")
# REJECTED and EXPIRED do not occur: what is refused is an error answer. The rest of a part that was canceled is gone.
STATUSES: Final = {
    "NEW": VenueStatus.OPEN,
    "PARTIALLY_FILLED": VenueStatus.PARTIALLY_FILLED,
    "FILLED": VenueStatus.FILLED,
    "CANCELED": VenueStatus.CANCELED,
    "PARTIALLY_CANCELED": VenueStatus.CANCELED,
}
T = TypeVar("T")


class Ack(msgspec.Struct):
    """A new order: neither status nor fills, nor our own id."""

    symbol: str
    orderId: str  # noqa: N815  (the exchange's names, here and below)


class OrderRow(msgspec.Struct):
    symbol: str
    orderId: str  # noqa: N815
    clientOrderId: str | None  # noqa: N815
    price: str
    origQty: str  # noqa: N815
    executedQty: str  # noqa: N815
    status: str
    side: str


class TradeRow(msgspec.Struct):
    symbol: str
    id: str
    orderId: str  # noqa: N815
    price: str
    qty: str
    commission: str
    commissionAsset: str  # noqa: N815
    time: int
    isBuyer: bool  # noqa: N815
    isMaker: bool  # noqa: N815
    clientOrderId: str | None = None  # noqa: N815


class BalanceRow(msgspec.Struct):
    asset: str
    free: str
    locked: str


class AccountRow(msgspec.Struct):
    balances: list[BalanceRow]


class ListenKeyRow(msgspec.Struct):
    listenKey: str  # noqa: N815


class ListenKeyRows(msgspec.Struct):
    listenKey: list[str]  # noqa: N815


def read(document: Any, kind: type[T]) -> T:
    """The document as `kind`. Raises `VenueUnclear`."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise VenueUnclear(f"an answer that is not as documented: {str(error)[:100]}") from None


def number(text: str) -> Decimal:
    """A decimal number without sign or exponent. Raises `VenueUnclear`."""
    if not text.isascii() or not _NUMBER.fullmatch(text):
        raise VenueUnclear(f"{text[:40]!r} is not a decimal number")
    return Decimal(text)


def report_of(row: OrderRow, client_order_id: str) -> Report:
    status = STATUSES.get(row.status)
    if status is None:
        raise VenueUnclear(f"order {client_order_id}: unknown status {row.status[:40]!r}")
    reason = "canceled at the exchange" if status is VenueStatus.CANCELED else ""
    return Report(client_order_id, row.orderId, status, reason, filled_quantity=number(row.executedQty))


def view_of(row: OrderRow, client_order_id: str) -> VenueOrderView:
    return VenueOrderView(
        client_order_id=client_order_id,
        venue_order_id=row.orderId,
        symbol=row.symbol,
        side=_side(row.side),
        quantity=number(row.origQty),
        filled_quantity=number(row.executedQty),
        limit_price=number(row.price),
    )


def fill_of(row: TradeRow) -> VenueFill:
    """The fee is in whatever coin it was taken: quote, base or MX."""
    if not row.id or not row.commissionAsset or row.time <= 0:
        raise VenueUnclear("a fill without id, time or currency of its fee")
    fill = Fill(
        Side.BUY if row.isBuyer else Side.SELL,
        number(row.price),
        number(row.qty),
        number(row.commission),
        row.commissionAsset,
        row.time,
    )
    return VenueFill(row.id, fill, Liquidity.MAKER if row.isMaker else Liquidity.TAKER, row.symbol)


def balances_of(document: Any) -> dict[str, Balance]:
    """By asset; what is free and what is locked make the total."""
    found = {}
    for row in read(document, AccountRow).balances:
        locked = number(row.locked)
        found[row.asset] = Balance(number(row.free) + locked, locked)
    return found


def _side(text: str) -> Side:
    if text not in ("BUY", "SELL"):
        raise VenueUnclear(f"unknown side {text[:20]!r}")
    return Side(text)
