"""How near the symbols came to an entry of the momentum rule: for the question why nothing was signalled.

Worked out from closed bars, a minute at a time, in plain numbers: the rule itself would bring its compiler into every
process that shows a page. What it decides is never taken from here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from apps.market.models import Bar, EpochInstrument
from apps.staff import numbers, times

LOOKED_AT_MINUTES: Final = 60
SETTLING_MINUTES: Final = 140
"""Closed minutes before the first one that is judged, so that the average of the RSI has forgotten where it began."""
RSI_PERIOD: Final = 14
NAMES: Final = {"threshold_pct", "rsi_min", "turnover_min", "volume_multiplier", "lookback_minutes"}


class Minute(NamedTuple):
    close: float
    turnover: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One condition at one minute: its name, what was there and what was needed."""

    name: str
    value: float
    needed: float
    holds: bool

    @property
    def share(self) -> float:
        """How much of what was needed was there; 1 and more where it held."""
        if self.holds or self.needed <= 0:
            return 1.0
        return self.value / self.needed


@dataclass(frozen=True, slots=True)
class Miss:
    """A minute of a symbol with what did not hold, the furthest condition first."""

    symbol: str
    minute: int
    missing: tuple[Asked, ...]

    @property
    def words(self) -> str:
        """`XRPUSDT at 2023-11-14 22:14 UTC: change 1.8 % of 2.0 %`"""
        lacking = ", ".join(in_words(asked) for asked in self.missing)
        return f"{self.symbol} at {times.minute_text(self.minute)}: {lacking or 'every condition held'}"


@dataclass(frozen=True, slots=True)
class Nearness:
    """`judged` minutes of all symbols; by condition, how many of them failed it first; and the nearest one."""

    judged: int
    first_missing: dict[str, int]
    nearest: Miss | None


def in_words(asked: Asked) -> str:
    value, needed = Decimal(repr(asked.value)), Decimal(repr(asked.needed))
    if asked.name == "change":
        return f"change {numbers.percent(value, 2, signed=True)} of {numbers.percent(needed, 2)}"
    return f"{asked.name} {numbers.rounded(value, 1)} of {numbers.rounded(needed, 1)}"


def nearness(epoch_id: int, parameters: Mapping[str, Any], newest_minute: int) -> Nearness | None:
    """Of the last hour up to a closed minute; None for a rule that has other parameters than the momentum rule."""
    if not parameters.keys() >= NAMES:
        return None
    lookback = int(parameters["lookback_minutes"])
    first = newest_minute - LOOKED_AT_MINUTES - lookback - SETTLING_MINUTES
    followed = EpochInstrument.objects.filter(epoch_id=epoch_id, followed=True).values("instrument_id")
    rows = Bar.objects.filter(
        epoch_id=epoch_id, instrument_id__in=followed, minute__gt=first, minute__lte=newest_minute
    )
    series: dict[str, dict[int, Minute]] = defaultdict(dict)
    for symbol, minute, close, turnover in rows.values_list("instrument__symbol", "minute", "close", "turnover"):
        series[symbol][minute] = Minute(float(close), float(turnover))
    misses = [
        miss
        for symbol, minutes in series.items()
        for miss in _misses(symbol, minutes, parameters, newest_minute - LOOKED_AT_MINUTES)
    ]
    counted: dict[str, int] = defaultdict(int)
    for miss in misses:
        if miss.missing:
            counted[_first(miss)] += 1
    return Nearness(len(misses), dict(counted), min(misses, key=_distance, default=None))


def _first(miss: Miss) -> str:
    """The first condition in the rule's own order that failed."""
    return min((asked.name for asked in miss.missing), key=("change", "RSI", "turnover").index)


def _distance(miss: Miss) -> tuple[int, float]:
    return len(miss.missing), -sum(asked.share for asked in miss.missing)


def _misses(symbol: str, minutes: Mapping[int, Minute], parameters: Mapping[str, Any], after: int) -> Iterable[Miss]:
    """Each minute later than `after` whose window is stored, judged at its close."""
    lookback = int(parameters["lookback_minutes"])
    ordered = sorted(minutes)
    rsi = dict(zip(ordered, rsi_series([minutes[minute].close for minute in ordered]), strict=True))
    for minute in ordered:
        window = [minutes.get(minute - back) for back in range(lookback + 2)]
        strength = rsi.get(minute - 1)
        if minute <= after or strength is None or None in window:
            continue
        known = [row for row in window if row is not None]
        change = known[0].close / known[-1].close - 1 if known[-1].close else 0.0
        turnover = sum(row.turnover for row in known[:-1])
        asked = _conditions(parameters, change, strength, turnover)
        yield Miss(symbol, minute, tuple(sorted((row for row in asked if not row.holds), key=lambda row: row.share)))


def _conditions(parameters: Mapping[str, Any], change: float, rsi: float, turnover: float) -> tuple[Asked, ...]:
    threshold, rsi_min = float(parameters["threshold_pct"]) / 100, float(parameters["rsi_min"])
    floor = float(parameters["turnover_min"]) * float(parameters["volume_multiplier"])
    return (
        Asked("change", change, threshold, change >= threshold),
        Asked("RSI", rsi, rsi_min, rsi > rsi_min),
        Asked("turnover", turnover, floor, turnover >= floor),
    )


def rsi_series(closes: Sequence[float]) -> list[float | None]:
    """Wilder's RSI(14) after each close (J. Welles Wilder, New Concepts in Technical Trading Systems, 1978); None
    before the first 14 changes are known. 0 where nothing moved, as TA-Lib."""
    found: list[float | None] = []
    gain = loss = 0.0
    for number, close in enumerate(closes):
        if number:
            move = close - closes[number - 1]
            seeding = number <= RSI_PERIOD
            weight = 1.0 / RSI_PERIOD
            gain = gain + max(move, 0.0) * weight if seeding else gain + (max(move, 0.0) - gain) * weight
            loss = loss + max(-move, 0.0) * weight if seeding else loss + (max(-move, 0.0) - loss) * weight
        ready = number >= RSI_PERIOD
        found.append((100.0 * gain / (gain + loss) if gain + loss else 0.0) if ready else None)
    return found
