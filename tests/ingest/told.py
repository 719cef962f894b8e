"""What an exchange's REST tells of trades that a test made up: merged, cut to seconds, in pages, late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from workers.ingest.config import Instrument
from workers.ingest.rest import MINUTE_MS, PAGE_ROWS, SECOND_MS, Kline, Print, RestError, Scaled

BTC = Instrument("BTCUSDT", 2, 4)


def merged(trades: Iterable[Print]) -> list[Print]:
    """As rows of aggTrades: trades of one ms, price and side become one, their time a whole second."""
    sums: dict[tuple[int, int, int], int] = {}
    for trade in trades:
        key = (trade.ts_event, trade.price, trade.side)
        sums[key] = sums.get(key, 0) + trade.quantity
    return [Print(ms // SECOND_MS * SECOND_MS, price, quantity, side) for (ms, price, side), quantity in sums.items()]


def kline_of(minute: int, trades: Iterable[Print], carried: int = 1_000) -> Kline:
    rows = [trade for trade in trades if trade.ts_event // MINUTE_MS == minute]
    if not rows:
        return Kline(minute, carried, carried, carried, carried, 0, 0, 1)
    prices = [row.price for row in rows]
    return Kline(
        minute,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(row.quantity for row in rows),
        sum(row.price * row.quantity for row in rows),
        1,
    )


@dataclass
class Told:
    """Answers like `Rest`; `trades` are in order of time. Notes what it was asked."""

    trades: list[Print]
    now_ms: int = 2**53
    lag_ms: int = 0  # of everything but the clock
    kept_from_ms: int = 0  # older trades are in klines only
    errors: dict[str, Exception] = field(default_factory=dict)
    asked: list[tuple[str, str, int, int]] = field(default_factory=list)

    def time_ms(self) -> int:
        self._ask("time", "", 0, 0)
        return self.now_ms

    def last_trades(self, instrument: Scaled) -> list[Print]:
        self._ask("trades", instrument.symbol, 0, 0)
        return self._kept()[-PAGE_ROWS:]

    def aggregates(self, instrument: Scaled, start_ms: int, end_ms: int) -> list[Print]:
        self._ask("aggTrades", instrument.symbol, start_ms, end_ms)
        if end_ms - start_ms > 60 * MINUTE_MS:
            raise RestError("More than 1 hours between startTime and endTime.")
        start, end = start_ms // SECOND_MS, end_ms // SECOND_MS
        rows = [row for row in merged(self._kept()) if start <= row.ts_event // SECOND_MS <= end]
        return rows[-PAGE_ROWS:]

    def klines(self, instrument: Scaled, first_minute: int, last_minute: int) -> dict[int, Kline]:
        self._ask("klines", instrument.symbol, first_minute, last_minute)
        known = self._known()
        carried = 1_000
        rows = {}
        for minute in range(first_minute, last_minute + 1):
            rows[minute] = kline_of(minute, known, carried)
            carried = rows[minute].close
        return rows

    def count(self, what: str) -> int:
        return sum(asked[0] == what for asked in self.asked)

    def _known(self) -> list[Print]:
        return [trade for trade in self.trades if trade.ts_event <= self.now_ms - self.lag_ms]

    def _kept(self) -> list[Print]:
        return [trade for trade in self._known() if trade.ts_event >= self.kept_from_ms]

    def _ask(self, what: str, symbol: str, first: int, last: int) -> None:
        self.asked.append((what, symbol, first, last))
        if what in self.errors:
            raise self.errors[what]
