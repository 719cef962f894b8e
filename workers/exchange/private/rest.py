"""The signed REST: a key, a signature and a time on every request, then orders, balances and listen keys."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from workers.exchange.errors import INVALID_SYMBOL, ApiError, json_answer
from workers.exchange.private import refusals, signing
from workers.exchange.private.accounts import KEY
from workers.exchange.private.book import Book
from workers.exchange.private.desk import AccountsDesk
from workers.exchange.private.orders import (
    BUY,
    ZERO,
    Document,
    Order,
    Wish,
    acknowledgement,
    canceled_document,
    order_document,
    trade_document,
)
from workers.exchange.private.terms import Top, checked
from workers.exchange.private.values import text_of

DAY_MS: Final = 86_400_000
TRADES_REACH_MS: Final = 30 * DAY_MS
ORDERS_REACH_MS: Final = 7 * DAY_MS
SYMBOLS_AT_ONCE_MAX: Final = 5
ACCOUNT_REQUESTS_PER_SECOND_MAX: Final = 2
_TIME_MAX_MS: Final = 10**14
_JSON: Final = "application/json"
Values = Mapping[str, str]
Answer = Callable[[Book, Values], object]


class PrivateRest:
    """Handlers of one account each: whose key signed the request."""

    def __init__(self, desk: AccountsDesk, monotonic: Callable[[], float], rate: float) -> None:
        self._desk = desk
        self._hub = desk.hub
        self._monotonic = monotonic
        self._second = 1.0 / rate
        self._asked: dict[str, deque[float]] = {}

    def routes(self) -> list[web.RouteDef]:
        """Every signed endpoint, and one of ours that needs no key."""
        signed: tuple[tuple[str, str, Answer], ...] = (
            ("POST", "order", self.new_order),
            ("POST", "order/test", self.test_order),
            ("GET", "order", self.query_order),
            ("DELETE", "order", self.cancel_order),
            ("GET", "openOrders", self.open_orders),
            ("DELETE", "openOrders", self.cancel_open_orders),
            ("GET", "allOrders", self.all_orders),
            ("GET", "account", self.account),
            ("GET", "myTrades", self.my_trades),
            ("GET", "tradeFee", self.trade_fee),
            ("GET", "selfSymbols", self.self_symbols),
            ("GET", "mxDeduct/enable", self.mx_deduct),
            ("POST", "mxDeduct/enable", self.set_mx_deduct),
            ("POST", "userDataStream", self.new_listen_key),
            ("PUT", "userDataStream", self.extend_listen_key),
            ("GET", "userDataStream", self.listen_keys),
            ("DELETE", "userDataStream", self.close_listen_key),
        )
        routes = [web.route(method, f"/api/v3/{path}", self._signed(answer)) for method, path, answer in signed]
        return [*routes, web.get("/exchange/accounts", self.accounts)]

    # -- who asks -----------------------------------------------------------------------------------------------------

    def _signed(self, answer: Answer) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            body = (await request.read()).decode("utf-8", errors="replace")
            book, values = self._checked(request, body)
            return json_answer(answer(book, values))

        return handler

    def _checked(self, request: web.Request, body: str) -> tuple[Book, Values]:
        """The account and its parameters; raises ApiError for key, type of content, time and signature."""
        query = request.raw_path.partition("?")[2]
        if not (query + body).isprintable() or not (query + body).isascii():
            raise ApiError(*refusals.ILLEGAL_CHARACTERS)
        api_key = request.headers.get("X-MEXC-APIKEY", "")
        if not api_key:
            raise ApiError(*refusals.KEY_MISSING)
        if not KEY.fullmatch(api_key):
            raise ApiError(*refusals.KEY_MALFORMED)
        book = self._desk.book_of(api_key)
        if book is None:
            raise ApiError(*refusals.KEY_UNKNOWN)
        content_type = request.headers.get("Content-Type", _JSON)
        if request.method != "GET" and content_type.partition(";")[0].strip() != _JSON:
            raise ApiError(*refusals.WRONG_CONTENT_TYPE)
        signed = signing.read_request(query, body)
        clock, skew_ms = self._hub.clock, self._hub.rules.clock_skew_ms
        signing.check_time(signed.values, signing.Clock(clock.now_ms() + skew_ms, clock.running, clock.speed))
        signing.check_signature(signed, book.account.secret)
        return book, signed.values

    # -- orders -------------------------------------------------------------------------------------------------------

    def new_order(self, book: Book, values: Values) -> Document:
        """Accepted: an id and a time, but neither status nor fills."""
        wish = self._wish(book, values)
        top = self._desk.top(wish.symbol)
        order = self._desk.place(book, wish)
        return acknowledgement(order, wish.price or _best(top, order))

    def test_order(self, book: Book, values: Values) -> Document:
        """Everything is checked, nothing is done."""
        wish = self._wish(book, values)
        book.check_means(wish, self._hub.source.instruments[wish.symbol])
        return {}

    def query_order(self, book: Book, values: Values) -> Document:
        return order_document(self._found(book, values, refusals.NO_SUCH_ORDER))

    def cancel_order(self, book: Book, values: Values) -> Document:
        """Only what is open can be canceled."""
        self._symbol(values)
        order = self._found(book, values, refusals.UNKNOWN_ON_CANCEL)
        if not order.open:
            raise ApiError(*refusals.UNKNOWN_ON_CANCEL)
        self._desk.cancel(book, order)
        return canceled_document(order)

    def open_orders(self, book: Book, values: Values) -> list[Document]:
        return [order_document(order) for symbol in self._symbols(values) for order in book.open_orders(symbol)]

    def cancel_open_orders(self, book: Book, values: Values) -> list[Document]:
        orders = [order for symbol in self._symbols(values) for order in book.open_orders(symbol)]
        for order in orders:
            self._desk.cancel(book, order)
        return [canceled_document(order) for order in orders]

    def all_orders(self, book: Book, values: Values) -> list[Document]:
        """Newest first; the last day unless a start is given, never further back than seven days."""
        symbol, (start_ms, end_ms) = self._symbol(values), self._window(values, DAY_MS, ORDERS_REACH_MS)
        limit = _integer(values, "limit", 1, 1_000) or 500
        found = [
            order
            for order in book.orders.values()
            if order.wish.symbol == symbol and start_ms <= order.created_ms <= end_ms
        ]
        return [order_document(order) for order in found[: -limit - 1 : -1]]

    def my_trades(self, book: Book, values: Values) -> list[Document]:
        """Newest first, a month back. What is newer than the lag of REST is not told yet."""
        symbol, (start_ms, end_ms) = self._symbol(values), self._window(values, TRADES_REACH_MS, TRADES_REACH_MS)
        limit, order_id = _integer(values, "limit", 1, 1_000) or 100, values.get("orderId", "")
        lag_ms = self._hub.rules.rest_lag_ms
        end_ms = min(end_ms, self._desk.now_ms - lag_ms) if lag_ms else end_ms
        found = [
            (deal.time_ms, deal.number, trade_document(order, deal))
            for order in book.orders.values()
            if order.wish.symbol == symbol and order_id in ("", order.order_id)
            for deal in order.deals
            if start_ms <= deal.time_ms <= end_ms
        ]
        found.sort(key=lambda row: row[:2], reverse=True)
        return [document for _, _, document in found[:limit]]

    def _wish(self, book: Book, values: Values) -> Wish:
        if not book.account.can_trade:
            raise ApiError(*refusals.NO_PERMISSION)
        symbol = self._symbol(values)
        if symbol not in self._hub.listed:
            raise ApiError(*INVALID_SYMBOL)
        allowed = book.account.symbols
        if allowed is not None and symbol not in allowed:
            raise ApiError(*refusals.NOT_FOR_THIS_KEY)
        spec = self._hub.source.instruments[symbol]
        return checked(values, spec, self._desk.rules_of(symbol), self._desk.top(symbol))

    def _found(self, book: Book, values: Values, refusal: refusals.Refusal) -> Order:
        order_id, client_id = values.get("orderId", ""), values.get("origClientOrderId", "")
        if not order_id and not client_id:
            raise ApiError(*refusals.NO_ORDER_ID)
        order = book.find(order_id, client_id)
        if order is None or values.get("symbol", order.wish.symbol) != order.wish.symbol:
            raise ApiError(*refusal)
        return order

    def _symbol(self, values: Values) -> str:
        """One that is or was listed: what was ordered before can still be asked for and canceled."""
        symbol = values.get("symbol", "")
        if not symbol:
            raise refusals.missing("symbol")
        if symbol not in self._hub.source.instruments:
            raise ApiError(*INVALID_SYMBOL)
        return symbol

    def _symbols(self, values: Values) -> list[str]:
        """Up to five, separated by commas."""
        symbols = [self._symbol({"symbol": name}) for name in values.get("symbol", "").split(",")]
        if len(symbols) > SYMBOLS_AT_ONCE_MAX:
            raise refusals.wrong("symbol")
        return list(dict.fromkeys(symbols))

    def _window(self, values: Values, usual_ms: int, reach_ms: int) -> tuple[int, int]:
        now_ms = self._desk.now_ms
        start_ms, end_ms = (_integer(values, name, 0, _TIME_MAX_MS) for name in ("startTime", "endTime"))
        first_ms = now_ms - usual_ms if start_ms is None else max(start_ms, now_ms - reach_ms)
        return first_ms, _TIME_MAX_MS if end_ms is None else end_ms

    # -- the account --------------------------------------------------------------------------------------------------

    def account(self, book: Book, _values: Values) -> Document:
        """Balances; twice a second at most."""
        times, now = self._asked.setdefault(book.account.name, deque()), self._monotonic()
        while times and now - times[0] >= self._second:
            times.popleft()
        if len(times) >= ACCOUNT_REQUESTS_PER_SECOND_MAX:
            raise ApiError(429, "Too many requests", 429)
        times.append(now)
        return {
            "canTrade": book.account.can_trade,
            "canWithdraw": False,
            "canDeposit": False,
            "updateTime": None,
            "accountType": "SPOT",
            "balances": balances(book),
            "permissions": ["SPOT"],
        }

    def trade_fee(self, book: Book, values: Values) -> Document:
        """Fractions as JSON numbers, as the real exchange writes them."""
        maker, taker = book.rates(self._hub.source.instruments[self._symbol(values)])
        data = {"makerCommission": float(maker), "takerCommission": float(taker)}
        return {"data": data, "code": 0, "msg": "success", "timestamp": self._shown_ms}

    def self_symbols(self, book: Book, _values: Values) -> Document:
        allowed = book.account.symbols
        symbols = [symbol for symbol in self._hub.listed if allowed is None or symbol in allowed]
        return {"code": 200, "data": symbols, "msg": None}

    def mx_deduct(self, book: Book, _values: Values) -> Document:
        data = {"mxDeductEnable": book.fees_in_mx}
        return {"data": data, "code": 0, "msg": "success", "timestamp": self._shown_ms}

    def set_mx_deduct(self, book: Book, values: Values) -> Document:
        wanted = values.get("mxDeductEnable", "").lower()
        if wanted not in ("true", "false"):
            raise refusals.wrong("mxDeductEnable") if wanted else refusals.missing("mxDeductEnable")
        book.fees_in_mx = wanted == "true"
        return self.mx_deduct(book, values)

    @property
    def _shown_ms(self) -> int:
        return self._desk.now_ms + self._hub.rules.clock_skew_ms

    async def accounts(self, _request: web.Request) -> web.Response:
        """Ours: every account as it truly stands, without keys."""
        rows = [
            {
                "name": name,
                "balances": balances(book),
                "orders": [order_document(order) for order in book.orders.values()],
                "trades": sum(len(order.deals) for order in book.orders.values()),
                "listen_keys": len(self._desk.stream.keys.of(name)),
            }
            for name, book in self._desk.books.items()
        ]
        return json_answer(rows)

    # -- listen keys --------------------------------------------------------------------------------------------------

    def new_listen_key(self, book: Book, _values: Values) -> Document:
        return {"listenKey": self._desk.stream.keys.make(book.account.name)}

    def extend_listen_key(self, book: Book, values: Values) -> Document:
        key = values.get("listenKey", "")
        self._desk.stream.keys.extend(book.account.name, key)
        return {"listenKey": key}

    def listen_keys(self, book: Book, _values: Values) -> Document:
        return {"listenKey": self._desk.stream.keys.of(book.account.name)}

    def close_listen_key(self, book: Book, values: Values) -> Document:
        key = values.get("listenKey", "")
        self._desk.stream.keys.close(book.account.name, key)
        return {"listenKey": key}


def balances(book: Book) -> list[Document]:
    """Free and locked of every asset the account has ever held."""
    wallet = book.wallet
    return [
        {"asset": asset, "free": text_of(wallet.free(asset)), "locked": text_of(wallet.locked(asset))}
        for asset in wallet.assets
    ]


def _best(top: Top | None, order: Order) -> Decimal:
    """The price a market order met."""
    if top is None:
        return ZERO
    return top.ask if order.wish.side == BUY else top.bid


def _integer(values: Values, name: str, low: int, high: int) -> int | None:
    """A whole number, None if absent; above `high` it is cut."""
    text = values.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) < low:
        raise refusals.wrong(name)
    return min(int(text), high)
