"""Tapes for simulations: successive slices of time, each of bounded size, of an archive or of recordings.

A slice ends for all symbols at one instant and never within a millisecond. What is held in memory is about `rows_max`
rows, but at least one row group of each symbol, however long the archive is.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from apps.engine.model import MINUTE_MS, Scale
from apps.engine.recording import Recording
from apps.engine.tapes import AsciiTexts, Int64s, QuoteColumns, Tape
from apps.market.archive.blocks import NUMBERS, Columns, FileIds, Options, Stream
from apps.market.archive.covering import BACKFILLED, UNPROVEN, read_coverage
from apps.market.archive.layout import COVERAGE, QUOTES, TRADES, ArchiveError, Folder, day_of, days_between, read_meta
from apps.market.archive.recordings import Instruments, read_recording, symbols_of
from apps.market.archive.tables import GROUP_ROWS

ROWS_MAX: Final = 4_000_000
_ENDLESS_MS: Final = 2**62


def read_tapes(
    folder: Folder,
    *,
    symbols: Sequence[str] | None = None,
    from_ms: int = 0,
    to_ms: int = _ENDLESS_MS,
    rows_max: int = ROWS_MAX,
    quotes: bool = True,
    late: bool = True,
    repaired: bool = True,
) -> Iterator[dict[str, Tape]]:
    """Successive slices of [from_ms, to_ms); a symbol is in a slice if it has rows there.

    Trades are sorted by time, those of one millisecond as they came. `late` keeps trades that came after their minute
    had been closed; `repaired` puts what REST told of a BACKFILLED minute in the place of what was received (else
    the minute is named in `unproven`). Quotes of a slice begin with the one in force before it. Without recorded quotes
    `Tape.quotes` is None. Raises `ArchiveError` for an unknown symbol and for a time of which nothing is archived.
    """
    specs = read_meta(folder).specs()
    names = sorted(specs) if symbols is None else _known(folder, symbols, list(specs))
    days = [day for day in folder.days(TRADES) if from_ms < _ENDLESS_MS and _touches(day, from_ms, to_ms)]
    block = max(rows_max // max(len(names), 1) // GROUP_ROWS, 1) * GROUP_ROWS
    streams = {}
    for kind in (TRADES, QUOTES) if quotes else (TRADES,):
        for name in names:
            own = [day for day in days if folder.file(kind, day, name).exists()]
            if own or kind == TRADES:
                options = Options(late=late, repaired=repaired)
                streams[name, kind] = Stream(folder, name, kind, own, (from_ms, to_ms), block, options)
    if not any(stream.days for (_, kind), stream in streams.items() if kind == TRADES):
        raise ArchiveError(_nothing(folder, names, from_ms, to_ms))
    scales = {name: Scale(specs[name].price_decimals, specs[name].quantity_decimals) for name in names}
    return _slices(folder, scales, streams, repaired=repaired)


def _known(folder: Folder, wanted: Sequence[str], held: list[str]) -> list[str]:
    missing = sorted(set(wanted) - set(held))
    if missing:
        raise ArchiveError(f"the archive {folder.key} holds no {missing[0]} (it has {', '.join(held)})")
    return sorted(set(wanted))


def _touches(day: str, from_ms: int, to_ms: int) -> bool:
    last = day_of(min(to_ms, _DATES_END_MS) - 1) if to_ms > 0 else ""
    return day_of(min(from_ms, _DATES_END_MS)) <= day <= last


_DATES_END_MS: Final = 253_402_300_799_000  # the last second of the year 9999


def _nothing(folder: Folder, names: Sequence[str], from_ms: int, to_ms: int) -> str:
    days = folder.days(TRADES)
    held = f"it has {days[0]} to {days[-1]}" if days else "it has no day yet"
    what = f"{', '.join(names[:3])}{'...' if len(names) > 3 else ''}"
    first, last = day_of(min(from_ms, _DATES_END_MS)), day_of(max(min(to_ms, _DATES_END_MS) - 1, 0))
    return f"the archive {folder.key} has no trades of {what} from {first} to {last} ({held})"


def _slices(
    folder: Folder, scales: Mapping[str, Scale], streams: Mapping[tuple[str, str], Stream], *, repaired: bool
) -> Iterator[dict[str, Tape]]:
    in_force: dict[str, Columns] = {}
    marks = _Marks(folder, repaired=repaired)
    while True:
        for stream in streams.values():
            if len(stream) <= stream.block // 2:  # or the end of each file would make a small slice of its own
                stream.grow()
        end = _end(streams.values())
        if end is None:
            return
        taken = {place: stream.take(end) for place, stream in streams.items()}
        tapes = {}
        for name, scale in scales.items():
            tape = _tape(name, scale, taken, in_force, marks)
            if tape is not None:
                tapes[name] = tape
        if tapes:
            yield tapes


def _end(streams: Any) -> int | None:
    """The first instant that is not part of the slice; None if nothing is left.

    A stream that goes on in its file may hold more of its last millisecond, so the slice ends before that one. Where
    this would leave nothing, the stream that holds the slice up reads on.
    """
    while True:
        held = [stream for stream in streams if len(stream)]
        if not held:
            return None
        open_ended = [stream for stream in held if not stream.ended]
        if not open_ended:
            return _ENDLESS_MS
        slowest = min(open_ended, key=lambda stream: int(stream.columns["ts"][-1]))
        end = int(slowest.columns["ts"][-1])
        if any(int(stream.columns["ts"][0]) < end for stream in held):
            return end
        slowest.grow()


def _tape(
    name: str,
    scale: Scale,
    taken: Mapping[tuple[str, str], tuple[Columns, FileIds]],
    in_force: dict[str, Columns],
    marks: _Marks,
) -> Tape | None:
    columns, ids = taken[name, TRADES]
    quotes = None
    if (name, QUOTES) in taken:
        quotes = _quotes(name, taken[name, QUOTES][0], in_force)
    empty = not columns or not len(columns["ts"])
    if empty and (quotes is None or not len(quotes.ts)):
        return None
    if empty:
        nothing = np.empty(0, np.int64)
        return Tape(name, scale, nothing, nothing, nothing, np.empty(0, np.int8), ids, quotes)
    ts = columns["ts"]
    unproven = marks.between(name, int(ts[0]), int(ts[-1]))
    return Tape(name, scale, ts, columns["price"], columns["quantity"], columns["side"], ids, quotes, unproven)


def _quotes(name: str, columns: Columns, in_force: dict[str, Columns]) -> QuoteColumns | None:
    """The slice's quotes, after the one that was in force before it."""
    before = in_force.get(name)
    if columns and len(columns["ts"]):
        in_force[name] = {key: values[-1:].copy() for key, values in columns.items()}
    else:
        columns = {key: np.empty(0, np.int64) for key in NUMBERS[QUOTES]}
    if before is not None:
        columns = {key: np.concatenate((before[key], columns[key])) for key in columns}
    return QuoteColumns(*(columns[key] for key in NUMBERS[QUOTES]))


class _Marks:
    """Minutes of which trades may be missing, read per day when asked for; the newest day of each symbol is kept."""

    def __init__(self, folder: Folder, *, repaired: bool) -> None:
        self._folder = folder
        self._bad = (UNPROVEN,) if repaired else (UNPROVEN, BACKFILLED)
        self._days = set(folder.days(COVERAGE))
        self._kept: dict[str, tuple[str, list[tuple[int, str]]]] = {}

    def between(self, symbol: str, first_ms: int, last_ms: int) -> tuple[tuple[int, str], ...]:
        found: list[tuple[int, str]] = []
        first, last = first_ms // MINUTE_MS, last_ms // MINUTE_MS
        for day in days_between(first_ms, last_ms + 1):
            if day in self._days:
                marks = self._of(symbol, day)
                found += marks[bisect.bisect_left(marks, (first, "")) : bisect.bisect_left(marks, (last + 1, ""))]
        return tuple(found)

    def _of(self, symbol: str, day: str) -> list[tuple[int, str]]:
        kept = self._kept.get(symbol)
        if kept is None or kept[0] != day:
            runs = [run for run in read_coverage(self._folder, day, symbol) if run.status in self._bad]
            marks = [(minute, run.reason) for run in runs for minute in range(run.first_minute, run.last_minute + 1)]
            kept = self._kept[symbol] = (day, sorted(marks))
        return kept[1]


def read_csv(
    paths: Sequence[Path],
    instruments: Instruments | None = None,
    *,
    symbols: Sequence[str] | None = None,
    from_ms: int = 0,
    to_ms: int = _ENDLESS_MS,
    rows_max: int = ROWS_MAX,
) -> Iterator[dict[str, Tape]]:
    """The same from recordings, which are read whole: about 60 bytes a trade. Quotes are not in them.

    Without `instruments` the file beside each recording is read. Raises RecordingError naming file, line and reason.
    """
    recording = read_recording(paths, instruments)
    return slices_of(recording, symbols=symbols, from_ms=from_ms, to_ms=to_ms, rows_max=rows_max)


def slices_of(
    recording: Recording,
    *,
    symbols: Sequence[str] | None = None,
    from_ms: int = 0,
    to_ms: int = _ENDLESS_MS,
    rows_max: int = ROWS_MAX,
) -> Iterator[dict[str, Tape]]:
    """A recording in memory, sliced as the archive is."""
    names = symbols_of(recording, symbols)
    wanted = np.isin(recording.symbol_index, [recording.symbols.index(name) for name in names])
    rows = np.flatnonzero(wanted & (recording.time_ms >= from_ms) & (recording.time_ms < to_ms))
    return _cut(recording, names, rows, rows_max)


def _cut(recording: Recording, names: list[str], rows: Int64s, rows_max: int) -> Iterator[dict[str, Tape]]:
    times = recording.time_ms
    first = 0
    while first < len(rows):
        last = min(first + rows_max, len(rows))
        if last < len(rows):  # not within a millisecond
            edge = int(times[rows[last]])
            before = int(np.searchsorted(times[rows[first:last]], edge, side="left")) + first
            last = before if before > first else int(np.searchsorted(times[rows], edge, side="right"))
        part = rows[first:last]
        own = recording.symbol_index[part]
        tapes = {}
        for name in names:
            mine = part[own == recording.symbols.index(name)]
            if len(mine):
                tapes[name] = _recorded(recording, name, mine)
        yield tapes
        first = last


def _recorded(recording: Recording, name: str, rows: Int64s) -> Tape:
    spec = recording.instruments[name]
    return Tape(
        name,
        Scale(spec.price_decimals, spec.quantity_decimals),
        recording.time_ms[rows],
        recording.price_ticks[rows],
        recording.quantity_steps[rows],
        recording.sides[rows],
        AsciiTexts(recording.trade_ids[rows]),
    )
