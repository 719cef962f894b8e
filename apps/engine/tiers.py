"""Adaptive intensity: three tiers move a strategy's thresholds, results and breakers move the tier.

Up one tier when the win rate (net of fees) over the last 300 round trips is above 60 % by more than chance: the lower
end of Wilson's score interval (E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
1927), one-sided at 99.95 %, must be above 0.60, which takes 208 wins of 300. The level is that high because the
question is asked again after every round trip: asked 2,700 times, 95 % would promote a strategy of exactly 60 % almost
surely, while 99.95 % promotes it within 3,000 round trips with a chance below 5 % (docs/tiers.md: measured chances).
Only round trips closed since the last move count for a promotion: what was won at other thresholds proves nothing here.

Down one tier when fewer than half of the last 300 won, whichever tier that was in, or at once when a breaker trips.
Between two moves lies the dwell time, in event time; only a breaker (or a person) does not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Z: Final = 3.2905267314919255
"""Standard normal quantile of `CONFIDENCE`."""
CONFIDENCE: Final = 0.9995
"""One-sided: of the lower end of the interval, and of the upper."""
HOUR_MS: Final = 3_600_000


class Tier(StrEnum):
    """How much a strategy is trusted; from few and strong signals to many and weaker ones."""

    LOW_TRUST = "LOW_TRUST"
    NORMAL = "NORMAL"
    HIGH_TRUST = "HIGH_TRUST"


class Cause(StrEnum):
    """Why a tier was left."""

    RESULTS = "results"
    BREAKER = "breaker"
    PERSON = "person"


LADDER: Final = tuple(Tier)
THRESHOLDS: Final[dict[str, dict[str, float]]] = {
    Tier.LOW_TRUST: {"threshold_pct": 3.0, "rsi_min": 60, "volume_multiplier": 2.0},
    Tier.NORMAL: {"threshold_pct": 2.0, "rsi_min": 50, "volume_multiplier": 1.0},
    Tier.HIGH_TRUST: {"threshold_pct": 1.5, "rsi_min": 40, "volume_multiplier": 0.5},
}
"""What a tier says about a signal: rise in per cent, least RSI (0 to 100), multiple of the least turnover."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a tier moves. `window` in round trips, rates as fractions, `dwell_ms` in event time."""

    window: int = 300
    up_above: float = 0.60
    down_below: float = 0.50
    dwell_ms: int = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Evidence:
    """`wins` of the `n` newest round trips, and between which win rates the true one lies."""

    n: int
    wins: int
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a strategy stands. `moved_ms`: event time of its last move, None before the first."""

    tier: Tier
    moved_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    from_tier: Tier
    to_tier: Tier
    cause: Cause
    evidence: Evidence


def interval(wins: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a win rate, each end at `CONFIDENCE`; (0, 1) while nothing is known.

    The ends are the rates r at which |wins / n - r| = Z sqrt(r (1 - r) / n). Raises ValueError if 0 <= wins <= n fails.
    """
    if not 0 <= wins <= n:
        raise ValueError(f"{wins} wins of {n} round trips cannot be")
    if n == 0:
        return 0.0, 1.0
    rate, square = wins / n, Z * Z
    centre = rate + square / (2 * n)
    reach = Z * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    scale = 1 + square / n
    # Rounding must not say more than the formula: no win leaves 0 possible, no loss leaves 1 possible.
    lower = 0.0 if wins == 0 else (centre - reach) / scale
    upper = 1.0 if wins == n else (centre + reach) / scale
    return lower, upper


def evidence(results: Sequence[bool]) -> Evidence:
    """What these round trips (True: won more than its fees) say about the true win rate."""
    n, wins = len(results), sum(results)
    return Evidence(n, wins, *interval(wins, n))


def review(
    *, standing: Standing, results: Sequence[bool], since_move: int, now_ms: int, rules: Rules | None = None
) -> Move | None:
    """The move that results ask for, if any.

    `results`: closed round trips, newest last (older ones than the window are ignored); `since_move`: how many of the
    newest were closed after the last move; `now_ms`: event time of the newest close.
    """
    rules = rules or Rules()
    if standing.moved_ms is not None and now_ms - standing.moved_ms < rules.dwell_ms:
        return None
    newest = results[-rules.window :]
    if len(newest) < rules.window:
        return None
    found = evidence(newest)
    if found.wins < rules.down_below * found.n:
        return _move(standing.tier, -1, Cause.RESULTS, found)
    if since_move >= rules.window and found.lower > rules.up_above:
        return _move(standing.tier, 1, Cause.RESULTS, found)
    return None


def after_breaker(standing: Standing, results: Sequence[bool], rules: Rules | None = None) -> Move | None:
    """One tier down, without waiting; None at the bottom. The evidence is kept for the record, it decides nothing."""
    newest = results[-(rules or Rules()).window :]
    return _move(standing.tier, -1, Cause.BREAKER, evidence(newest))


def _move(tier: Tier, steps: int, cause: Cause, found: Evidence) -> Move | None:
    place = LADDER.index(tier) + steps
    if not 0 <= place < len(LADDER):
        return None
    return Move(tier, LADDER[place], cause, found)


def applies_to(parameters: Mapping[str, Any]) -> bool:
    """Whether a strategy with these parameters has thresholds that a tier moves. All of them or none."""
    return all(name in parameters for name in THRESHOLDS[Tier.NORMAL])


def with_tier(parameters: Mapping[str, Any], tier: Tier) -> dict[str, Any]:
    """The parameters with the thresholds of `tier`. Raises ValueError where a tier has nothing to move."""
    if not applies_to(parameters):
        missing = [name for name in THRESHOLDS[tier] if name not in parameters]
        raise ValueError(f"tiers move {', '.join(THRESHOLDS[tier])}; this strategy has no {', '.join(missing)}")
    return {**parameters, **THRESHOLDS[tier]}
