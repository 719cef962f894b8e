"""Closed minutes from the exchange's klines, fetched beside the stream so that no socket waits for them."""

from __future__ import annotations

import http.client
import queue
import re
import threading
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from apps.engine import timeouts
from apps.engine.events import WarmupBar
from workers.ingest import log
from workers.ingest.clock import Clock
from workers.ingest.numbers import INT64_MAX
from workers.ingest.symbols import SymbolState
from workers.ingest.tally import Tally

MINUTE_MS: Final = 60_000
DEADLINE_SECONDS: Final = 15
_THREADS: Final = 4
_BODY_BYTES_MAX: Final = 2 * 1024 * 1024
_DECIMAL: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")
_EXACT: Final = Context(prec=90, rounding=ROUND_HALF_EVEN)

Row = tuple[int, str, str, str, str, str, int, str]  # open time, open, high, low, close, volume, close time, turnover


class WarmupError(Exception):
    """The klines of a symbol could not be had."""


class WarmupJob:
    """The bars of some symbols, as far as they have come by the deadline. Filled by threads, read by the consumer."""

    def __init__(self, symbols: int, deadline: float) -> None:
        self._missing = symbols
        self._deadline = deadline
        self._bars: dict[str, list[WarmupBar]] = {}
        self._lock = threading.Lock()

    def finished(self, now: float) -> bool:
        return self._missing <= 0 or now >= self._deadline

    def expired(self, now: float) -> bool:
        return now >= self._deadline

    def deliver(self, symbol: str, bars: list[WarmupBar]) -> None:
        with self._lock:
            self._bars[symbol] = bars
            self._missing -= 1

    def bars(self) -> list[WarmupBar]:
        """Symbol by symbol, oldest first."""
        with self._lock:
            return [bar for bars in self._bars.values() for bar in bars]


class Warmup:
    """Fetches with a few threads of its own, started when there is something to do."""

    def __init__(self, rest_url: str, bars: int, tally: Tally, clock: Clock) -> None:
        self._url = urlsplit(rest_url)
        self._bars = bars
        self._tally = tally
        self._clock = clock
        self._orders: queue.SimpleQueue[tuple[WarmupJob, SymbolState, int]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, states: Sequence[SymbolState], since_ms: int) -> WarmupJob | None:
        """Fetch the minutes before the one of `since_ms`; None if no bars are wanted."""
        if self._bars == 0:
            return None
        job = WarmupJob(len(states), self._clock.monotonic() + DEADLINE_SECONDS)
        for state in states:
            self._orders.put((job, state, since_ms // MINUTE_MS))
        while len(self._threads) < _THREADS:
            thread = threading.Thread(target=self._work, name=f"warmup-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return job

    def _work(self) -> None:
        while True:
            job, state, before_minute = self._orders.get()
            bars: list[WarmupBar] = []
            try:
                if job.expired(self._clock.monotonic()):
                    raise WarmupError("not reached before the deadline")
                body = self._fetch(state.symbol)
                bars = parse_klines(body, state, before_minute, self._bars, self._clock.wall_ms())
            except (WarmupError, OSError, http.client.HTTPException) as error:
                self._tally.warmup_failed(state.symbol, str(error) or type(error).__name__)
            job.deliver(state.symbol, bars)
            log.event("warmup", symbol=state.symbol, bars=len(bars))

    def _fetch(self, symbol: str) -> bytes:
        host, port = self._url.hostname or "", self._url.port
        secure = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(host, port, timeout=self._clock.machine_seconds(timeouts.REST_CONNECT_SECONDS))
        query = urlencode({"symbol": symbol, "interval": "1m", "limit": self._bars + 1})
        try:
            connection.connect()
            connection.sock.settimeout(self._clock.machine_seconds(timeouts.REST_READ_SECONDS))
            connection.request("GET", f"{self._url.path.rstrip('/')}/api/v3/klines?{query}")
            response = connection.getresponse()
            body = response.read(_BODY_BYTES_MAX)
            if response.status != http.client.OK:
                raise WarmupError(f"HTTP status {response.status}")
            return body
        finally:
            connection.close()


def parse_klines(body: bytes, state: SymbolState, before_minute: int, bars_max: int, ts_init: int) -> list[WarmupBar]:
    """The newest `bars_max` closed minutes before `before_minute`, oldest first. Raises `WarmupError` for a bad row."""
    try:
        rows = msgspec.json.decode(body, type=list[Row])
    except msgspec.MsgspecError as error:
        raise WarmupError(f"klines are not readable: {error}") from error
    bars: dict[int, WarmupBar] = {}
    for row in rows:
        bar = _bar(row, state, ts_init)
        if bar.minute < before_minute:
            bars[bar.minute] = bar
    return [bars[minute] for minute in sorted(bars)][-bars_max:]


def _bar(row: Row, state: SymbolState, ts_init: int) -> WarmupBar:
    open_ms, opening, high, low, close, volume, _, turnover = row
    ticks, steps = state.price_decimals, state.quantity_decimals
    bar = WarmupBar(
        symbol=state.symbol,
        minute=open_ms // MINUTE_MS,
        open=_units(opening, ticks),
        high=_units(high, ticks),
        low=_units(low, ticks),
        close=_units(close, ticks),
        volume=_units(volume, steps),
        turnover=_units(turnover, ticks + steps),
        ts_init=ts_init,
    )
    in_order = 0 < bar.low <= min(bar.open, bar.close) and max(bar.open, bar.close) <= bar.high
    if open_ms <= 0 or open_ms % MINUTE_MS or not in_order:
        raise WarmupError(f"kline at {open_ms} contradicts itself")
    if max(bar.high, bar.volume, bar.turnover) > INT64_MAX:
        raise WarmupError(f"kline at {open_ms} is too large")
    return bar


def _units(text: Any, decimals: int) -> int:
    """`text` in units of 10^-decimals, rounded half to even where the exchange states more decimals than that."""
    if not _DECIMAL.fullmatch(text):
        raise WarmupError(f"kline value {text[:40]!r} is not a decimal number")
    return int(_EXACT.quantize(Decimal(text).scaleb(decimals, _EXACT), Decimal(1)))
