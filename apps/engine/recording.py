"""Recorded trades: parsing and validating `symbol,time_ms,trade_id,aggressor_side,price,quantity`.

Pure: takes lines, gives columns. Rows are checked in blocks with numpy (a million rows in about a second); the first
bad row is reported with its line number and reason, and nothing of a bad file is used. Prices become whole ticks and
quantities whole steps of the instrument's decimals, so no later stage meets a fraction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apps.engine.instrument_specs import InstrumentSpec, RecordingError, parse_instruments, quote_asset_of
from apps.engine.quotes import BUY, SELL
from apps.engine.recording_fields import DIGITS_MAX, Block, Fault, too_wide

__all__ = [
    "BUY",
    "HEADER",
    "SELL",
    "InstrumentSpec",
    "RecordedTrade",
    "Recording",
    "RecordingError",
    "merge_recordings",
    "parse_instruments",
    "parse_recording",
]

HEADER: Final = "symbol,time_ms,trade_id,aggressor_side,price,quantity"
SYMBOL_PATTERN: Final = re.compile(r"[A-Z0-9]{4,20}")
BLOCK_ROWS: Final = 32_768
FIRST_ROW_LINE: Final = 2  # line 1 is the header

Ints: TypeAlias = NDArray[Any]


class RecordedTrade(NamedTuple):
    """One row: exchange time in ms, the aggressor's side (BUY or SELL), price in ticks and quantity in steps."""

    symbol: str
    time_ms: int
    trade_id: str
    side: int
    price_ticks: int
    quantity_steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Validated rows as columns of equal length, in time order; `symbols[symbol_index[i]]` is row i's symbol."""

    file: str
    symbols: tuple[str, ...]
    instruments: Mapping[str, InstrumentSpec]
    symbol_index: Ints  # int16
    time_ms: Ints  # int64
    trade_ids: Ints  # bytes, ASCII
    sides: Ints  # int8
    price_ticks: Ints  # int64
    quantity_steps: Ints  # int64

    def __len__(self) -> int:
        return int(self.time_ms.size)

    @property
    def quote_asset(self) -> str:
        return self.instruments[self.symbols[0]].quote_asset

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[RecordedTrade]:
        """The rows [start, stop) as plain Python values."""
        part = slice(start, stop)
        symbols = [self.symbols[index] for index in self.symbol_index[part].tolist()]
        trade_ids = [trade_id.decode("ascii") for trade_id in self.trade_ids[part].tolist()]
        columns = (self.time_ms, self.sides, self.price_ticks, self.quantity_steps)
        times, sides, prices, quantities = (column[part].tolist() for column in columns)
        return map(RecordedTrade, symbols, times, trade_ids, sides, prices, quantities)

    def first_line_of(self, symbol: str) -> int:
        """The line of the symbol's first row in the file this recording was parsed from."""
        return int(np.argmax(self.symbol_index == self.symbols.index(symbol))) + FIRST_ROW_LINE


def parse_recording(
    lines: Iterable[str], file: str, instruments: Mapping[str, InstrumentSpec] | None = None
) -> Recording:
    """Parse a whole file; without `instruments` decimals and quote assets are derived from the data.

    `lines` may or may not end in line feeds. Raises RecordingError for the first bad line.
    """
    remaining = iter(lines)
    _check_header(next(remaining, None), file)
    parser = _Parser(file, instruments)
    while chunk := list(islice(remaining, BLOCK_ROWS)):
        parser.feed(chunk)
    return parser.finish()


def merge_recordings(recordings: Sequence[Recording]) -> Recording:
    """One recording of several files in time order; rows of equal time keep the order of the files.

    Raises RecordingError for mixed quote assets, a trade id that occurs twice for a symbol, and filters that differ.
    """
    if len(recordings) == 1:
        return recordings[0]
    instruments = _merged_instruments(recordings)
    symbols = tuple(sorted(instruments))
    parts = [_rebased(recording, symbols, instruments) for recording in recordings]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    duplicate = _first_duplicate(columns[0], columns[2])
    if duplicate is not None:
        raise _merged_duplicate(recordings, duplicate)
    order = np.argsort(columns[1], kind="stable")
    name = ",".join(recording.file for recording in recordings)
    return Recording(name, symbols, instruments, *(column[order] for column in columns))


class _Parser:
    """Collects checked blocks; `finish` looks at what only the whole file can show."""

    def __init__(self, file: str, instruments: Mapping[str, InstrumentSpec] | None) -> None:
        self.file = file
        self.instruments = instruments
        self.symbols: dict[str, int] = {}
        self.blocks: list[Block] = []
        self.row_count = 0
        self.last_time_ms = 0

    def feed(self, chunk: Sequence[str]) -> None:
        whole, reason = _well_formed_rows(chunk)
        if whole:
            self._accept(Block(whole, self.last_time_ms))
        if reason is not None:
            raise self._error(Fault(0, reason))

    def _accept(self, block: Block) -> None:
        names = block.names()
        known = {name: self.symbols.setdefault(name, len(self.symbols)) for name in names}
        block.symbol_index = np.array([known[name] for name in names], dtype=np.int16)[block.name_index]
        fault = block.first_fault(self._symbol_reasons(names), self._decimals(names))
        if fault is not None:
            self.blocks.append(block.head(fault.row))
            raise self._error(fault)
        block.forget_text()
        self.blocks.append(block)
        self.row_count += len(block)
        self.last_time_ms = int(block.time_ms[-1])

    def _symbol_reasons(self, names: Sequence[str]) -> dict[str, str]:
        """Why a symbol of this block is refused, for those that are."""
        reasons = {}
        for name in names:
            if SYMBOL_PATTERN.fullmatch(name) is None:
                reasons[name] = f"symbol {name!r} is not 4 to 20 capital letters and digits"
            elif self.instruments is not None and name not in self.instruments:
                reasons[name] = f"symbol {name} is missing in the instruments file"
            elif self.instruments is None and quote_asset_of(name) is None:
                reasons[name] = f"symbol {name} ends in no known quote asset and there is no instruments file"
        return reasons

    def _decimals(self, names: Sequence[str]) -> tuple[Ints, Ints] | None:
        """Price and quantity decimals allowed per name, or None if they are derived."""
        if self.instruments is None:
            return None
        specs = [self.instruments.get(name) for name in names]
        price = [spec.price_decimals if spec else 0 for spec in specs]
        quantity = [spec.quantity_decimals if spec else 0 for spec in specs]
        return np.array(price, dtype=np.int64), np.array(quantity, dtype=np.int64)

    def _error(self, fault: Fault) -> RecordingError:
        """The earlier of this fault and a repeated trade id among the rows before it."""
        duplicate = self._duplicate()
        if duplicate is not None:
            return duplicate
        return RecordingError(self.file, self.row_count + fault.row + FIRST_ROW_LINE, fault.reason)

    def _column(self, name: str) -> Ints:
        return np.concatenate([getattr(block, name) for block in self.blocks])

    def _duplicate(self) -> RecordingError | None:
        if not self.blocks:
            return None
        symbol_index, trade_ids = self._column("symbol_index"), self._column("trade_ids")
        row = _first_duplicate(symbol_index, trade_ids)
        if row is None:
            return None
        symbol = list(self.symbols)[int(symbol_index[row])]
        return _duplicate_error(self.file, row, symbol, trade_ids[row])

    def finish(self) -> Recording:
        if not self.blocks:
            raise RecordingError(self.file, 1, "the file holds no trades after its header")
        duplicate = self._duplicate()
        if duplicate is not None:
            raise duplicate
        names = tuple(sorted(self.symbols))
        rank = np.array([names.index(name) for name in self.symbols], dtype=np.int16)
        index = rank[self._column("symbol_index")]
        instruments = self._final_instruments(names, index)
        price_decimals = [instruments[name].price_decimals for name in names]
        quantity_decimals = [instruments[name].quantity_decimals for name in names]
        recording = Recording(
            self.file,
            names,
            instruments,
            index,
            self._column("time_ms"),
            self._column("trade_ids"),
            self._column("sides"),
            self._scaled("price", np.array(price_decimals)[index]),
            self._scaled("quantity", np.array(quantity_decimals)[index]),
        )
        self.blocks.clear()
        _check_one_quote_asset([recording])
        return recording

    def _final_instruments(self, names: Sequence[str], index: Ints) -> dict[str, InstrumentSpec]:
        if self.instruments is not None:
            return {name: self.instruments[name] for name in names}
        price, quantity = np.zeros((2, len(names)), dtype=np.int64)
        np.maximum.at(price, index, self._column("price_decimals"))
        np.maximum.at(quantity, index, self._column("quantity_decimals"))
        return {name: _derived(name, int(price[k]), int(quantity[k])) for k, name in enumerate(names)}

    def _scaled(self, name: str, decimals: Ints) -> Ints:
        """Mantissas brought to the instrument's decimals."""
        factor = 10 ** (decimals.astype(np.int64) - self._column(f"{name}_decimals"))
        return _multiplied(self._column(f"{name}_mantissa"), factor, self.file, name)


def _multiplied(values: Ints, factor: Ints, file: str, name: str) -> Ints:
    """values x factor of a file's rows; raises RecordingError where the product has too many digits."""
    too_large = values >= 10**DIGITS_MAX // factor
    if too_large.any():
        raise RecordingError(file, int(np.argmax(too_large)) + FIRST_ROW_LINE, too_wide(name))
    product: Ints = values * factor
    return product


def _check_header(line: str | None, file: str) -> None:
    if line is None:
        raise RecordingError(file, 1, "the file is empty")
    if line.rstrip("\r\n") != HEADER:
        raise RecordingError(file, 1, f"the header must be {HEADER!r}")


def _well_formed_rows(chunk: Sequence[str]) -> tuple[str, str | None]:
    """The text of the rows up to the first without six columns (each ended by a line feed), and its fault."""
    rows = [line.rstrip("\r\n") for line in chunk]
    for row, line in enumerate(rows):
        if line.count(",") != 5 or "\n" in line:
            reason = f"expected 6 columns, found {line.count(',') + 1 if line else 0}"
            return "".join(f"{before}\n" for before in rows[:row]), reason
    return "\n".join(rows) + "\n", None


def _derived(symbol: str, price_decimals: int, quantity_decimals: int) -> InstrumentSpec:
    quote = quote_asset_of(symbol) or ""
    return InstrumentSpec(symbol, symbol.removesuffix(quote), quote, price_decimals, quantity_decimals, derived=True)


def _first_duplicate(symbol_index: Ints, trade_ids: Ints) -> int | None:
    """The first row (in file order) whose symbol and trade id were there before."""
    if trade_ids.size < 2:
        return None
    keys = _hashes(trade_ids) ^ (symbol_index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    before, after = order[same], order[same + 1]
    # Equal hashes are only a hint.
    real = (symbol_index[before] == symbol_index[after]) & (trade_ids[before] == trade_ids[after])
    return int(after[real].min()) if real.any() else None


def _hashes(trade_ids: Ints) -> Ints:
    """A 64-bit hash of each id, independent of the column's width."""
    characters = np.ascontiguousarray(trade_ids).view(np.uint8).reshape(trade_ids.size, -1)
    value = np.full(trade_ids.size, 0xCBF29CE484222325, dtype=np.uint64)
    for column in characters.T:
        mixed = (value ^ column) * np.uint64(0x100000001B3)
        value = np.where(column != 0, mixed ^ (mixed >> np.uint64(29)), value)
    return value


def _duplicate_error(file: str, row: int, symbol: str, trade_id: bytes) -> RecordingError:
    text = bytes(trade_id).decode("ascii")
    return RecordingError(file, row + FIRST_ROW_LINE, f"trade id {text} of {symbol} occurs a second time")


def _merged_duplicate(recordings: Sequence[Recording], row: int) -> RecordingError:
    for recording in recordings:
        if row < len(recording):
            break
        row -= len(recording)
    symbol = recording.symbols[int(recording.symbol_index[row])]
    return _duplicate_error(recording.file, row, symbol, recording.trade_ids[row])


def _check_one_quote_asset(recordings: Sequence[Recording]) -> None:
    first: str | None = None
    for recording in recordings:
        for symbol in sorted(recording.symbols, key=recording.first_line_of):
            quote = recording.instruments[symbol].quote_asset
            first = first or quote
            if quote != first:
                reason = f"{symbol} is quoted in {quote}, but the rows before in {first}: one quote asset only"
                raise RecordingError(recording.file, recording.first_line_of(symbol), reason)


def _merged_instruments(recordings: Sequence[Recording]) -> dict[str, InstrumentSpec]:
    _check_one_quote_asset(recordings)
    merged: dict[str, InstrumentSpec] = {}
    for recording, symbol in chain.from_iterable(((r, s) for s in r.symbols) for r in recordings):
        spec = recording.instruments[symbol]
        other = merged.setdefault(symbol, spec)
        if spec.derived and other.derived:
            price = max(spec.price_decimals, other.price_decimals)
            quantity = max(spec.quantity_decimals, other.quantity_decimals)
            merged[symbol] = replace(other, price_decimals=price, quantity_decimals=quantity)
        elif spec != other:
            line = recording.first_line_of(symbol)
            raise RecordingError(recording.file, line, f"{symbol} has other filters here than in an earlier file")
    return merged


def _rebased(
    recording: Recording, symbols: tuple[str, ...], instruments: Mapping[str, InstrumentSpec]
) -> tuple[Ints, ...]:
    """The recording's columns with the merged symbol numbers and decimals."""
    rank = np.array([symbols.index(symbol) for symbol in recording.symbols], dtype=np.int16)
    mine = [recording.instruments[symbol] for symbol in recording.symbols]
    merged = [instruments[symbol] for symbol in recording.symbols]
    pairs = list(zip(merged, mine, strict=True))
    price = np.array([10 ** (new.price_decimals - old.price_decimals) for new, old in pairs], dtype=np.int64)
    quantity = np.array([10 ** (new.quantity_decimals - old.quantity_decimals) for new, old in pairs], dtype=np.int64)
    index = recording.symbol_index
    return (
        rank[index],
        recording.time_ms,
        recording.trade_ids,
        recording.sides,
        _multiplied(recording.price_ticks, price[index], recording.file, "price"),
        _multiplied(recording.quantity_steps, quantity[index], recording.file, "quantity"),
    )
