"""Orders at MEXC. Its words and its silences become what the `Venue` protocol says of them; nothing is sent twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from apps.engine.risk.words import plain
from apps.execution.venues.base import (
    Balance,
    OrderRequest,
    Report,
    VenueFill,
    VenueOrderView,
    VenueStatus,
    VenueUnclear,
)
from apps.execution.venues.mexc.client import Client
from apps.execution.venues.mexc.documents import Ack, OrderRow, TradeRow, balances_of, fill_of, read, report_of, view_of
from apps.execution.venues.mexc.errors import NEVER_DONE, Meaning, Refused
from apps.execution.venues.wire import SameIds, WireIds

NAME: Final = "mexc"
SYMBOLS_AT_ONCE_MAX: Final = 5  # of openOrders
PAGE_ROWS: Final = 1_000  # of myTrades


class MexcVenue:
    """`symbols`: where the account may have orders; `symbol_of`: the symbol of an order of ours, None if unknown.

    The exchange lists orders and fills by symbol only, so it must be told which. It sees ids as `wire` makes them.
    """

    def __init__(
        self,
        client: Client,
        *,
        symbols: Callable[[], Iterable[str]],
        symbol_of: Callable[[str], str | None],
        wire: WireIds | None = None,
    ) -> None:
        self._client = client
        self._symbols = symbols
        self._symbol_of = symbol_of
        self._wire = wire or SameIds()
        self._told: dict[str, OrderRow] = {}  # as last seen: of an order, symbol and id never change

    @property
    def name(self) -> str:
        return NAME

    def submit(self, request: OrderRequest) -> Report:
        """A limit order. Its acknowledgement says neither status nor fills, so the order is asked for at once."""
        name = request.client_order_id
        try:
            answer = self._client.call(
                "POST",
                "order",
                symbol=request.symbol,
                side=request.side.value,
                type="LIMIT",
                quantity=plain(request.quantity),
                price=plain(request.limit_price),
                newClientOrderId=self._wire.out(name),
            )
        except Refused as refusal:
            if refusal.meaning in NEVER_DONE:
                return Report(name, "", VenueStatus.REJECTED, str(refusal))
            if refusal.meaning is not Meaning.DUPLICATE:
                raise VenueUnclear(f"order: {refusal}") from None
        else:
            if read(answer, Ack).symbol != request.symbol:
                raise VenueUnclear(f"order {name} was acknowledged for another symbol")
        row = self._find(name, request.symbol)
        if row is None:
            raise VenueUnclear(f"order {name} was received and is not found")
        return report_of(row, name)

    def query(self, client_order_id: str) -> Report | None:
        row = self._find(client_order_id)
        return None if row is None else report_of(row, client_order_id)

    def cancel(self, client_order_id: str, *, at_ms: int | None = None) -> Report | None:  # noqa: ARG002
        """What has ended meanwhile is not canceled any more: whatever the answer, the order is asked for."""
        symbol = self._symbol_known(client_order_id)
        if symbol is None:
            row = self._find(client_order_id)
            if row is None:
                return None
            symbol = row.symbol
        try:
            self._client.call("DELETE", "order", symbol=symbol, origClientOrderId=self._wire.out(client_order_id))
        except Refused as refusal:
            if refusal.meaning not in (Meaning.NOT_OPEN, Meaning.NO_ORDER):
                raise VenueUnclear(f"cancel: {refusal}") from None
        return self.query(client_order_id)

    def trades(self, client_order_id: str) -> list[VenueFill]:
        row = self._told.get(client_order_id) or self._find(client_order_id)
        if row is None:
            return []
        found = self._pages(row.symbol, orderId=row.orderId)
        return [fill_of(one) for one in found if one.orderId == row.orderId]

    def open_orders(self) -> list[VenueOrderView]:
        found: list[VenueOrderView] = []
        symbols = iter(sorted(set(self._symbols())))
        while some := list(islice(symbols, SYMBOLS_AT_ONCE_MAX)):
            rows = read(self._question("openOrders", symbol=",".join(some)), list[OrderRow])
            found += [view_of(row, self._wire.ours(row.clientOrderId or "")) for row in reversed(rows)]
        return found

    def balances(self) -> dict[str, Balance]:
        return balances_of(self._question("account"))

    def fills_since(self, ts_ms: int) -> list[tuple[str, VenueFill]]:
        rows = [row for symbol in sorted(set(self._symbols())) for row in self._pages(symbol, startTime=max(ts_ms, 0))]
        rows.sort(key=lambda row: row.time)
        return [(self._wire.ours(row.clientOrderId or ""), fill_of(row)) for row in rows if row.time >= ts_ms]

    def _find(self, client_order_id: str, symbol: str | None = None) -> OrderRow | None:
        """The order as it stands; None if the exchange says that there is none."""
        named = symbol or self._symbol_known(client_order_id)
        values = {"symbol": named} if named else {}
        wire_id = self._wire.out(client_order_id)
        try:
            answer = self._client.call("GET", "order", origClientOrderId=wire_id, **values)
        except Refused as refusal:
            if refusal.meaning is Meaning.NO_ORDER:
                return None
            raise VenueUnclear(f"order: {refusal}") from None
        row = read(answer, OrderRow)
        if row.clientOrderId != wire_id or (named and row.symbol != named):
            raise VenueUnclear(f"order {client_order_id} was asked for and another one was told")
        self._told[client_order_id] = row
        return row

    def _symbol_known(self, client_order_id: str) -> str | None:
        told = self._told.get(client_order_id)
        return told.symbol if told else self._symbol_of(client_order_id)

    def _pages(self, symbol: str, **values: str | int) -> list[TradeRow]:
        """All fills, oldest first. The exchange tells the newest so many; older ones are asked for by time."""
        found: dict[str, TradeRow] = {}
        until: dict[str, int] = {}
        while True:
            page = read(self._question("myTrades", symbol=symbol, limit=PAGE_ROWS, **values, **until), list[TradeRow])
            known = len(found)
            found |= {row.id: row for row in page}
            if len(page) < PAGE_ROWS:
                rows = list(found.values())
                rows.reverse()  # the exchange tells the newest first, within a millisecond too
                rows.sort(key=lambda row: row.time)
                return rows
            if len(found) == known:
                raise VenueUnclear(f"more than {PAGE_ROWS} fills of {symbol} in one millisecond")
            until = {"endTime": min(row.time for row in page)}

    def _question(self, path: str, **values: str | int) -> object:
        """A question about the account: whatever it is refused for, nothing is known then."""
        try:
            answer: object = self._client.call("GET", path, **values)
        except Refused as refusal:
            raise VenueUnclear(f"{path}: {refusal}") from None
        return answer
