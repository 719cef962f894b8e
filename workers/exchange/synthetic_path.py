"""The synthetic market as pure functions of (seed, symbol, time): prices, quotes, and how many trades a second has.

Nothing is remembered, so any moment of the past or the future can be asked for in any order, and a restart continues
the same market. Every dice roll is a 64-bit hash of what it is for. The price is the start price times the exponential
of slow waves and smooth noise. All symbols share the period of the strongest wave and are spread evenly over it: at
any moment about a third of them rise, a third fall, and the rest turn.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apps.engine.instrument_specs import InstrumentSpec

Array: TypeAlias = NDArray[Any]

WAVE_PERIOD_SECONDS: Final = 48 * 60
SLOT_MS: Final = 200  # a quote stands for so long
TRADES_PER_SECOND_MAX: Final = 60.0
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class SyntheticInstrument:
    """A symbol's filters and its habits: start price, mean trades per second, height of its strongest wave."""

    spec: InstrumentSpec
    start_price: float
    trades_per_second: float
    wave_height: float
    median_notional: float


def hashes(key: int, numbers: Array) -> Array:
    """64 random bits per number, the same for the same key and number (the finaliser of splitmix64)."""
    value = numbers.astype(np.uint64) * _GOLDEN + np.uint64(key)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def uniform(bits: Array, shift: int = 0, width: int = 53) -> Array:
    """`width` of the bits as numbers in (0, 1)."""
    part = (bits >> np.uint64(shift)) & np.uint64((1 << width) - 1)
    return (part.astype(np.float64) + 0.5) / float(1 << width)


def key_of(*parts: object) -> int:
    """A 64-bit key for a purpose."""
    text = ":".join(str(part) for part in parts).encode()
    return zlib.crc32(text) << 32 | zlib.crc32(text, 0x5EED)


class PricePath:
    """One symbol's price, quotes and activity."""

    def __init__(
        self, instrument: SyntheticInstrument, seed: int, rank: int, symbol_count: int, slot_ms: int = SLOT_MS
    ) -> None:
        spec = instrument.spec
        self._instrument = instrument
        self.slot_ms = slot_ms
        # With slots of their own length symbols change one after the other, not all in the same moment.
        self._slot_shift_ms = 0 if slot_ms == SLOT_MS else key_of(seed, spec.symbol, "slots") % slot_ms
        self._tick = 10.0**-spec.price_decimals
        self._step = 10.0**-spec.quantity_decimals
        self._key: Callable[[str], int] = lambda purpose: key_of(seed, spec.symbol, purpose)
        turn = uniform(hashes(key_of(seed, "turn"), np.arange(1)))[0]
        phases = uniform(hashes(self._key("phases"), np.arange(4)))
        # (period in seconds, height, phase as a fraction of the period)
        self._waves = (
            (WAVE_PERIOD_SECONDS, instrument.wave_height, turn + rank / symbol_count),
            ((5 + 4 * phases[0]) * 3600, 0.010, phases[1]),
            ((31 + 22 * phases[2]) * 3600, 0.030, phases[3]),
        )
        self._noise_key, self._fine_key = self._key("noise"), self._key("fine noise")
        self._spread_key, self._size_key = self._key("spread"), self._key("size")
        self._activity_key, self._burst_key, self._quiet_key = (self._key(name) for name in ("busy", "burst", "quiet"))

    def slot(self, time_ms: int) -> int:
        """The number of the slot whose quote is in force at a time."""
        return (time_ms + self._slot_shift_ms) // self.slot_ms

    def quotes(self, time_ms: Array) -> tuple[Array, Array, Array, Array]:
        """(bid ticks, bid steps, ask ticks, ask steps) in force at each time."""
        return self.slot_quotes((time_ms + self._slot_shift_ms) // self.slot_ms)

    def slot_quotes(self, slots: Array) -> tuple[Array, Array, Array, Array]:
        """The same of each slot."""
        middle = np.exp(self._log_price(slots * (self.slot_ms / 1_000))) / self._tick
        bits = hashes(self._spread_key, slots)
        spread = np.maximum(np.rint(middle * 0.00008), 1.0) + np.floor(uniform(bits, 0, 10) * 3)
        jitter = (uniform(bits, 10, 10) - 0.5) * spread * 0.5
        bid = np.maximum(np.floor(middle - spread / 2 + jitter), 1.0)
        sizes = hashes(self._size_key, slots)
        return (
            bid.astype(np.int64),
            self.steps(4 * self._instrument.median_notional * lognormal(sizes, 0, 1.0), bid),
            (bid + spread).astype(np.int64),
            self.steps(4 * self._instrument.median_notional * lognormal(sizes, 32, 1.0), bid),
        )

    def steps(self, notional: Array, price_ticks: Array) -> Array:
        """A quantity worth `notional` at the price, at least one step and the instrument's minimum."""
        least = max(math.ceil(float(self._instrument.spec.quantity_min) / self._step), 1)
        return np.maximum(np.rint(notional / (price_ticks * self._tick * self._step)), least).astype(np.int64)

    def rising(self, seconds: Array) -> Array:
        """How strongly the price rises, from about -1 to 1."""
        change = self._log_price(seconds) - self._log_price(seconds - 60)
        steepest = self._instrument.wave_height * 2 * math.pi * 60 / WAVE_PERIOD_SECONDS
        return np.clip(change / steepest, -1.0, 1.0)

    def trade_counts(self, seconds: Array) -> Array:
        """Trades in each second: Poisson around a rate that has bursts and quiet stretches."""
        busy = np.exp(1.2 * _smooth(self._activity_key, seconds, 75.0) - 0.2)
        burst = np.where(uniform(hashes(self._burst_key, seconds // 15)) > 0.97, 7.0, 1.0)
        quiet = np.where(_smooth(self._quiet_key, seconds, 150.0) < -0.55, 0.05, 1.0)
        rate = np.minimum(self._instrument.trades_per_second * busy * burst * quiet, TRADES_PER_SECOND_MAX)
        return _poisson(rate, uniform(hashes(self._key("count"), seconds)))

    def _log_price(self, seconds: Array) -> Array:
        value = np.full(seconds.shape, math.log(self._instrument.start_price))
        for period, height, phase in self._waves:
            value += height * np.sin((2 * math.pi) * (seconds / period + phase))
        value += 0.0018 * _smooth(self._noise_key, seconds, 180.0)
        return value + 0.0005 * _smooth(self._fine_key, seconds, 12.0)


def _smooth(key: int, seconds: Array, spacing: float) -> Array:
    """Noise in [-1, 1] without corners: random values every `spacing` seconds and a smooth step between them."""
    place = seconds / spacing
    knot = np.floor(place)
    part = place - knot
    part = part * part * (3 - 2 * part)
    knot = knot.astype(np.int64)
    left, right = uniform(hashes(key, knot)), uniform(hashes(key, knot + 1))
    return 2 * (left + (right - left) * part) - 1


def lognormal(bits: Array, shift: int, sigma: float) -> Array:
    """Exponential of a bell-shaped number (the sum of four uniform ones) with median 1."""
    parts = [uniform(bits, shift + 8 * number, 8) for number in range(4)]
    return np.exp(sigma * math.sqrt(3.0) * (sum(parts) - 2.0))


def _poisson(rate: Array, chance: Array) -> Array:
    """The Poisson-distributed count at each chance, found by walking up the distribution."""
    count = np.zeros(rate.shape, dtype=np.int64)
    term = np.exp(-rate)
    total = term.copy()
    for number in range(1, int(3 * TRADES_PER_SECOND_MAX)):
        above = chance > total
        if not above.any():
            break
        count += above
        term = term * rate / number
        total = total + term
    return count
