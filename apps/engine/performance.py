"""How well it went: figures over closed round trips and an equity curve.

Money is Decimal in the quote currency, ratios are floats. A figure that its definition does not give for these data is
None: never an infinite number, never a zero in its place, no guess from a single point. Definitions and their sources:
docs/indicators.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Final

from apps.engine.money import ZERO, exact, to_money, total

MINUTE_MS: Final = 60_000
YEAR_MINUTES: Final = 365 * 24 * 60  # the market never closes
DAY_MINUTES: Final = 24 * 60
RETURNS_MIN: Final = 2  # below that there is no dispersion to speak of
_NOISE: Final = 1e-12  # returns that differ by less, relative to the largest, differ by rounding only

Curve = Sequence[tuple[int, Decimal]]  # (minute, equity at its close), minutes rising


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One position from its first entry fill to the fill that closed it. Money in quote currency, times in event ms.

    `net` is what the account gained: `gross - fees`. `entry_notional` and `exit_notional` are sums over all fills of
    their side, price x quantity. `reason` says why it was closed.
    """

    symbol: str
    reason: str
    opened_ts_event: int
    closed_ts_event: int
    entry_notional: Decimal
    exit_notional: Decimal
    gross: Decimal
    fees: Decimal
    net: Decimal


@dataclass(frozen=True, slots=True)
class Drawdown:
    """A fall of equity from a peak. `share` of the peak from 0 to 1, `amount` in quote currency; times are minutes.

    `recovered` is the first minute at which equity was back at the peak; None if it never was.
    """

    share: float
    amount: Decimal
    peak: int
    trough: int
    recovered: int | None


@dataclass(frozen=True, slots=True)
class Performance:
    """The figures of one run. What is a float or None has no unit; `exposure` and `win_rate` are shares from 0 to 1."""

    round_trips: int
    won: int
    gross: Decimal
    fees: Decimal
    net: Decimal
    turnover: Decimal
    win_rate: float | None
    profit_factor: float | None
    expectancy: Decimal | None
    turnover_ratio: float | None
    exposure: float | None
    total_return: float | None
    period_minutes: int
    returns: int
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: Drawdown | None


def measure(
    curve: Curve, trips: Sequence[RoundTrip], *, period_minutes: int, open_since_ms: Sequence[int] = ()
) -> Performance:
    """All figures. Returns for the yearly ones are taken over periods of `period_minutes` (1 to a day).

    `open_since_ms` are the event times at which positions were opened that were still open at the curve's end.
    Raises ValueError if the curve's minutes do not rise or the period divides no day.
    """
    per_year = periods_per_year(period_minutes)
    steps = returns_of(sampled(curve, period_minutes))
    return Performance(
        round_trips=len(trips),
        won=sum(trip.net > 0 for trip in trips),
        gross=total([trip.gross for trip in trips]),
        fees=total([trip.fees for trip in trips]),
        net=total([trip.net for trip in trips]),
        turnover=turnover(trips),
        win_rate=win_rate(trips),
        profit_factor=profit_factor(trips),
        expectancy=expectancy(trips),
        turnover_ratio=turnover_ratio(curve, trips),
        exposure=exposure(curve, trips, open_since_ms=open_since_ms),
        total_return=total_return(curve),
        period_minutes=period_minutes,
        returns=len(steps or ()),
        sharpe=sharpe(steps, per_year),
        sortino=sortino(steps, per_year),
        calmar=calmar(curve, period_minutes=period_minutes),
        max_drawdown=max_drawdown(curve),
    )


# --- round trips ------------------------------------------------------------------------------------------------------


def win_rate(trips: Sequence[RoundTrip]) -> float | None:
    """Share of round trips whose result after fees is above zero. One that gave exactly nothing is not won."""
    return sum(trip.net > 0 for trip in trips) / len(trips) if trips else None


def profit_factor(trips: Sequence[RoundTrip]) -> float | None:
    """What the winners gained over what the losers lost, after fees. None without a loss."""
    won = total([trip.net for trip in trips if trip.net > 0])
    lost = -total([trip.net for trip in trips if trip.net < 0])
    return _ratio(won, lost) if lost else None


@exact
def expectancy(trips: Sequence[RoundTrip]) -> Decimal | None:
    """Mean result of a round trip after fees, quote currency, 18 places."""
    return to_money(total([trip.net for trip in trips]) / len(trips)) if trips else None


@exact
def turnover(trips: Sequence[RoundTrip]) -> Decimal:
    """What was bought and sold, quote currency."""
    return sum((trip.entry_notional + trip.exit_notional for trip in trips), ZERO)


@exact
def turnover_ratio(curve: Curve, trips: Sequence[RoundTrip]) -> float | None:
    """Turnover over the mean of the curve's equity: how often the account was turned over, both sides counted."""
    if not curve or total([equity for _, equity in curve]) <= 0:
        return None
    return _ratio(turnover(trips), total([equity for _, equity in curve]) / len(curve))


def exposure(curve: Curve, trips: Sequence[RoundTrip], *, open_since_ms: Sequence[int] = ()) -> float | None:
    """Share of the curve's time in which at least one position was open. None for a curve of less than two points."""
    if len(curve) < 2:
        return None
    first, last = ((minute + 1) * MINUTE_MS for minute, _ in (curve[0], curve[-1]))
    spans = [(trip.opened_ts_event, trip.closed_ts_event) for trip in trips] + [(ts, last) for ts in open_since_ms]
    held, reached = 0, first
    for opened, closed in sorted(spans):
        held += max(min(closed, last) - max(opened, reached), 0)
        reached = max(reached, closed)
    return held / (last - first)


# --- the curve --------------------------------------------------------------------------------------------------------


def periods_per_year(period_minutes: int) -> float:
    """Raises ValueError unless a day is a whole number of periods."""
    if not 1 <= period_minutes <= DAY_MINUTES or DAY_MINUTES % period_minutes:
        raise ValueError(f"a period of {period_minutes} minutes does not divide a day")
    return YEAR_MINUTES / period_minutes


def sampled(curve: Curve, period_minutes: int) -> list[tuple[int, Decimal]]:
    """Evenly spaced points from the curve's first minute on; each carries the last equity known at its minute.

    A rest at the end that is shorter than a period is left out, for it is no return of a whole period. Raises
    ValueError if the minutes do not rise.
    """
    if any(earlier >= later for (earlier, _), (later, _) in pairwise(curve)):
        raise ValueError("the minutes of an equity curve must rise")
    if not curve:
        return []
    points: list[tuple[int, Decimal]] = []
    due, end = curve[0][0], curve[-1][0]
    ends = [following - 1 for following, _ in curve[1:]]
    for (_, equity), until in zip(curve, [*ends, end], strict=True):
        while due <= until:
            points.append((due, equity))
            due += period_minutes
    return points


@exact
def returns_of(points: Curve) -> list[float] | None:
    """The change between neighbours, as fractions. None if equity was ever not above zero: then there are none."""
    if any(equity <= 0 for _, equity in points):
        return None
    return [float((later - earlier) / earlier) for (_, earlier), (_, later) in pairwise(points)]


@exact
def total_return(curve: Curve) -> float | None:
    """Last equity over first, minus one."""
    if not curve or curve[0][1] <= 0:
        return None
    return _ratio(curve[-1][1] - curve[0][1], curve[0][1])


@exact
def drawdowns(curve: Curve) -> list[tuple[int, float]]:
    """(minute, share of the highest equity so far that is gone), from 0 to 1; above 1 where equity is below zero."""
    shares, peak = [], ZERO
    for minute, equity in curve:
        peak = max(peak, equity)
        shares.append((minute, _ratio(peak - equity, peak) if peak > 0 else 0.0))
    return shares


@exact
def max_drawdown(curve: Curve) -> Drawdown | None:
    """The largest fall as a share of its peak, the first if several are equal.

    A curve that never falls has one of 0 at its first minute. None for an empty curve or one that begins at nothing.
    """
    if not curve or curve[0][1] <= 0:
        return None
    top_minute, top = curve[0]
    worst = Drawdown(0.0, ZERO, top_minute, top_minute, top_minute)
    worst_top = top
    for minute, equity in curve:
        if equity > top:
            top_minute, top = minute, equity
        if (top - equity) * worst_top > worst.amount * top:  # shares compared exactly
            worst, worst_top = Drawdown(_ratio(top - equity, top), top - equity, top_minute, minute, None), top
    if worst.recovered is not None:
        return worst
    back = next((minute for minute, equity in curve if minute > worst.trough and equity >= worst_top), None)
    return Drawdown(worst.share, worst.amount, worst.peak, worst.trough, back)


# --- figures per year -------------------------------------------------------------------------------------------------


def sharpe(returns: Sequence[float] | None, per_year: float) -> float | None:
    """Mean return over its standard deviation (n - 1), times the root of the periods of a year; no riskless rate.

    None for fewer than two returns, and for returns that do not differ.
    """
    if returns is None or len(returns) < RETURNS_MIN:
        return None
    mean = math.fsum(returns) / len(returns)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in returns) / (len(returns) - 1))
    if deviation <= _NOISE * max(abs(value) for value in returns):
        return None
    return mean / deviation * math.sqrt(per_year)


def sortino(returns: Sequence[float] | None, per_year: float) -> float | None:
    """Mean return over the root of the mean squared return below zero, times the root of the periods of a year.

    None for fewer than two returns, and if none is below zero.
    """
    if returns is None or len(returns) < RETURNS_MIN:
        return None
    below = math.sqrt(math.fsum(min(value, 0.0) ** 2 for value in returns) / len(returns))
    return math.fsum(returns) / len(returns) / below * math.sqrt(per_year) if below else None


def calmar(curve: Curve, *, period_minutes: int) -> float | None:
    """Growth per year, compounded over whole periods, over the largest drawdown of the curve.

    None for fewer than two returns, without a drawdown, and where a short run extrapolates to no number at all.
    """
    points, worst = sampled(curve, period_minutes), max_drawdown(curve)
    if len(points) <= RETURNS_MIN or worst is None or not worst.share or points[-1][1] <= 0:
        return None
    years = (len(points) - 1) / periods_per_year(period_minutes)
    try:
        return math.expm1(math.log(_ratio(points[-1][1], points[0][1])) / years) / worst.share
    except OverflowError:
        return None


@exact
def _ratio(part: Decimal, whole: Decimal) -> float:
    return float(part / whole)
