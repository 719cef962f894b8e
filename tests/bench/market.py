"""A made-up market as columns, as large as wanted: seeded, made slice by slice, so that memory stays bounded.

Every symbol walks in ticks between two walls; three times a day a burst lifts it by three per cent in six minutes, and
then it goes on, falls back, or stands. So momentum finds entries that end at the target, at the stop and by time.
Trades come at about 1.2 per second and symbol however many symbols and however long a slice: 50,000 in twelve hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from apps.engine.model import MINUTE_MS, Scale
from apps.engine.tapes import Tape

START_MS: Final = 1_699_920_000_000  # a midnight
SCALE: Final = Scale(price_decimals=4, quantity_decimals=2)
HALF_DAY_MINUTES: Final = 720
HALF_DAY_TRADES: Final = 50_000
MINUTES_STEP: Final = 9  # a slice of so many minutes, or a multiple, holds a whole number of trades
PARAMETERS: Final[Mapping[str, Any]] = {
    "lookback_minutes": 15,
    "threshold_pct": 2.0,
    "rsi_min": 50,
    "turnover_min": 10_000,
    "volume_multiplier": 1,
    "cooldown_minutes": 15,
    "stop_loss_pct": "2",
    "take_profit_pct": "6",
    "trailing_stop_pct": "0",
    "max_holding_minutes": 240,
    "exit_on_signal": 1,
}

_MID: Final = 20_000  # ticks; the walls are a fifth above and below
_REACH: Final = 4_000
_STEP: Final = 2  # ticks, at most, from one trade to the next
_QUANTITY_MAX: Final = 5_000
_PERIOD_MINUTES: Final = 480
# Minutes after a burst begins, and how far above its walk the price stands then.
_BURSTS: Final = (
    ((0.0, 0.0), (6.0, 0.035), (20.0, 0.10), (200.0, 0.0)),  # goes on: the target
    ((0.0, 0.0), (6.0, 0.035), (20.0, -0.01), (140.0, 0.0)),  # falls back: the stop
    ((0.0, 0.0), (6.0, 0.03), (300.0, 0.018), (320.0, 0.0)),  # stands: the holding time
)
_BEGINS: Final = (0.05, 0.30)  # where in its period a burst begins

Int64s = npt.NDArray[np.int64]


class Numbers(Sequence[str]):
    """Trade ids that count on from `first`, made when asked."""

    def __init__(self, first: int, length: int) -> None:
        self._numbers = range(first, first + length)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any, /) -> Any:
        found = self._numbers[index]
        return [str(number) for number in found] if isinstance(found, range) else str(found)


@dataclass(slots=True)
class _Symbol:
    name: str
    dice: np.random.Generator
    phase_ms: int
    place: int = _REACH
    made: int = 0


class Market:
    """Gives one slice of time after the other. The same slices of the same market are the same trades."""

    def __init__(self, symbols: int, seed: int = 1) -> None:
        phases = np.random.default_rng(seed).integers(0, _PERIOD_MINUTES * MINUTE_MS, symbols)
        self._symbols = [
            _Symbol(f"S{number:04d}USDT", np.random.default_rng([seed, number]), int(phase))
            for number, phase in enumerate(phases)
        ]
        self._seed, self._minute = seed, 0
        self.names = [symbol.name for symbol in self._symbols]

    def slice(self, minutes: int) -> dict[str, Tape]:
        """The next `minutes` (a multiple of 9) of every symbol, 625 trades per nine minutes and symbol."""
        assert minutes % MINUTES_STEP == 0, minutes
        trades = minutes * HALF_DAY_TRADES // HALF_DAY_MINUTES
        tapes = {symbol.name: self._tape(number, minutes, trades) for number, symbol in enumerate(self._symbols)}
        self._minute += minutes
        return tapes

    def slices(self, count: int, minutes: int) -> Iterator[dict[str, Tape]]:
        for _ in range(count):
            yield self.slice(minutes)

    def _tape(self, number: int, minutes: int, trades: int) -> Tape:
        symbol = self._symbols[number]
        dice = symbol.dice
        waits = np.cumsum(dice.standard_exponential(trades + 1))
        length_ms = minutes * MINUTE_MS
        since = (waits[:-1] * (length_ms / waits[-1])).astype(np.int64) + self._minute * MINUTE_MS
        np.minimum(since, (self._minute + minutes) * MINUTE_MS - 1, out=since)
        price = self._prices(symbol, number, since)
        first = symbol.made + 1
        symbol.made += trades
        return Tape(
            symbol.name,
            SCALE,
            since + START_MS,
            price,
            dice.integers(1, _QUANTITY_MAX, trades),
            dice.integers(1, 3, trades, dtype=np.int8),
            Numbers(first, trades),
        )

    def _prices(self, symbol: _Symbol, number: int, since: Int64s) -> Int64s:
        """The walk, thrown back at its walls, times the burst's lift."""
        walk = np.cumsum(symbol.dice.integers(-_STEP, _STEP + 1, len(since)))
        walk += symbol.place
        symbol.place = int(walk[-1]) % (4 * _REACH)
        walk %= 4 * _REACH
        walk -= 2 * _REACH
        base = np.abs(walk, out=walk)
        base += _MID - _REACH
        knots, lifts = self._knots(symbol, number, int(since[0]), int(since[-1]))
        lift = np.interp(since, knots, lifts)
        lift += 1.0
        lift *= base
        return np.rint(lift, out=lift).astype(np.int64)

    def _knots(self, symbol: _Symbol, number: int, first: int, last: int) -> tuple[list[float], list[float]]:
        """Where the lift bends, from the burst before `first` to the one after `last`."""
        period = _PERIOD_MINUTES * MINUTE_MS
        knots: list[float] = []
        lifts: list[float] = []
        for burst in range((first + symbol.phase_ms) // period - 1, (last + symbol.phase_ms) // period + 2):
            dice = np.random.default_rng([self._seed, number, burst + 1])
            begins = (burst + dice.uniform(*_BEGINS)) * period - symbol.phase_ms
            for minute, lift in _BURSTS[dice.integers(len(_BURSTS))]:
                knots.append(begins + minute * MINUTE_MS)
                lifts.append(lift)
        return knots, lifts


def merged(tapes: Mapping[str, Tape]) -> dict[str, npt.NDArray[Any]]:
    """All trades by time; of equal times the symbols in the given order. `symbol` counts from 0, `number` is the id."""
    order = np.argsort(np.concatenate([tape.ts for tape in tapes.values()]), kind="stable")
    parts: dict[str, list[npt.NDArray[Any]]] = {
        "ts": [tape.ts for tape in tapes.values()],
        "symbol": [np.full(len(tape), number, np.int16) for number, tape in enumerate(tapes.values())],
        "price": [tape.price for tape in tapes.values()],
        "quantity": [tape.quantity for tape in tapes.values()],
        "side": [tape.side for tape in tapes.values()],
        "number": [np.arange(len(tape)) + int(tape.trade_id[0]) for tape in tapes.values()],
    }
    return {name: np.concatenate(columns)[order] for name, columns in parts.items()}
