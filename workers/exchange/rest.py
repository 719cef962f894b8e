"""The public REST: parameters in, documents out, errors as the real exchange words them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from workers.exchange import rest_market as market
from workers.exchange.candles import INTERVALS
from workers.exchange.errors import INVALID_SYMBOL, ApiError
from workers.exchange.errors import json_answer as _answer
from workers.exchange.hub import Hub
from workers.exchange.log import EventLog
from workers.exchange.market import Print, TradeColumns
from workers.exchange.rest_budget import RestBudget

HOUR_MS: Final = 3_600_000
TIME_MAX_MS: Final = 10**14
WINDOW_TOO_LONG: Final = (-1127, "More than 1 hours between startTime and endTime.")
BAD_COMBINATION: Final = (-1128, "Combination of optional parameters invalid.")


def error_middleware(log: EventLog) -> Middleware:
    """Refused parameters are answered with their code; a defect of ours is logged and answered with 500."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return _answer({"code": error.code, "msg": error.message}, error.status)
        except web.HTTPException as error:
            return _answer({"code": error.status, "msg": error.reason}, error.status)
        except Exception as error:  # noqa: BLE001 - the last frame of a request: logged and answered, never hidden
            log.event("request_failed", path=request.path, error=repr(error))
            return _answer({"code": 500, "msg": "internal error"}, 500)

    return middleware


def _integer(request: web.Request, name: str, low: int, high: int) -> int | None:
    """A whole number of the query, None if absent; above `high` it is cut, as the real exchange does."""
    text = request.query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) < low:
        raise ApiError(33333, f"Parameter error: {name}")
    return min(int(text), high)


class Rest:
    """Handlers over what has happened up to the time told of, never beyond it. `amend` corrects a symbol's filters."""

    def __init__(self, hub: Hub, budget: RestBudget, amend: Callable[[str, market.Document], None]) -> None:
        self._hub = hub
        self._amend = amend
        self._source = hub.source
        self._budget = budget

    def routes(self) -> list[web.RouteDef]:
        """Every endpoint with its path."""
        public: dict[str, Handler] = {
            "ping": self.ping,
            "time": self.time,
            "exchangeInfo": self.exchange_info,
            "defaultSymbols": self.default_symbols,
            "depth": self.depth,
            "trades": self.trades,
            "aggTrades": self.aggregate_trades,
            "klines": self.klines,
            "avgPrice": self.average_price,
            "ticker/24hr": self.day_tickers,
            "ticker/price": self.prices,
            "ticker/bookTicker": self.book_tickers,
        }
        routes = [web.get(f"/api/v3/{path}", handler) for path, handler in public.items()]
        contracts = web.get("/api/v1/contract/detail", self.contracts)
        ours = {"status": self.status, "connections": self.connections}
        return [*routes, contracts, *(web.get(f"/exchange/{path}", handler) for path, handler in ours.items())]

    @property
    def _told_ms(self) -> int:
        """Up to where REST tells what happened; the newest part may be held back on command."""
        return self._hub.reached_ms - self._hub.rules.rest_lag_ms

    @property
    def _clock_ms(self) -> int:
        return self._hub.clock.now_ms() + self._hub.rules.clock_skew_ms

    def _prints(self, symbol: str, columns: TradeColumns) -> list[Print]:
        """The trades, without those that are kept secret on command."""
        untold = self._hub.rules.untold.get(symbol)
        prints = columns.prints()
        return [row for row in prints if row.trade_id not in untold] if untold else prints

    def _known(self, symbol: str) -> str:
        if symbol not in self._hub.listed:
            raise ApiError(*INVALID_SYMBOL)
        return symbol

    def _symbol(self, request: web.Request) -> str:
        symbol = request.query.get("symbol", "")
        if not symbol:
            raise ApiError(44444, "Parameter null: symbol")
        return self._known(symbol)

    def _symbols(self, request: web.Request) -> list[str]:
        """One symbol, several of `symbols=A,B`, or all."""
        if "symbol" in request.query:
            return [self._symbol(request)]
        if "symbols" in request.query:
            return [self._known(symbol) for symbol in request.query["symbols"].split(",")]
        return list(self._hub.listed)

    async def ping(self, _request: web.Request) -> web.Response:
        """Alive."""
        return _answer({})

    async def time(self, _request: web.Request) -> web.Response:
        """Event time, not wall time."""
        return _answer({"serverTime": self._clock_ms})

    async def status(self, _request: web.Request) -> web.Response:
        """Where the source stands; ours, not the real exchange's."""
        hub, clock = self._hub, self._hub.clock
        status = {
            "source": self._source.kind,
            "speed": clock.speed,
            "start_ms": clock.start_ms,
            "event_time_ms": clock.now_ms(),
            "end_ms": clock.end_ms,
            "started": clock.started,
            "finished": hub.finished,
            "trades_sent": hub.feed.sent_count,
            "connections": len(hub.connections),
            "resumed_from_ms": self._source.resumed_from_ms,
            "rest": self._budget.status(),
        }
        return _answer(status)

    async def connections(self, _request: web.Request) -> web.Response:
        """Every open WebSocket with its number, as commands name it; ours too."""
        rows = [
            {
                "c": connection.number,
                "open": connection.open,
                "channels": [channel.text for channel in connection.channels] + sorted(connection.private_channels),
                "faulty": connection.faults is not None,
                "unsent_bytes": connection.unsent_bytes,
            }
            for connection in sorted(self._hub.connections, key=lambda one: one.number)
        ]
        return _answer(rows)

    async def exchange_info(self, request: web.Request) -> web.Response:
        """Filters of one, several or all symbols."""
        instruments = self._source.instruments
        rows = []
        for symbol in self._symbols(request):
            rows.append(market.exchange_info_row(instruments[symbol]))
            self._amend(symbol, rows[-1])
        info = {
            "timezone": "CST",
            "serverTime": self._clock_ms,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": rows,
        }
        return _answer(info)

    async def default_symbols(self, _request: web.Request) -> web.Response:
        """Symbols that may be traded through the API: all."""
        return _answer({"code": 200, "data": list(self._hub.listed), "msg": None})

    async def contracts(self, _request: web.Request) -> web.Response:
        """No futures are listed here; clients that load all markets at once ask for them too."""
        return _answer({"success": True, "code": 0, "data": []})

    async def depth(self, request: web.Request) -> web.Response:
        """Levels grown from the quote in force."""
        symbol = self._symbol(request)
        levels = _integer(request, "limit", 1, market.DEPTH_LEVELS_MAX) or 100
        return _answer(market.depth(self._hub.feed.quote(symbol), symbol, self._source.instruments[symbol], levels))

    async def trades(self, request: web.Request) -> web.Response:
        """The newest trades."""
        symbol, limit = self._symbol(request), _integer(request, "limit", 1, 1_000) or 500
        columns = await asyncio.to_thread(self._source.last_trades, symbol, self._told_ms, limit)
        return _answer(market.trade_rows(self._prints(symbol, columns), self._source.instruments[symbol]))

    async def aggregate_trades(self, request: web.Request) -> web.Response:
        """Trades of at most an hour, or the newest; bounds are cut to the second and both included."""
        symbol, limit = self._symbol(request), _integer(request, "limit", 1, 1_000) or 500
        start_ms, end_ms = (_integer(request, name, 0, TIME_MAX_MS) for name in ("startTime", "endTime"))
        reached_ms = self._told_ms
        if (start_ms is None) != (end_ms is None) or (start_ms or 0) > (end_ms or 0):
            raise ApiError(*BAD_COMBINATION)
        if start_ms is None or end_ms is None:
            first_ms, last_ms = reached_ms - HOUR_MS, reached_ms
        elif end_ms - start_ms > HOUR_MS:
            raise ApiError(*WINDOW_TOO_LONG)
        else:
            first_ms, last_ms = start_ms // 1_000 * 1_000, min(end_ms // 1_000 * 1_000 + 999, reached_ms)
        columns = await asyncio.to_thread(self._source.trades, symbol, first_ms, last_ms)
        return _answer(market.aggregate_rows(self._prints(symbol, columns), self._source.instruments[symbol], limit))

    async def klines(self, request: web.Request) -> web.Response:
        """Closed candles and the open one; from startTime on, or the newest up to endTime."""
        symbol, limit = self._symbol(request), _integer(request, "limit", 1, 1_000) or 500
        interval = INTERVALS.get(request.query.get("interval", ""))
        if interval is None:
            raise ApiError(-1120, "Invalid interval.")
        start_ms, end_ms = (_integer(request, name, 0, TIME_MAX_MS) for name in ("startTime", "endTime"))
        reached_ms = self._told_ms
        window = (start_ms, reached_ms if end_ms is None else end_ms, limit)
        rows = await asyncio.to_thread(market.candles, self._source, symbol, interval, window, reached_ms)
        return _answer(market.kline_rows(rows, interval, self._source.instruments[symbol]))

    async def average_price(self, request: web.Request) -> web.Response:
        """Five minutes' average."""
        symbol = self._symbol(request)
        reached_ms = self._told_ms
        return _answer(await asyncio.to_thread(market.average_price, self._source, symbol, reached_ms))

    async def day_tickers(self, request: web.Request) -> web.Response:
        """A day's figures of one or all symbols."""
        reached_ms, feed = self._told_ms, self._hub.feed
        rows = [
            await asyncio.to_thread(market.day_ticker, self._source, symbol, feed.quote(symbol), reached_ms)
            for symbol in self._symbols(request)
        ]
        return _one_or_all(request, rows)

    async def prices(self, request: web.Request) -> web.Response:
        """Last prices of one or all symbols."""
        reached_ms = self._told_ms
        rows = [
            await asyncio.to_thread(market.last_price, self._source, symbol, reached_ms)
            for symbol in self._symbols(request)
        ]
        return _one_or_all(request, rows)

    async def book_tickers(self, request: web.Request) -> web.Response:
        """Quotes in force of one or all symbols."""
        feed, instruments = self._hub.feed, self._source.instruments
        rows = [
            market.book_ticker(symbol, feed.quote(symbol), instruments[symbol]) for symbol in self._symbols(request)
        ]
        return _one_or_all(request, rows)


def _one_or_all(request: web.Request, rows: list[market.Document]) -> web.Response:
    return _answer(rows[0] if "symbol" in request.query else rows)
