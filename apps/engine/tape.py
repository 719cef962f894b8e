"""What was last seen of one symbol: recent quotes, and the prices of the last minute."""

from __future__ import annotations

from bisect import bisect_right
from decimal import Decimal
from typing import Any, Final

from apps.engine.model import MINUTE_MS, Quote
from apps.engine.ticks import confirmed_price

QUOTES_MAX: Final = 2_000
PRICES_MAX: Final = 64


class QuoteTape:
    """Quotes in the order of the stream. Answers which one was in force at an event time.

    Quotes older than the symbol's newest trade are dropped but for the newest of them, so a quiet symbol keeps one and
    a busy one those of the frame that is being read.
    """

    def __init__(self, quotes: list[Quote] | None = None) -> None:
        self._quotes: list[Quote] = quotes or []
        self._times: list[int] = [quote.ts_event for quote in self._quotes]

    def add(self, quote: Quote) -> None:
        if self._times and quote.ts_event < self._times[-1]:
            return  # older than what is known: it never comes into force
        self._quotes.append(quote)
        self._times.append(quote.ts_event)
        if len(self._quotes) > QUOTES_MAX:
            self._cut(len(self._quotes) - QUOTES_MAX)

    def at(self, ts_event: int) -> Quote | None:
        """The last quote with an event time at or before `ts_event`."""
        index = bisect_right(self._times, ts_event)
        return self._quotes[index - 1] if index else None

    def forget_before(self, ts_event: int) -> None:
        """No question about a time before `ts_event` will come."""
        self._cut(max(bisect_right(self._times, ts_event) - 1, 0))

    def _cut(self, count: int) -> None:
        if count:
            del self._quotes[:count]
            del self._times[:count]

    def rows(self) -> list[list[int]]:
        return [[q.ts_event, q.bid, q.bid_quantity, q.ask, q.ask_quantity] for q in self._quotes]

    @classmethod
    def from_rows(cls, rows: list[list[int]]) -> QuoteTape:
        return cls([Quote(*row) for row in rows])


class PriceTape:
    """Prices of the last trades, at most 64: their median is a price that one wild print cannot move."""

    def __init__(self, rows: list[list[int]] | None = None) -> None:
        self._rows: list[tuple[int, int]] = [(int(ts), int(price)) for ts, price in rows or []]

    def extend(self, ts_event: list[int], price: list[int]) -> None:
        self._rows += zip(ts_event, price, strict=True)
        del self._rows[:-PRICES_MAX]

    def median(self, ts_event: int) -> Decimal | None:
        """Median price, in ticks, of the kept trades of the minute up to `ts_event`."""
        prices = sorted(price for ts, price in self._rows if ts_event - MINUTE_MS < ts <= ts_event)
        if not prices:
            return None
        middle = len(prices) // 2
        if len(prices) % 2:
            return Decimal(prices[middle])
        return Decimal(prices[middle - 1] + prices[middle]) / 2

    def confirmed(self) -> int | None:
        """The price, in ticks, that the kept trades confirm; None before the first."""
        return confirmed_price(self._rows)

    def rows(self) -> list[Any]:
        return [list(row) for row in self._rows]
