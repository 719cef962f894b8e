"""Slices of tapes that end at whole minutes, made of parts that end anywhere; and parts of the time of a whole tape.

Pure. A simulation looks at its clock, and is asked whether it goes on, at the end of a minute only; how a tape is cut
changes nothing that it decides.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from apps.engine.model import MINUTE_MS
from apps.engine.tapes import QuoteColumns, Tape, Texts

ROWS_PER_SLICE: Final = 1_000_000
_QUOTE_COLUMNS: Final = ("ts", "bid", "bid_quantity", "ask", "ask_quantity")

Slice = tuple[dict[str, Tape], int]
"""The rows of each symbol that has any, and the event time in ms at which the slice ends (excluded)."""


def whole_minutes(parts: Iterable[Mapping[str, Tape]]) -> Iterator[Slice]:
    """The same rows as successive slices that end at whole minutes.

    Each part holds later times than all parts before it. What lies in its last minute waits for the next part.
    """
    waiting: dict[str, Tape] = {}
    for part in parts:
        tapes = {
            symbol: _joined([tape for tape in (waiting.get(symbol), part.get(symbol)) if tape is not None])
            for symbol in sorted({*waiting, *part})
        }
        newest = max((int(tape.ts[-1]) for tape in tapes.values() if len(tape)), default=0)
        end_ms = newest // MINUTE_MS * MINUTE_MS
        before = {symbol: between(tape, None, end_ms) for symbol, tape in tapes.items()}
        waiting = {symbol: between(tape, end_ms, None) for symbol, tape in tapes.items()}
        if any(len(tape) for tape in before.values()):
            yield {symbol: tape for symbol, tape in before.items() if len(tape)}, end_ms
    rest = {symbol: tape for symbol, tape in waiting.items() if len(tape)}
    if rest:
        newest = max(int(tape.ts[-1]) for tape in rest.values())
        yield rest, (newest // MINUTE_MS + 1) * MINUTE_MS


def unbroken(slices: Iterable[Slice], spans: Sequence[tuple[int, int]]) -> Iterator[Slice]:
    """The same rows in slices none of which ends after the first and not after the last ms of a span.

    `spans` are in order and apart from each other.
    """
    firsts = [first for first, _ in spans]
    waiting: list[dict[str, Tape]] = []
    end_ms = 0
    for tapes, end_ms in slices:
        waiting.append(tapes)
        number = bisect_left(firsts, end_ms) - 1
        if number < 0 or spans[number][1] < end_ms:
            yield whole_tapes(waiting), end_ms
            waiting = []
    if waiting:
        yield whole_tapes(waiting), end_ms


def between(tape: Tape, first_ms: int | None, last_ms: int | None) -> Tape:
    """The trades with event times from `first_ms` to before `last_ms`; None is the tape's own end.

    Quotes are cut too: the first is the one in force at `first_ms`, none is of `last_ms` or later.
    """
    first = 0 if first_ms is None else int(np.searchsorted(tape.ts, first_ms, side="left"))
    last = len(tape) if last_ms is None else int(np.searchsorted(tape.ts, last_ms, side="left"))
    part = tape.cut(first, max(first, last))
    if tape.quotes is None:
        return part
    ts = tape.quotes.ts
    begin = 0 if first_ms is None else max(int(np.searchsorted(ts, first_ms, side="right")) - 1, 0)
    end = len(ts) if last_ms is None else int(np.searchsorted(ts, last_ms, side="left"))
    columns = (getattr(tape.quotes, name)[begin : max(begin, end)] for name in _QUOTE_COLUMNS)
    return Tape(
        part.symbol, part.scale, part.ts, part.price, part.quantity, part.side, part.trade_id, QuoteColumns(*columns),
        part.unproven,
    )  # fmt: skip


def whole_tapes(parts: Iterable[Mapping[str, Tape]]) -> dict[str, Tape]:
    """All rows of each symbol as one tape."""
    found: dict[str, list[Tape]] = {}
    for part in parts:
        for symbol, tape in part.items():
            found.setdefault(symbol, []).append(tape)
    return {symbol: _joined(found[symbol]) for symbol in sorted(found)}


def _joined(tapes: Sequence[Tape]) -> Tape:
    """Tapes of one symbol that follow each other as one."""
    if len(tapes) == 1:
        return tapes[0]
    first = tapes[0]
    ts, price, quantity, side = (
        np.concatenate([getattr(tape, name) for tape in tapes]) for name in ("ts", "price", "quantity", "side")
    )
    unproven = tuple(sorted({mark for tape in tapes for mark in tape.unproven}))
    ids = _JoinedTexts([tape.trade_id for tape in tapes])
    return Tape(first.symbol, first.scale, ts, price, quantity, side, ids, _joined_quotes(tapes), unproven)


def _joined_quotes(tapes: Sequence[Tape]) -> QuoteColumns | None:
    """A part may begin with the quote in force before it: that one is there twice then, which changes no answer."""
    parts = [tape.quotes for tape in tapes if tape.quotes is not None]
    if not parts:
        return None
    return QuoteColumns(*(np.concatenate([getattr(part, name) for part in parts]) for name in _QUOTE_COLUMNS))


class _JoinedTexts(Sequence[str]):
    """Columns of ids, one after the other."""

    def __init__(self, columns: Sequence[Texts]) -> None:
        self._columns = columns
        self._ends = np.cumsum([len(column) for column in columns])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        column = int(np.searchsorted(self._ends, index, side="right"))
        return str(self._columns[column][index - (int(self._ends[column - 1]) if column else 0)])
