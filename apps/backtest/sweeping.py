"""Which parameters a sweep tries, where it cuts the time, and which of its points it chooses. Pure."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from apps.backtest.values import BacktestRefused, parse_assignments

POINTS_MAX: Final = 10_000
VALUES_MAX: Final = 1_000
DECIMALS_BETWEEN: Final = 2  # a value drawn between two ends has so many decimals more than they
_RANGE: Final = re.compile(r"(?P<first>[^/]+?)\.\.(?P<last>[^/]+?)(?:/(?P<count>[0-9]{1,4}))?")
MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter and the values to try; without values any between `first` and `last` may be drawn."""

    name: str
    values: tuple[str, ...]
    first: Decimal = Decimal(0)
    last: Decimal = Decimal(0)

    def draw(self, dice: random.Random) -> str:
        if self.values:
            return dice.choice(self.values)
        decimals = max(0, _decimals(self.first), _decimals(self.last))
        step = Decimal(1).scaleb(-(decimals + DECIMALS_BETWEEN if decimals else 0))
        return _text(self.first + step * dice.randint(0, int((self.last - self.first) / step)))


@dataclass(frozen=True, slots=True)
class Tried:
    """One point and what it gave before the cut (`inside`) and after it (`outside`); None: it was not run there."""

    number: int
    changes: Mapping[str, str]
    inside: Mapping[str, Any]
    outside: Mapping[str, Any] | None = None


def parse_axes(words: Sequence[str]) -> list[Axis]:
    """`threshold_pct=1.0..3.0/5` (evenly, both ends included), `rsi_min=40,50,60`, `lookback_minutes=5..30` (drawn).

    Raises `BacktestRefused`.
    """
    axes = [_axis(name, value) for name, value in parse_assignments(words).items()]
    if not axes:
        raise BacktestRefused("name what to try: --set threshold_pct=1.0..3.0/5 --set rsi_min=40,50,60")
    return axes


def _axis(name: str, words: str) -> Axis:
    found = _RANGE.fullmatch(words)
    if not found:
        values = [part.strip() for part in words.split(",")]
        if not all(values):
            raise BacktestRefused(f"{name}={words}: a value is missing between two commas")
        if len(set(values)) != len(values):
            raise BacktestRefused(f"{name}={words}: a value is named twice")
        return Axis(name, tuple(values))
    first, last = (_number(name, found[part]) for part in ("first", "last"))
    if first >= last:
        raise BacktestRefused(f"{name}={words}: {first} does not lie before {last}")
    if found["count"] is None:
        return Axis(name, (), first, last)
    count = int(found["count"])
    if not 2 <= count <= VALUES_MAX:
        raise BacktestRefused(f"{name}={words}: from 2 to {VALUES_MAX} values, not {count}")
    steps = [first + (last - first) * number / (count - 1) for number in range(count)]
    return Axis(name, tuple(dict.fromkeys(_text(round(value, 10)) for value in steps)), first, last)


def _number(name: str, words: str) -> Decimal:
    try:
        number = Decimal(words.strip())
    except InvalidOperation as error:
        raise BacktestRefused(f"{name}: {words!r} is not a number") from error
    if not number.is_finite():
        raise BacktestRefused(f"{name}: {words!r} is not a number")
    return number


def _text(number: Decimal) -> str:
    return format(number.normalize(), "f")


def _decimals(number: Decimal) -> int:
    return -int(number.as_tuple().exponent)


def grid(axes: Sequence[Axis]) -> list[dict[str, str]]:
    """Every combination, the last axis turning fastest. Raises `BacktestRefused` for too many."""
    open_ended = [axis.name for axis in axes if not axis.values]
    if open_ended:
        raise BacktestRefused(
            f"{open_ended[0]}: a grid needs to know how many values, such as 1.0..3.0/5; or draw with --random N"
        )
    count = math.prod(len(axis.values) for axis in axes)
    if count > POINTS_MAX:
        raise BacktestRefused(f"{count} combinations are too many: at most {POINTS_MAX}; or draw some with --random N")
    names = [axis.name for axis in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]


def drawn(axes: Sequence[Axis], *, count: int, seed: int) -> list[dict[str, str]]:
    """`count` combinations drawn at random, each once; fewer if there are no more. The same seed draws the same."""
    if not 1 <= count <= POINTS_MAX:
        raise BacktestRefused(f"--random {count}: from 1 to {POINTS_MAX} combinations")
    dice = random.Random(seed)
    if all(axis.values for axis in axes) and math.prod(len(axis.values) for axis in axes) <= POINTS_MAX:
        points = grid(axes)
        return dice.sample(points, min(count, len(points)))
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for _ in range(20 * count):
        point = {axis.name: axis.draw(dice) for axis in axes}
        found.setdefault(tuple(point.values()), point)
        if len(found) == count:
            break
    return list(found.values())


def parse_split(words: str) -> Decimal:
    """The part of the time that parameters are chosen on. Raises `BacktestRefused`."""
    try:
        split = Decimal(words)
    except InvalidOperation as error:
        raise BacktestRefused(f"--split {words!r} is not a number such as 0.7") from error
    if not split.is_finite() or not Decimal("0.1") <= split <= Decimal("0.9"):
        raise BacktestRefused(f"--split {words} is not from 0.1 to 0.9")
    return split


def cut_at(first_ms: int, last_ms: int, split: Decimal) -> int:
    """The whole minute that cuts the time from the first trade to the last. Raises `BacktestRefused` if it is short."""
    first, last = first_ms // MINUTE_MS, last_ms // MINUTE_MS + 1
    cut = first + int((last - first) * split)
    if not first < cut < last:
        raise BacktestRefused(f"{last - first} minutes are too short to choose on one part and to prove on another")
    return cut * MINUTE_MS


def ranked(tried: Sequence[Tried], figure: str) -> list[Tried]:
    """Best first, by a figure of the part that parameters are chosen on; unknown ones last, ties as they were tried."""

    def place(row: Tried) -> tuple[bool, Decimal]:
        value = row.inside.get(figure)
        known = value is not None and Decimal(str(value)).is_finite()
        return not known, -Decimal(str(value)) if known else Decimal(0)

    return sorted(tried, key=place)
