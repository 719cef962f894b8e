"""The exchange's public REST as the ingest asks it: within the shared budget, checked, in whole ticks and steps."""

from __future__ import annotations

import http.client
import re
import threading
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, Protocol, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from apps.bus.budget import WEIGHTS, BudgetSpent, pause_seconds
from apps.engine import timeouts
from apps.engine.events import BUY, SELL
from workers.ingest.clock import Clock
from workers.ingest.numbers import INT64_MAX, BadNumber, to_units

MINUTE_MS: Final = 60_000
SECOND_MS: Final = 1_000
PAGE_ROWS: Final = 1_000
WINDOW_MINUTES_MAX: Final = 60  # of aggTrades; the exchange refuses more
KLINES_MAX: Final = 1_000
_BODY_BYTES_MAX: Final = 4 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_TURN_SECONDS_MAX: Final = 60.0
_LEAST_SECONDS: Final = 1.0  # of the machine: a socket does not get faster with the clock
_EXACT: Final = Context(prec=90, rounding=ROUND_HALF_EVEN)
_DECIMAL: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")

KlineRow = tuple[
    int, str, str, str, str, str, int, str
]  # open time, open, high, low, close, volume, close time, turnover
T = TypeVar("T")


class RestError(Exception):
    """The exchange gave no usable answer, this time."""


class Busy(RestError):
    """Nothing may be asked before `seconds` of the machine are over; this call was not answered for that reason."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Ended(Exception):
    """The ingest stops: nothing is asked any more."""


class Scaled(Protocol):
    """A symbol with the decimals of its price and of its quantity."""

    @property
    def symbol(self) -> str: ...

    @property
    def price_decimals(self) -> int: ...

    @property
    def quantity_decimals(self) -> int: ...


class Budget(Protocol):
    """Permission to call (apps.bus.budget.RestBudget)."""

    def take(self, weight: int, *, wait_max_seconds: float = ...) -> float: ...

    def penalty(self, seconds: float) -> None: ...


class Unlimited:
    """A budget without bounds, for tests and benches that have no Redis."""

    def take(self, weight: int, *, wait_max_seconds: float = 0.0) -> float:
        del weight, wait_max_seconds
        return 0.0

    def penalty(self, seconds: float) -> None:
        """Nobody else calls."""


@dataclass(frozen=True, slots=True)
class Print:
    """One row of trades. In ticks and steps; `ts_event` is in ms, of aggTrades a whole second."""

    ts_event: int
    price: int
    quantity: int
    side: int


@dataclass(frozen=True, slots=True)
class Kline:
    """The exchange's sums of one minute: prices in ticks, volume in steps, `turnover` in tick x step.

    `turnover_unit` is the last decimal in which the exchange states the turnover, in tick x step too: 1 if it is
    exact. Values with more decimals than the instrument's are rounded half to even.
    """

    minute: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    turnover_unit: int


class _Time(msgspec.Struct):
    serverTime: int  # noqa: N815  (the exchange's name)


class _TradeRow(msgspec.Struct):
    price: str
    qty: str
    time: int
    isBuyerMaker: bool  # noqa: N815  (the exchange's name)


class _AggregateRow(msgspec.Struct):
    p: str
    q: str
    T: int
    m: bool


class Rest:
    """Safe to share between threads. Each call waits for its turn in the budget; `ended` cuts that short."""

    def __init__(self, url: str, budget: Budget, clock: Clock, ended: threading.Event | None = None) -> None:
        self._url = urlsplit(url)
        self._budget = budget
        self._clock = clock
        self._ended = ended or threading.Event()

    def time_ms(self) -> int:
        """The exchange's clock. Raises `RestError`, `Ended`."""
        return _decode(self._get("time"), _Time, "time").serverTime

    def last_trades(self, instrument: Scaled) -> list[Print]:
        """The newest trades, oldest first; 1,000 at most. Raises `RestError`, `Ended`."""
        body = self._get("trades", symbol=instrument.symbol, limit=PAGE_ROWS)
        rows = _decode(body, list[_TradeRow], "trades")
        rows.reverse()
        return [_print(row.time, row.price, row.qty, row.isBuyerMaker, instrument) for row in rows]

    def aggregates(self, instrument: Scaled, start_ms: int, end_ms: int) -> list[Print]:
        """The newest rows between two whole seconds (inclusive), oldest first; 1,000 at most.

        Raises `RestError`, `Ended`.
        """
        if end_ms - start_ms > WINDOW_MINUTES_MAX * MINUTE_MS:
            raise ValueError(f"aggTrades of {end_ms - start_ms} ms at once")
        body = self._get("aggTrades", symbol=instrument.symbol, startTime=start_ms, endTime=end_ms, limit=PAGE_ROWS)
        rows = _decode(body, list[_AggregateRow], "aggTrades")
        rows.reverse()
        return [_print(row.T, row.p, row.q, row.m, instrument) for row in rows]

    def klines(self, instrument: Scaled, first_minute: int, last_minute: int) -> dict[int, Kline]:
        """What the exchange tells of the minutes from first to last, 1,000 at most. Raises `RestError`, `Ended`."""
        if not 0 <= last_minute - first_minute < KLINES_MAX:
            raise ValueError(f"klines of minutes {first_minute} to {last_minute} at once")
        window = {"startTime": first_minute * MINUTE_MS, "endTime": last_minute * MINUTE_MS + MINUTE_MS - 1}
        body = self._get("klines", symbol=instrument.symbol, interval="1m", limit=KLINES_MAX, **window)
        klines = parse_klines(body, instrument)
        return {kline.minute: kline for kline in klines if first_minute <= kline.minute <= last_minute}

    def last_klines(self, instrument: Scaled, count: int) -> list[Kline]:
        """The newest minutes, the open one included, as the exchange orders them. Raises `RestError`, `Ended`."""
        body = self._get("klines", symbol=instrument.symbol, interval="1m", limit=count)
        return parse_klines(body, instrument)

    def pause(self, seconds: float) -> bool:
        """Rest for so long; True if the ingest stops meanwhile."""
        return self._ended.wait(seconds)

    # --- one call ---------------------------------------------------------------------------------------------------

    def _get(self, path: str, **parameters: str | int) -> bytes:
        self._wait_for_turn(path)
        try:
            return self._call(path, f"{self._url.path.rstrip('/')}/api/v3/{path}?{urlencode(parameters)}")
        except (OSError, http.client.HTTPException) as error:
            raise RestError(f"{path}: {error or type(error).__name__}") from error

    def _wait_for_turn(self, path: str) -> None:
        try:
            wait = self._budget.take(WEIGHTS[path], wait_max_seconds=_TURN_SECONDS_MAX)
        except BudgetSpent as error:
            raise Busy(f"{path}: {error}", error.seconds) from error
        if self._ended.wait(wait) or self._ended.is_set():
            raise Ended

    def _call(self, path: str, address: str) -> bytes:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(
            self._url.hostname or "", self._url.port, timeout=self._seconds(timeouts.REST_CONNECT_SECONDS)
        )
        deadline = self._clock.since_boot() + self._seconds(timeouts.REST_TOTAL_SECONDS)
        try:
            connection.connect()
            connection.sock.settimeout(self._seconds(timeouts.REST_READ_SECONDS))
            connection.request("GET", address)
            response = connection.getresponse()
            self._heed(path, response)
            body = bytearray()
            while part := response.read1(_CHUNK_BYTES):
                body += part
                if len(body) > _BODY_BYTES_MAX:
                    raise RestError(f"{path}: the answer is larger than {_BODY_BYTES_MAX} bytes")
                if self._clock.since_boot() > deadline:
                    raise RestError(f"{path}: no whole answer within {timeouts.REST_TOTAL_SECONDS} s")
            if response.length:  # what the header promised and the connection did not bring
                raise RestError(f"{path}: the answer broke off {response.length} bytes before its end")
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise RestError(f"{path}: HTTP {response.status} {bytes(body[:200]).decode(errors='replace').strip()}")
        return bytes(body)

    def _heed(self, path: str, response: http.client.HTTPResponse) -> None:
        """A pause that the exchange asks for holds for every process. Raises `Busy`."""
        pause = pause_seconds(response.status, response.getheader("Retry-After"))
        if pause is not None:
            self._budget.penalty(pause)
            words = f"{path}: HTTP {response.status}, the exchange asks for {pause:.0f} s of patience"
            raise Busy(words, self._clock.machine_seconds(pause))

    def _seconds(self, clock_seconds: float) -> float:
        return max(self._clock.machine_seconds(clock_seconds), _LEAST_SECONDS)


# --- answers ----------------------------------------------------------------------------------------------------------


def _decode(body: bytes, kind: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RestError(f"{path} are not readable: {error}") from error


def _print(ts_event: int, price: str, quantity: str, buyer_was_maker: bool, instrument: Scaled) -> Print:
    try:
        ticks = to_units(price, instrument.price_decimals)
        steps = to_units(quantity, instrument.quantity_decimals)
    except BadNumber as error:
        raise RestError(f"a row with price {price[:40]!r} and quantity {quantity[:40]!r}: {error.reason}") from error
    if ts_event <= 0:
        raise RestError(f"a row with time {ts_event}")
    return Print(ts_event, ticks, steps, SELL if buyer_was_maker else BUY)


def parse_klines(body: bytes, instrument: Scaled) -> list[Kline]:
    """The rows of an answer in its order. Raises `RestError` if one of them cannot be right."""
    return [_kline(row, instrument) for row in _decode(body, list[KlineRow], "klines")]


def _kline(row: KlineRow, instrument: Scaled) -> Kline:
    open_ms, opening, high, low, close, volume, _, turnover = row
    ticks, steps = instrument.price_decimals, instrument.quantity_decimals
    stated = len(turnover.partition(".")[2])
    kline = Kline(
        minute=open_ms // MINUTE_MS,
        open=_units(opening, ticks),
        high=_units(high, ticks),
        low=_units(low, ticks),
        close=_units(close, ticks),
        volume=_units(volume, steps),
        turnover=_units(turnover, ticks + steps),
        turnover_unit=int(10 ** max(ticks + steps - stated, 0)),
    )
    in_order = 0 < kline.low <= min(kline.open, kline.close) and max(kline.open, kline.close) <= kline.high
    if open_ms <= 0 or open_ms % MINUTE_MS or not in_order:
        raise RestError(f"kline at {open_ms} contradicts itself")
    if max(kline.high, kline.volume, kline.turnover) > INT64_MAX:
        raise RestError(f"kline at {open_ms} is too large")
    return kline


def _units(text: str, decimals: int) -> int:
    """`text` in units of 10^-decimals, rounded half to even where the exchange states more decimals than that."""
    if not _DECIMAL.fullmatch(text):
        raise RestError(f"kline value {text[:40]!r} is not a decimal number")
    return int(_EXACT.quantize(Decimal(text).scaleb(decimals, _EXACT), Decimal(1)))
