"""What a simulation may ask about one symbol at an event time, while its tape passes by in slices.

Nothing is worked out before it is asked for: a day holds millions of trades and a few hundred questions.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from apps.engine.derived_quotes import QuoteDeriver
from apps.engine.model import MINUTE_MS, Quote
from apps.engine.tape import PRICES_MAX, PriceTape
from apps.engine.tapes import Int64s, Tape


class SymbolWindow:
    """The slice of a tape that is being worked on, and what the slices before it left behind."""

    def __init__(self) -> None:
        self.tape: Tape | None = None
        self._deriver = QuoteDeriver()  # as it stood when the slice began
        self._quote: Quote | None = None  # in force when the slice began
        self._price: int | None = None  # of the last trade before the slice
        self._tail: list[list[int]] = []  # (time, price) of the last trades before the slice, oldest first

    def load(self, tape: Tape) -> None:
        """Go on to the next slice."""
        if self.tape is not None and len(self.tape):
            self._leave(self.tape)
        self.tape = tape

    def _leave(self, tape: Tape) -> None:
        last = int(tape.ts[-1])
        self._quote = self.quote_at(last if tape.quotes is None else np.iinfo(np.int64).max)
        self._deriver.skip(tape)
        self._tail = self._rows_to(len(tape))
        self._price = int(tape.price[-1])

    def price_before(self, ts_event: int) -> int | None:
        """Price (ticks) of the last trade before an event time; None if none is known."""
        row = self._row(ts_event, "left")
        if row < 0 or self.tape is None:
            return self._price
        return int(self.tape.price[row])

    def closes(self, minutes: Int64s) -> Int64s:
        """Close (ticks) of each minute, carried over empty ones; 0 where no trade is known yet."""
        before = 0 if self._price is None else self._price
        if self.tape is None or not len(self.tape):
            return np.full(len(minutes), before, np.int64)
        rows = np.searchsorted(self.tape.ts, (minutes + 1) * MINUTE_MS, side="left") - 1
        return np.where(rows >= 0, self.tape.price[np.maximum(rows, 0)], before)

    def median(self, row: int) -> Decimal | None:
        """Median price, in ticks, of the last trades of the minute up to this row, as `PriceTape` has it."""
        assert self.tape is not None
        return PriceTape(self._rows_to(row + 1)).median(int(self.tape.ts[row]))

    def _rows_to(self, end: int) -> list[list[int]]:
        """The last `PRICES_MAX` (time, price) rows before row `end` of the slice."""
        assert self.tape is not None
        first = max(end - PRICES_MAX, 0)
        rows = [
            [int(ts), int(price)] for ts, price in zip(self.tape.ts[first:end], self.tape.price[first:end], strict=True)
        ]
        missing = PRICES_MAX - len(rows)
        return [*(self._tail[-missing:] if missing else []), *rows]

    # --- quotes -------------------------------------------------------------------------------------------------------

    def quote_at(self, ts_event: int) -> Quote | None:
        """The quote in force at an event time: recorded, or derived from the trades."""
        if self.tape is None:
            return self._quote
        if self.tape.quotes is not None:
            return self.tape.quotes.at(ts_event) or self._quote
        return self._deriver.last(self.tape, ts_event) or self._quote

    def _row(self, ts_event: int, side: str) -> int:
        """The last row before (`left`) or at (`right`) an event time; -1 if there is none."""
        if self.tape is None:
            return -1
        found = np.searchsorted(self.tape.ts, ts_event, side="left" if side == "left" else "right")
        return int(found) - 1
