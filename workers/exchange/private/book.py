"""One account's orders against the local market. The market does not notice them: nobody else trades with them.

Taking: an order that reaches the other side's price fills there at once, by the size that stands at the top and that
this account has not taken before; nothing deeper. Making: what rests fills at its own price when the other side's top
reaches that price (by the size there), or when a trade passes through it (by the trade's quantity). A trade at the
very price fills nothing: others stand there first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Final, NamedTuple

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.money import exact, fee_of
from workers.exchange.errors import ApiError
from workers.exchange.private import refusals
from workers.exchange.private.accounts import Account
from workers.exchange.private.orders import BUY, SELL, ZERO, Deal, Order, Wish
from workers.exchange.private.terms import Top
from workers.exchange.private.wallet import BalanceChange, Wallet

OPEN_ORDERS_MAX: Final = 500
ORDER_ID_PREFIX: Final = "C02__"


class Through(NamedTuple):
    """A trade of the market: the side that took, price, quantity and event time."""

    side: int
    price: Decimal
    quantity: Decimal
    time_ms: int


class Told(NamedTuple):
    """Who is told what happens, in the order in which it happens."""

    order: Callable[[Order], None]
    deal: Callable[[Order, Deal], None]
    balance: Callable[[BalanceChange], None]


class Numbers:
    """Ids of orders and trades: they grow, and none comes twice as long as `first` grows from start to start."""

    def __init__(self, first: int) -> None:
        self._next = first

    def __call__(self) -> int:
        self._next += 1
        return self._next


class Book:
    """`numbers` gives ids that were never given before."""

    def __init__(self, account: Account, numbers: Numbers, told: Told) -> None:
        self.account = account
        self.wallet = Wallet(account.balances, told.balance)
        self.fees_in_mx = account.fee_asset == "MX"
        self.orders: dict[str, Order] = {}  # by the exchange's id, oldest first
        self._by_client_id: dict[str, Order] = {}
        self._open: dict[str, dict[str, Order]] = {}  # symbol -> id -> order, oldest first
        self._taken: dict[str, tuple[Top, Decimal, Decimal]] = {}  # of a symbol's top: bids, asks
        self._numbers = numbers
        self._told = told

    # -- questions ----------------------------------------------------------------------------------------------------

    def find(self, order_id: str, client_id: str) -> Order | None:
        """By the exchange's id if one is given, else by the caller's."""
        return self.orders.get(order_id) if order_id else self._by_client_id.get(client_id)

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Oldest first."""
        if symbol is not None:
            return list(self._open.get(symbol, {}).values())
        found = [order for orders in self._open.values() for order in orders.values()]
        return sorted(found, key=lambda order: int(order.order_id.removeprefix(ORDER_ID_PREFIX)))

    @property
    def open_symbols(self) -> list[str]:
        return [symbol for symbol, orders in self._open.items() if orders]

    def rates(self, spec: InstrumentSpec) -> tuple[Decimal, Decimal]:
        """Maker's and taker's fee of this account."""
        account = self.account
        maker = spec.maker_fee if account.maker_fee is None else account.maker_fee
        taker = spec.taker_fee if account.taker_fee is None else account.taker_fee
        return maker, taker

    # -- orders -------------------------------------------------------------------------------------------------------

    @exact
    def check_means(self, wish: Wish, spec: InstrumentSpec) -> tuple[str, Decimal]:
        """What the order must hold, and how much of it; raises ApiError if that is not there, or the id is used."""
        if wish.client_id and wish.client_id in self._by_client_id:
            raise ApiError(*refusals.DUPLICATE)
        if sum(map(len, self._open.values())) >= OPEN_ORDERS_MAX:
            raise ApiError(*refusals.TOO_MANY_ORDERS)
        if wish.side == SELL:
            if self.wallet.free(spec.base_asset) < wish.quantity:
                raise ApiError(*refusals.OVERSOLD)
            return spec.base_asset, wish.quantity
        amount = wish.amount or wish.price * wish.quantity
        # Held with the fee it may cost, so that the fee never makes the balance negative.
        needed = amount if wish.amount else amount + fee_of(amount, max(self.rates(spec)))
        if self.wallet.free(spec.quote_asset) < needed:
            raise ApiError(*refusals.INSUFFICIENT)
        return spec.quote_asset, needed

    @exact
    def place(self, wish: Wish, spec: InstrumentSpec, top: Top | None, now_ms: int) -> Order:
        """Accept an order and let it trade; raises ApiError as `check_means` does."""
        asset, needed = self.check_means(wish, spec)
        order = Order(f"{ORDER_ID_PREFIX}{self._numbers()}", wish, now_ms, now_ms, asset, needed)
        self.orders[order.order_id] = order
        if wish.client_id:
            self._by_client_id[wish.client_id] = order
        self._open.setdefault(wish.symbol, {})[order.order_id] = order
        self.wallet.lock(asset, needed)
        self._told.order(order)
        if top is not None:
            self._take(order, spec, top, now_ms)
        if order.open and wish.kind not in ("LIMIT", "LIMIT_MAKER"):
            self._end(order, now_ms)
        return order

    def cancel(self, order: Order, now_ms: int) -> None:
        """End an open order."""
        assert order.open
        self._end(order, now_ms)

    def _take(self, order: Order, spec: InstrumentSpec, top: Top, now_ms: int) -> None:
        """Trade against the top of the book as it stands when the order comes."""
        wish, buying = order.wish, order.wish.side == BUY
        best, there = self._left(wish.symbol, top, wish.side)
        if not best:
            return
        if wish.kind != "MARKET" and (wish.price < best if buying else wish.price > best):
            return
        if wish.kind == "LIMIT_MAKER":  # it would take, which it must not
            self._end(order, now_ms)
            return
        wanted = order.remaining if wish.quantity else self._affordable(wish.amount, best, spec)
        if wish.kind == "FILL_OR_KILL" and there < wanted:
            return
        quantity = min(wanted, there)
        if quantity:
            self._note_taken(wish.symbol, top, wish.side, quantity)
            self._fill(order, spec, best, quantity, maker=False, now_ms=now_ms)
        if order.open and wish.amount and quantity == wanted and quantity:
            self._finish(order, "FILLED", "ENTRUST_UNFROZEN", now_ms)  # what is left buys not even one step

    def _affordable(self, amount: Decimal, price: Decimal, spec: InstrumentSpec) -> Decimal:
        """How much an amount buys when its fee is paid from it too, in whole steps."""
        step = Decimal(1).scaleb(-spec.quantity_decimals)
        whole = (amount / (price * (1 + self.rates(spec)[1]))).quantize(step, ROUND_DOWN)
        while whole and price * whole + fee_of(price * whole, self.rates(spec)[1]) > amount:
            whole -= step
        return whole

    # -- the market moves ---------------------------------------------------------------------------------------------

    @exact
    def on_top(self, symbol: str, spec: InstrumentSpec, top: Top, now_ms: int) -> None:
        """A new top of the book: what it reaches is filled, oldest first."""
        for order in self.open_orders(symbol):
            best, there = self._left(symbol, top, order.wish.side)
            reached = order.wish.price >= best if order.wish.side == BUY else order.wish.price <= best
            quantity = min(order.remaining, there)
            if best and reached and quantity:
                self._note_taken(symbol, top, order.wish.side, quantity)
                time_ms = max(now_ms, order.created_ms)
                self._fill(order, spec, order.wish.price, quantity, maker=True, now_ms=time_ms)

    @exact
    def on_trades(self, symbol: str, spec: InstrumentSpec, trades: Sequence[Through]) -> None:
        """Trades of the market that pass through a resting price fill it, unless they were before the order."""
        for trade in trades:
            left = trade.quantity
            for order in self.open_orders(symbol):
                if not left or not _passed(trade, order):
                    continue
                quantity = min(order.remaining, left)
                left -= quantity
                self._fill(order, spec, order.wish.price, quantity, maker=True, now_ms=trade.time_ms)

    def _left(self, symbol: str, top: Top, side: int) -> tuple[Decimal, Decimal]:
        """Price and size that a side may still take of a top of the book."""
        known, bids, asks = self._taken.get(symbol, (top, ZERO, ZERO))
        if known != top:
            bids = asks = ZERO
        if side == BUY:
            return top.ask, max(top.ask_quantity - asks, ZERO)
        return top.bid, max(top.bid_quantity - bids, ZERO)

    def _note_taken(self, symbol: str, top: Top, side: int, quantity: Decimal) -> None:
        known, bids, asks = self._taken.get(symbol, (top, ZERO, ZERO))
        if known != top:
            bids = asks = ZERO
        taken = (bids, asks + quantity) if side == BUY else (bids + quantity, asks)
        self._taken[symbol] = (top, *taken)

    # -- bookings -----------------------------------------------------------------------------------------------------

    def _fill(
        self, order: Order, spec: InstrumentSpec, price: Decimal, quantity: Decimal, *, maker: bool, now_ms: int
    ) -> None:
        amount = price * quantity
        fee, fee_asset = self._fee(order.wish.side, spec, amount, quantity, maker=maker)
        if fee_asset == order.lock_asset:  # several fees rounded up may come to more than the one that was held
            fee = min(fee, order.locked - amount - order.wish.price * (order.remaining - quantity))
        deal = Deal(self._numbers(), price, quantity, amount, fee, fee_asset, maker, now_ms)
        order.deals.append(deal)
        order.executed += quantity
        order.executed_amount += amount
        order.last_price, order.updated_ms = price, now_ms
        spent, received = (amount, quantity) if order.wish.side == BUY else (quantity, amount)
        gained = spec.base_asset if order.wish.side == BUY else spec.quote_asset
        order.locked -= spent
        self.wallet.change(order.lock_asset, ZERO, -spent, "ENTRUST")
        self.wallet.change(gained, received, ZERO, "ENTRUST")
        if fee and fee_asset == order.lock_asset:
            order.locked -= fee
            self.wallet.change(fee_asset, ZERO, -fee, "TRADE_FEE")
        elif fee:
            self.wallet.change(fee_asset, -fee, ZERO, "TRADE_FEE")
        self._told.deal(order, deal)
        done = bool(order.wish.quantity) and not order.remaining
        if done:
            self._finish(order, "FILLED", "ENTRUST_UNFROZEN", now_ms)
        else:
            order.status = "PARTIALLY_FILLED"
            self._told.order(order)

    def _fee(
        self, side: int, spec: InstrumentSpec, amount: Decimal, quantity: Decimal, *, maker: bool
    ) -> tuple[Decimal, str]:
        """How much of which asset, rounded up to eight places."""
        maker_rate, taker_rate = self.rates(spec)
        rate = maker_rate if maker else taker_rate
        if self.fees_in_mx and self.account.mx_price:
            fee = fee_of(amount / self.account.mx_price, rate)
            if self.wallet.free("MX") >= fee and spec.base_asset != "MX":
                return fee, "MX"
        if self.account.fee_asset == "received" and side == BUY:
            return fee_of(quantity, rate), spec.base_asset
        return fee_of(amount, rate), spec.quote_asset

    def _end(self, order: Order, now_ms: int) -> None:
        status = "PARTIALLY_CANCELED" if order.executed else "CANCELED"
        self._finish(order, status, "ENTRUST_CANCEL", now_ms)

    def _finish(self, order: Order, status: str, why: str, now_ms: int) -> None:
        """The order is over: what it still holds is free again."""
        order.status, order.updated_ms = status, now_ms
        del self._open[order.wish.symbol][order.order_id]
        held, order.locked = order.locked, ZERO
        if held:
            self.wallet.unlock(order.lock_asset, held, why)
        self._told.order(order)


def _passed(trade: Through, order: Order) -> bool:
    """Whether a trade went through the price of an order that was resting then."""
    if trade.time_ms <= order.created_ms:
        return False
    if order.wish.side == BUY:
        return trade.side == SELL and trade.price < order.wish.price
    return trade.side == BUY and trade.price > order.wish.price
