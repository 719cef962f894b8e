"""One symbol's market as columns: what every simulation reads, wherever it was stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from apps.engine.model import Quote, Scale

Int64s = npt.NDArray[np.int64]
Int8s = npt.NDArray[np.int8]


class TapeError(ValueError):
    """Columns that no feed could have given; the words name the row and what is wrong with it."""


class Texts(Protocol):
    """Trade ids by row. A list, a numpy array or a column that reads them when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class AsciiTexts(Sequence[str]):
    """A compact column of ASCII ids (a numpy array of bytes), read when asked for."""

    def __init__(self, ids: npt.NDArray[np.bytes_]) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            return [text.decode("ascii") for text in self._ids[index].tolist()]
        return self._ids[index].decode("ascii")


@dataclass(frozen=True, slots=True)
class QuoteColumns:
    """Best bids and asks of one symbol, oldest first: event times in ms, prices in ticks, sizes in steps."""

    ts: Int64s
    bid: Int64s
    bid_quantity: Int64s
    ask: Int64s
    ask_quantity: Int64s

    def at(self, ts_event: int) -> Quote | None:
        """The last quote with an event time at or before `ts_event`; None before the first."""
        row = int(np.searchsorted(self.ts, ts_event, side="right")) - 1
        if row < 0:
            return None
        columns = (self.ts, self.bid, self.bid_quantity, self.ask, self.ask_quantity)
        return Quote(*(int(column[row]) for column in columns))


@dataclass(frozen=True, slots=True)
class Tape:
    """Trades of one symbol in the order of the stream. All columns have the same length.

    `ts` counts ms of the exchange's clock and never falls, `price` ticks, `quantity` steps; `side` is the aggressor's:
    1 BUY, 2 SELL. `quotes` is None where none were recorded: then they are derived from the trades.
    `unproven` names the minutes of which trades may be missing, and why.
    """

    symbol: str
    scale: Scale
    ts: Int64s
    price: Int64s
    quantity: Int64s
    side: Int8s
    trade_id: Texts
    quotes: QuoteColumns | None = None
    unproven: tuple[tuple[int, str], ...] = ()

    def __len__(self) -> int:
        return len(self.ts)

    def check(self) -> None:
        """Raise `TapeError` for columns of unequal length, falling times, or values that are not above zero."""
        lengths = {len(column) for column in (self.ts, self.price, self.quantity, self.side, self.trade_id)}
        if len(lengths) != 1:
            raise TapeError(f"{self.symbol}: columns of {sorted(lengths)} rows")
        falling = np.flatnonzero(np.diff(self.ts) < 0)
        if len(falling):
            raise TapeError(
                f"{self.symbol}: trade {int(falling[0]) + 2} is older than the one before it: sort the file"
            )
        for name, column in (("time", self.ts), ("price", self.price), ("quantity", self.quantity)):
            wrong = np.flatnonzero(column <= 0)
            if len(wrong):
                raise TapeError(f"{self.symbol}: trade {int(wrong[0]) + 1} has the {name} {int(column[wrong[0]])}")

    def cut(self, first: int, last: int) -> Tape:
        """Rows first..last-1, without copying. Quotes and coverage stay whole."""
        rows = slice(first, last)
        ids: Sequence[str] = _Window(self.trade_id, first, last)
        return Tape(
            self.symbol, self.scale, self.ts[rows], self.price[rows], self.quantity[rows], self.side[rows], ids,
            self.quotes, self.unproven,
        )  # fmt: skip


class _Window(Sequence[str]):
    """Some rows of a column of ids."""

    def __init__(self, ids: Texts, first: int, last: int) -> None:
        self._ids, self._first, self._length = ids, first, last - first

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return str(self._ids[self._first + index % self._length])
