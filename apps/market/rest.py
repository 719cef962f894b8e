"""The exchange's public REST: the calls that need no key, as typed answers.

Every call takes from the budget that all processes share. Certificates are always verified, and a redirection is an
error: it could lead to where they are not.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Protocol

from apps.bus.budget import WEIGHTS, BudgetSpent, pause_seconds
from apps.engine import timeouts

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
KLINES_MAX: Final = 1_000
ONLINE: Final = ("1", "ENABLED")
BOTH_SIDES: Final = "1"
MINUTE_MS: Final = 60_000
_CHUNK_BYTES: Final = 64 * 1024
_NUMBER_MAX: Final = Decimal(10) ** 21


class RestError(Exception):
    """The exchange did not give a usable answer. `retry` says whether asking again may help.

    `code` is the exchange's own number of the error, where it gave one.
    """

    def __init__(self, message: str, *, retry: bool, code: str = "") -> None:
        super().__init__(message)
        self.retry = retry
        self.code = code


class Budget(Protocol):
    """Permission to call (apps.bus.budget.RestBudget)."""

    def take(self, weight: int, *, wait_max_seconds: float = ...) -> float: ...

    def penalty(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Kline:
    """A candle of one minute: minutes since 1970, prices in the quote asset, volume in the base asset."""

    minute: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    turnover: Decimal


@dataclass(frozen=True, slots=True)
class Ticker:
    """24 hours of one symbol: turnover in the quote asset, movement as a fraction; None where nothing is told."""

    symbol: str
    turnover: Decimal | None
    movement: Decimal | None


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Rest:
    """The exchange at one address. `wait_max_seconds` bounds how long a call waits for its turn."""

    url: str
    budget: Budget | None = None
    wait_max_seconds: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    _opener: urllib.request.OpenerDirector = field(
        default_factory=lambda: urllib.request.build_opener(_NoRedirection()), repr=False, compare=False
    )

    def get(self, path: str, **parameters: str | int) -> Any:
        """GET `{url}/api/v3/{path}` as JSON, numbers with a point as Decimal. Raises `RestError`."""
        if not self.url.startswith(("http://", "https://")):
            raise RestError(f"{self.url!r} is not an http address", retry=False)
        self._wait_for_turn(path)
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        try:
            with self._opener.open(f"{self.url}/api/v3/{path}{query}", timeout=timeouts.REST_READ_SECONDS) as answer:
                body = self._body(path, answer)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(path, error) from error
        except (OSError, http.client.HTTPException) as error:
            raise RestError(f"{path}: {getattr(error, 'reason', error)}", retry=True) from error
        try:
            return json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
        except ValueError as error:
            raise RestError(f"{path}: the answer is not JSON", retry=True) from error

    def exchange_info(self) -> dict[str, dict[str, Any]]:
        """The exchange's symbols with their filters, by symbol. Raises `RestError`."""
        answer = self.get("exchangeInfo")
        rows = answer.get("symbols") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise RestError("exchangeInfo: no list of symbols in the answer", retry=False)
        return {str(row.get("symbol")): row for row in rows if isinstance(row, dict)}

    def klines(self, symbol: str, *, first_minute: int, last_minute: int) -> list[Kline]:
        """Closed minutes between the two (inclusive, at most 1,000), oldest first. Raises `RestError`.

        Minutes that the exchange does not tell are absent.
        """
        count = last_minute - first_minute + 1
        if not 1 <= count <= KLINES_MAX:
            raise ValueError(f"klines of {count} minutes at once")
        window = {"startTime": first_minute * MINUTE_MS, "endTime": last_minute * MINUTE_MS + MINUTE_MS - 1}
        rows = self.get("klines", symbol=symbol, interval="1m", limit=KLINES_MAX, **window)
        if not isinstance(rows, list):
            raise RestError(f"klines: no list in the answer for {symbol}", retry=True)
        found = {kline.minute: kline for kline in (_kline(symbol, row) for row in rows)}
        return [found[minute] for minute in sorted(found) if first_minute <= minute <= last_minute]

    def tickers(self) -> dict[str, Ticker]:
        """The last 24 hours of every symbol. Raises `RestError`."""
        rows = self.get("ticker/24hr")
        if not isinstance(rows, list):
            raise RestError("ticker/24hr: no list in the answer", retry=True)
        found = [_ticker(row) for row in rows if isinstance(row, dict) and row.get("symbol")]
        return {row.symbol: row for row in found}

    def _wait_for_turn(self, path: str) -> None:
        if self.budget is None:
            return
        try:
            wait = self.budget.take(WEIGHTS[path], wait_max_seconds=self.wait_max_seconds)
        except BudgetSpent as error:
            raise RestError(f"{path}: {error}", retry=True) from error
        if wait > 0:
            self.sleep(wait)

    def _body(self, path: str, answer: http.client.HTTPResponse) -> bytes:
        """The whole body, bounded in size and time: a server that answers drop by drop is left."""
        deadline = self.monotonic() + timeouts.REST_TOTAL_SECONDS
        parts: list[bytes] = []
        size = 0
        while part := answer.read1(_CHUNK_BYTES):
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise RestError(f"{path}: the answer is larger than {BODY_BYTES_MAX} bytes", retry=False)
            if self.monotonic() > deadline:
                raise RestError(f"{path}: no whole answer within {timeouts.REST_TOTAL_SECONDS} s", retry=True)
            parts.append(part)
        if answer.length:  # what the header promised and the connection did not bring
            raise RestError(f"{path}: the answer broke off {answer.length} bytes before its end", retry=True)
        return b"".join(parts)

    def _refused(self, path: str, error: urllib.error.HTTPError) -> RestError:
        """What the exchange says by another status than 200. A pause that it asks for holds for every process."""
        pause = pause_seconds(error.code, error.headers.get("Retry-After"))
        if pause is not None and self.budget is not None:
            self.budget.penalty(pause)
        code, words = _error_document(error)
        retry = error.code >= 500 or pause is not None
        again = f", asks for {pause:.0f} s of patience" if pause is not None else ""
        return RestError(f"{path}: HTTP {error.code}{words}{again}", retry=retry, code=code)


def exchange_info(rest_url: str, budget: Budget | None = None) -> dict[str, dict[str, Any]]:
    """`Rest.exchange_info` of an address."""
    return Rest(rest_url, budget).exchange_info()


def filters(row: dict[str, Any]) -> dict[str, Any]:
    """One row of exchangeInfo as our fields. Raises `RestError` naming what is missing; nothing has a default."""
    symbol = row.get("symbol")
    try:
        return {
            "base_asset": str(row["baseAsset"]),
            "quote_asset": str(row["quoteAsset"]),
            "price_decimals": int(row["quotePrecision"]),
            "quantity_decimals": int(row["baseAssetPrecision"]),
            "quantity_min": Decimal(str(row["baseSizePrecision"])),
            "notional_min": Decimal(str(row["quoteAmountPrecision"])),
            "notional_max": Decimal(str(row["maxQuoteAmount"])),
            "maker_fee": Decimal(str(row["makerCommission"])),
            "taker_fee": Decimal(str(row["takerCommission"])),
            "tradable": tradable(row),
        }
    except (KeyError, ValueError, InvalidOperation) as error:
        raise RestError(f"exchangeInfo: {symbol} lacks or misstates {error}", retry=False) from error


def tradable(row: dict[str, Any]) -> bool:
    """Whether a row of exchangeInfo says that both sides may be traded here now. Raises `KeyError`."""
    return (
        str(row["status"]) in ONLINE
        and bool(row["isSpotTradingAllowed"])
        and str(row.get("tradeSideType", BOTH_SIDES)) == BOTH_SIDES
    )


def _kline(symbol: str, row: Any) -> Kline:
    """`[open time, open, high, low, close, volume, close time, turnover]`; times in ms."""
    try:
        if type(row[0]) is not int or row[0] % MINUTE_MS:
            raise ValueError(f"opening time {row[0]!r}")
        first, high, low, last, volume, turnover = (_number(row[index]) for index in (1, 2, 3, 4, 5, 7))
        return Kline(row[0] // MINUTE_MS, first, high, low, last, volume, turnover)
    except (LookupError, TypeError, ValueError, InvalidOperation) as error:
        raise RestError(f"klines: {symbol} has an unreadable row ({error})", retry=True) from error


def _number(text: Any) -> Decimal:
    """A finite number that is not below zero. Raises `ValueError` or `InvalidOperation`."""
    value = Decimal(str(text))
    if not value.is_finite() or not 0 <= value < _NUMBER_MAX:
        raise ValueError(f"{text!r} is not a number of a market")
    return value


def _ticker(row: dict[str, Any]) -> Ticker:
    return Ticker(str(row["symbol"]), _told(row.get("quoteVolume")), _told(row.get("priceChangePercent"), signed=True))


def _told(value: Any, *, signed: bool = False) -> Decimal | None:
    """A number if one is told; an absent or senseless one must not cost the other symbols theirs."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    sound = number.is_finite() and abs(number) < _NUMBER_MAX and (signed or number >= 0)
    return number if sound else None


def _error_document(error: urllib.error.HTTPError) -> tuple[str, str]:
    """(code, words) of an error's body `{"code", "msg"}`; the code may be a number or text."""
    try:
        document = json.loads(error.read(_CHUNK_BYTES))
    except (OSError, ValueError, http.client.HTTPException):
        return "", ""
    if not isinstance(document, dict) or "msg" not in document:
        return "", ""
    return str(document.get("code", "")), f", {str(document['msg'])[:100]}"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
