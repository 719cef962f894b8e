"""Cutting tapes into slices of time that end at whole minutes, so that memory and the wait for a cancel are bounded.

Pure. How a tape is cut changes nothing that a simulation decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from apps.engine.model import MINUTE_MS
from apps.engine.tapes import Int64s, Tape

ROWS_PER_SLICE: Final = 1_000_000

Slice = tuple[dict[str, Tape], int]
"""The rows of each symbol that has any, and the event time in ms at which the slice ends (excluded)."""


def slices(tapes: Mapping[str, Tape], *, rows: int = ROWS_PER_SLICE) -> Iterator[Slice]:
    """Successive slices of about `rows` trades over all symbols, more only where a single minute has more."""
    filled = {symbol: tape for symbol, tape in tapes.items() if len(tape)}
    at = dict.fromkeys(filled, 0)
    for end_ms in _ends(filled, rows):
        chunk = {}
        for symbol, tape in filled.items():
            end = int(np.searchsorted(tape.ts, end_ms, side="left"))
            if end > at[symbol]:
                chunk[symbol] = tape.cut(at[symbol], end)
                at[symbol] = end
        yield chunk, end_ms


def _ends(tapes: Mapping[str, Tape], rows: int) -> list[int]:
    if not tapes:
        return []
    first = min(int(tape.ts[0]) for tape in tapes.values()) // MINUTE_MS
    last = max(int(tape.ts[-1]) for tape in tapes.values()) // MINUTE_MS
    seen = _cumulated(tapes, first, last)
    ends, done = [], 0
    while not ends or ends[-1] <= last:
        # the last minute that still fits, but at least one with trades in it
        minute = first + int(np.searchsorted(seen, done + rows, side="right"))
        occupied = first + int(np.searchsorted(seen, done, side="right"))
        ends.append(min(max(minute, occupied + 1), last + 1))
        done = int(seen[ends[-1] - first - 1])
    return [end * MINUTE_MS for end in ends]


def _cumulated(tapes: Mapping[str, Tape], first: int, last: int) -> Int64s:
    """How many trades there are up to the end of each minute from `first` to `last`."""
    counts = np.zeros(last - first + 1, np.int64)
    for tape in tapes.values():
        counts += np.bincount(tape.ts // MINUTE_MS - first, minlength=len(counts))
    return np.cumsum(counts)


def between(tape: Tape, first_ms: int | None, last_ms: int | None) -> Tape:
    """The trades with event times from `first_ms` to before `last_ms`; None is the tape's own end."""
    first = 0 if first_ms is None else int(np.searchsorted(tape.ts, first_ms, side="left"))
    last = len(tape) if last_ms is None else int(np.searchsorted(tape.ts, last_ms, side="left"))
    return tape.cut(first, max(first, last))
