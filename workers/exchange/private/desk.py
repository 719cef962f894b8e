"""All accounts on one market: their books, what moves them, and who is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.quotes import Quote
from workers.exchange.hub import Hub
from workers.exchange.market import Moves, Print
from workers.exchange.private.accounts import Account
from workers.exchange.private.book import Book, Numbers, Through, Told
from workers.exchange.private.orders import SIDE_NAMES, Deal, Order, Wish
from workers.exchange.private.stream import PrivateStream
from workers.exchange.private.terms import PLAIN_RULES, SymbolRules, Top
from workers.exchange.private.values import from_units, text_of


class AccountsDesk:
    """Orders go through here, so that each is journaled before anybody hears of it."""

    def __init__(self, accounts: Sequence[Account], hub: Hub, stream: PrivateStream, numbers: Numbers) -> None:
        self.hub = hub
        self.stream = stream
        self.rules: dict[str, SymbolRules] = {}
        self.pinned: dict[str, Top] = {}  # tops of the book that were set on command
        self.books = {account.name: Book(account, numbers, self._told(account.name)) for account in accounts}
        self._by_key = {book.account.api_key: book for book in self.books.values()}

    def book_of(self, api_key: str) -> Book | None:
        return self._by_key.get(api_key)

    @property
    def now_ms(self) -> int:
        """Event time, without the error that may be ordered for the clock that is shown."""
        return self.hub.clock.now_ms()

    # -- the market ---------------------------------------------------------------------------------------------------

    def rules_of(self, symbol: str) -> SymbolRules:
        return self.rules.get(symbol, PLAIN_RULES)

    def top(self, symbol: str) -> Top | None:
        """The best prices and sizes as accounts meet them; None if nobody has quoted yet."""
        if symbol in self.pinned:
            return self.pinned[symbol]
        timed = self.hub.feed.quote(symbol)
        return None if timed is None else _top(timed.quote, self.hub.source.instruments[symbol])

    def pin(self, symbol: str, top: Top | None) -> None:
        """Hold a symbol's top where it is said, or let it go again; what rests meets it at once."""
        if top is None:
            self.pinned.pop(symbol, None)
        else:
            self.pinned[symbol] = top
        self._meet(symbol)

    def _meet(self, symbol: str) -> None:
        """Show the top of the book to what rests."""
        top, spec = self.top(symbol), self.hub.source.instruments[symbol]
        for book in self.books.values() if top is not None else ():
            if book.open_orders(symbol):
                assert top is not None
                book.on_top(symbol, spec, top, self.now_ms)

    def step(self, moves: Mapping[str, Moves]) -> None:
        """What happened on the market in a step of event time; trades first, then the quotes that came of them."""
        for book in self.books.values():
            for symbol in book.open_symbols:
                move = moves.get(symbol)
                if move is None or symbol in self.pinned:
                    continue
                spec = self.hub.source.instruments[symbol]
                if move.prints:
                    book.on_trades(symbol, spec, [_through(row, spec) for row in move.prints])
                for timed in move.quotes:
                    book.on_top(symbol, spec, _top(timed.quote, spec), timed.time_ms)

    # -- orders -------------------------------------------------------------------------------------------------------

    def place(self, book: Book, wish: Wish) -> Order:
        """Accept an order; raises ApiError. The journal has it on disk before the caller can be answered."""
        spec = self.hub.source.instruments[wish.symbol]
        order = book.place(wish, spec, self.top(wish.symbol), self.now_ms)
        self.hub.journal.flush()
        return order

    def cancel(self, book: Book, order: Order) -> None:
        """End an open order."""
        book.cancel(order, self.now_ms)
        self.hub.journal.flush()

    def _told(self, account: str) -> Told:
        def order_told(order: Order) -> None:
            self._journal_order(account, order)
            self.stream.order(account, order, self.now_ms)

        def deal_told(order: Order, deal: Deal) -> None:
            self._journal_deal(account, order, deal)
            self.stream.deal(account, order, deal, self.now_ms)

        return Told(order_told, deal_told, lambda change: self.stream.balance(account, change, self.now_ms))

    def _journal_order(self, account: str, order: Order) -> None:
        wish, first = order.wish, order.status == "NEW"
        head: dict[str, object] = {"a": account, "id": order.order_id, "client": wish.client_id}
        if not first:
            self.hub.journal.event("order_status", **head, status=order.status, t=order.updated_ms)
            return
        self.hub.journal.event(
            "order",
            **head,
            s=wish.symbol,
            side=SIDE_NAMES[wish.side],
            type=wish.kind,
            p=text_of(wish.price),
            q=text_of(wish.quantity),
            amount=text_of(wish.amount),
            t=order.created_ms,
        )

    def _journal_deal(self, account: str, order: Order, deal: Deal) -> None:
        self.hub.journal.event(
            "fill",
            a=account,
            id=order.order_id,
            client=order.wish.client_id,
            trade=deal.trade_id,
            s=order.wish.symbol,
            side=SIDE_NAMES[order.wish.side],
            p=text_of(deal.price),
            q=text_of(deal.quantity),
            fee=text_of(deal.fee),
            fee_asset=deal.fee_asset,
            maker=deal.maker,
            t=deal.time_ms,
        )


def _top(quote: Quote, spec: InstrumentSpec) -> Top:
    price, quantity = spec.price_decimals, spec.quantity_decimals
    return Top(
        from_units(quote.bid_ticks, price),
        from_units(quote.bid_steps, quantity),
        from_units(quote.ask_ticks, price),
        from_units(quote.ask_steps, quantity),
    )


def _through(row: Print, spec: InstrumentSpec) -> Through:
    price = from_units(row.price_ticks, spec.price_decimals)
    return Through(row.side, price, from_units(row.quantity_steps, spec.quantity_decimals), row.time_ms)
