"""What a simulation may ask about one symbol at an event time, while its tape passes by in slices.

Nothing is worked out before it is asked for: a day holds millions of trades and a few hundred questions.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Final

import numpy as np

from apps.engine.derived_quotes import QuoteDeriver
from apps.engine.model import MINUTE_MS, Quote
from apps.engine.tape import PRICES_MAX, PriceTape
from apps.engine.tapes import Int64s, Tape
from apps.engine.ticks import confirmed_price

BARS_MS: Final = 16 * MINUTE_MS  # of the trades before a slice: what `bars_before` may be asked for
_NONE: Final = np.empty(0, np.int64)


class SymbolWindow:
    """The slice of a tape that is being worked on, and what the slices before it left behind."""

    def __init__(self) -> None:
        self.tape: Tape | None = None
        self._deriver = QuoteDeriver()  # as it stood when the slice began
        self._quote: Quote | None = None  # in force when the slice began
        self._price: int | None = None  # of the last trade before the slice
        self._minutes = (_NONE, _NONE)  # times and prices of the last `BARS_MS` before the slice, and one trade more
        self._tail = (_NONE, _NONE)  # times and prices of the last trades before the slice, oldest first

    def load(self, tape: Tape) -> None:
        """Go on to the next slice."""
        if self.tape is not None and len(self.tape):
            self._leave(self.tape)
        self.tape = tape

    def _leave(self, tape: Tape) -> None:
        last = int(tape.ts[-1])
        self._quote = self.quote_at(last if tape.quotes is None else np.iinfo(np.int64).max)
        self._deriver.skip(tape)
        ts, price = self._rows_to(len(tape))
        self._tail = (ts.copy(), price.copy())  # a part of the slice would keep all of it in memory
        since = max(int(tape.ts.searchsorted(last - BARS_MS)) - 1, 0)  # and the trade that stood before
        before = self._minutes if since == 0 else (_NONE, _NONE)
        kept = int(before[0].searchsorted(last - BARS_MS)) - 1 if since == 0 else 0
        self._minutes = (
            np.concatenate([before[0][max(kept, 0) :], tape.ts[since:]]),
            np.concatenate([before[1][max(kept, 0) :], tape.price[since:]]),
        )
        self._price = int(tape.price[-1])

    def price_before(self, ts_event: int) -> int | None:
        """Price (ticks) of the last trade before an event time; None if none is known."""
        assert self.tape is not None
        row = int(self.tape.ts.searchsorted(ts_event)) - 1
        return self._price if row < 0 else int(self.tape.price[row])

    def prices_before(self, ts_event: Int64s) -> list[int]:
        """Price (ticks) of the last trade before each of these event times, which rise; 0 where none is known yet."""
        assert self.tape is not None
        rows = self.tape.ts.searchsorted(ts_event)
        early = int(rows.searchsorted(1))  # so many times lie before the slice's first trade
        return [*[self._price or 0] * early, *self.tape.price[rows[early:] - 1].tolist()]

    def median(self, row: int) -> Decimal | None:
        """Median price, in ticks, of the last trades of the minute up to this row, as `PriceTape` has it."""
        assert self.tape is not None
        ts, price = self._rows_to(row + 1)
        tape = PriceTape()
        tape.extend(ts.tolist(), price.tolist())
        return tape.median(int(self.tape.ts[row]))

    def confirmed(self, row: int) -> int | None:
        """The price, in ticks, that the trades up to this row confirm, as `PriceTape` has it."""
        ts, price = self._rows_to(row + 1)
        return confirmed_price(list(zip(ts.tolist(), price.tolist(), strict=True)))

    def bars_before(self, minute: int, count: int) -> list[tuple[int, int, int]]:
        """(high, low, close) in ticks of the `count` minutes before a minute, oldest first, as bars have them: a minute
        without trades stands at the close before it. Empty if not all of them, or what stood before them, are known."""
        assert self.tape is not None
        ts = np.concatenate([self._minutes[0], self.tape.ts])
        price = np.concatenate([self._minutes[1], self.tape.price])
        bounds = ts.searchsorted(np.arange(minute - count, minute + 1, dtype=np.int64) * MINUTE_MS).tolist()
        rows: list[tuple[int, int, int]] = []
        for first, end in pairwise(bounds):
            if end == 0:
                return []
            part = price[first:end] if end > first else price[end - 1 : end]
            rows.append((int(part.max()), int(part.min()), int(part[-1])))
        return rows

    def _rows_to(self, end: int) -> tuple[Int64s, Int64s]:
        """Times and prices of the last `PRICES_MAX` trades before row `end` of the slice."""
        assert self.tape is not None
        rows = slice(max(end - PRICES_MAX, 0), end)
        ts, price = self.tape.ts[rows], self.tape.price[rows]
        missing = PRICES_MAX - len(ts)
        if not missing or not len(self._tail[0]):
            return ts, price
        before_ts, before_price = self._tail
        return np.concatenate([before_ts[-missing:], ts]), np.concatenate([before_price[-missing:], price])

    # --- quotes -------------------------------------------------------------------------------------------------------

    def quote_at(self, ts_event: int) -> Quote | None:
        """The quote in force at an event time: recorded, or derived from the trades."""
        assert self.tape is not None
        if self.tape.quotes is not None:
            return self.tape.quotes.at(ts_event) or self._quote
        return self._deriver.last(self.tape, ts_event) or self._quote
