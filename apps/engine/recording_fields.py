"""One block of recording rows, split into fields and checked column by column with numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apps.engine.quotes import BUY, SELL

COLUMNS: Final = 6
DIGITS_MAX: Final = 18  # any number of so many digits fits into an int64
NUMBER_LENGTH_MAX: Final = DIGITS_MAX + 1
TIME_LENGTH_MAX: Final = 15
ID_LENGTH_MAX: Final = 64
SYMBOL_LENGTH_MAX: Final = 32  # longer than allowed, so that a refused symbol can be shown

Ints: TypeAlias = NDArray[Any]


class Fault(NamedTuple):
    """A bad row, counted from the block's first, and what is wrong with it."""

    row: int
    reason: str


def too_wide(name: str) -> str:
    """The reason for a number that has too many digits once it is written with all the instrument's decimals."""
    return f"{name} has more than {DIGITS_MAX} digits at the instrument's decimals"


class _Numbers(NamedTuple):
    mantissa: Ints
    decimals: Ints
    malformed: Ints


class Block:
    """Columns of some rows. Where a row is malformed its columns hold arbitrary values: ask `first_fault` first."""

    def __init__(self, text: str, previous_time_ms: int) -> None:
        data = np.frombuffer(text.encode("utf-8", "replace") + bytes(ID_LENGTH_MAX), dtype=np.uint8)
        ends = np.flatnonzero((data == ord(",")) | (data == ord("\n"))).reshape(-1, COLUMNS)
        flat = np.concatenate(([0], ends.ravel()[:-1] + 1))
        self._data: Ints = data
        self._starts: Ints = flat.reshape(-1, COLUMNS)
        self._ends: Ints = ends
        self._previous_time_ms = previous_time_ms
        self.name_index: Ints
        self._symbols, self.name_index = np.unique(self._texts(0, SYMBOL_LENGTH_MAX), return_inverse=True)
        self.symbol_index: Ints = self.name_index.astype(np.int16)
        time = self._numbers(1, TIME_LENGTH_MAX)
        self.time_ms, self._time_bad = time.mantissa, time.malformed | (time.decimals > 0) | (time.mantissa == 0)
        self.trade_ids = self._texts(2, ID_LENGTH_MAX)
        self.sides = self._sides()
        price, quantity = self._numbers(4, NUMBER_LENGTH_MAX), self._numbers(5, NUMBER_LENGTH_MAX)
        self.price_mantissa, self.price_decimals, self._price_bad = price
        self.quantity_mantissa, self.quantity_decimals, self._quantity_bad = quantity

    def __len__(self) -> int:
        return int(self.time_ms.size)

    def names(self) -> list[str]:
        """The distinct symbols; `name_index` numbers them."""
        return [name.decode("utf-8", "replace") for name in self._symbols.tolist()]

    def head(self, rows: int) -> Block:
        """The block cut to its first rows, for looking among them for repeated ids."""
        self.symbol_index, self.trade_ids = self.symbol_index[:rows], self.trade_ids[:rows]
        return self

    def forget_text(self) -> None:
        """Give back what only the checks needed."""
        nothing = np.empty(0, dtype=np.uint8)
        self._data, self._starts, self._ends, self.name_index = nothing, nothing, nothing, nothing
        self._time_bad, self._price_bad, self._quantity_bad = nothing, nothing, nothing

    def first_fault(self, symbol_reasons: Mapping[str, str], decimals: tuple[Ints, Ints] | None) -> Fault | None:
        """The first bad row. `decimals` are the price and quantity decimals allowed for each of `names()`."""
        found = [
            Fault(int(np.argmax(mask)), "") if mask.any() else None
            for mask, _ in self._checks(symbol_reasons, decimals)
        ]
        rows = [fault.row for fault in found if fault is not None]
        if not rows:
            return None
        row = min(rows)
        return next(Fault(row, why(row)) for mask, why in self._checks(symbol_reasons, decimals) if mask[row])

    def _checks(
        self, symbol_reasons: Mapping[str, str], decimals: tuple[Ints, Ints] | None
    ) -> Sequence[tuple[Ints, Callable[[int], str]]]:
        """What can be wrong with a row, as (mask of bad rows, reason of a row), in order of the columns."""
        names = self.names()
        refused = np.array([name in symbol_reasons for name in names])[self.name_index]
        backwards = self.time_ms < np.concatenate(([self._previous_time_ms], self.time_ms[:-1]))
        checks: list[tuple[Ints, Callable[[int], str]]] = [
            (refused, lambda row: symbol_reasons[names[self.name_index[row]]]),
            (self._time_bad, lambda row: f"time_ms {self._text(row, 1)!r} is not a positive whole number"),
            (backwards, lambda row: f"time goes backwards to {self.time_ms[row]}"),
            (
                self._bad_ids(),
                lambda row: f"trade id {self._text(row, 2)!r} is not 1 to {ID_LENGTH_MAX} visible characters",
            ),
            (self.sides == 0, lambda row: f"aggressor_side {self._text(row, 3)!r} is neither buy nor sell"),
            (self._price_bad, lambda row: self._number_reason(row, 4, "price")),
            (self._quantity_bad, lambda row: self._number_reason(row, 5, "quantity")),
            (self.price_mantissa == 0, lambda row: f"price {self._text(row, 4)} is zero"),
            (self.quantity_mantissa == 0, lambda row: f"quantity {self._text(row, 5)} is zero"),
        ]
        if decimals is not None:
            price, quantity = (allowed[self.name_index] for allowed in decimals)
            wide_price = self._too_wide(self.price_mantissa, self.price_decimals, price)
            wide_quantity = self._too_wide(self.quantity_mantissa, self.quantity_decimals, quantity)
            checks += [
                (self.price_decimals > price, lambda row: self._decimals_reason(row, 4, "price", price)),
                (self.quantity_decimals > quantity, lambda row: self._decimals_reason(row, 5, "quantity", quantity)),
                (wide_price, lambda _: too_wide("price")),
                (wide_quantity, lambda _: too_wide("quantity")),
            ]
        return checks

    @staticmethod
    def _too_wide(mantissa: Ints, decimals: Ints, allowed: Ints) -> Ints:
        """Where a number brought to the allowed decimals would have more than the digits that surely fit."""
        wide: Ints = mantissa >= 10**DIGITS_MAX // 10 ** np.maximum(allowed - decimals, 0)
        return wide

    def _text(self, row: int, column: int) -> str:
        piece = self._data[self._starts[row, column] : self._ends[row, column]]
        return piece.tobytes().decode("utf-8", "replace")[:80]

    def _number_reason(self, row: int, column: int, name: str) -> str:
        text = self._text(row, column)
        if text.startswith("-"):
            return f"{name} {text!r} is negative"
        if sum(character.isdigit() for character in text) > DIGITS_MAX:
            return f"{name} {text!r} has more than {DIGITS_MAX} digits"
        return f"{name} {text!r} is not a decimal number"

    def _decimals_reason(self, row: int, column: int, name: str, allowed: Ints) -> str:
        return f"{name} {self._text(row, column)} has more than the instrument's {allowed[row]} decimals"

    def _texts(self, column: int, length_max: int) -> Ints:
        """A column as fixed-width bytes; longer texts are cut (and, where it matters, refused by their length)."""
        starts, lengths = self._starts[:, column], self._ends[:, column] - self._starts[:, column]
        width = int(min(max(lengths.max(), 1), length_max))
        characters = np.zeros((starts.size, width), dtype=np.uint8)
        for position in range(width):
            np.copyto(characters[:, position], self._data[starts + position], where=lengths > position)
        return characters.view(f"S{width}").ravel()

    def _sides(self) -> Ints:
        """BUY, SELL, or 0 for anything else."""
        texts, lengths = self._texts(3, 5), self._ends[:, 3] - self._starts[:, 3]
        is_buy, is_sell = (texts == b"buy") & (lengths == 3), (texts == b"sell") & (lengths == 4)
        sides: Ints = (is_buy * BUY + is_sell * SELL).astype(np.int8)
        return sides

    def _bad_ids(self) -> Ints:
        lengths = self._ends[:, 2] - self._starts[:, 2]
        characters = self.trade_ids.view(np.uint8).reshape(lengths.size, -1)
        positions = np.arange(characters.shape[1])
        unseen = ((characters <= ord(" ")) | (characters > ord("~"))) & (positions < lengths[:, None])
        bad: Ints = (lengths == 0) | (lengths > ID_LENGTH_MAX) | unseen.any(axis=1)
        return bad

    def _numbers(self, column: int, length_max: int) -> _Numbers:
        """Digits with at most one inner point, read as mantissa and number of decimals."""
        starts, lengths = self._starts[:, column], self._ends[:, column] - self._starts[:, column]
        mantissa, decimals, digits = np.zeros((3, starts.size), dtype=np.int64)
        pointed = np.zeros(starts.size, dtype=bool)
        malformed = (lengths == 0) | (lengths > length_max)
        for position in range(int(min(lengths.max(), length_max))):
            character, inside = self._data[starts + position], lengths > position
            digit = inside & (character - np.uint8(48) <= 9)
            point = inside & (character == ord("."))
            malformed |= (inside & ~digit & ~point) | (point & (pointed | (digits == 0)))
            mantissa = np.where(digit, mantissa * 10 + (character - np.uint8(48)), mantissa)
            digits += digit
            decimals += digit & pointed
            pointed |= point
        malformed |= (pointed & (decimals == 0)) | (digits > DIGITS_MAX)
        return _Numbers(mantissa, decimals, malformed)
