"""Performance figures equal an independent library's and plain definitions; what is undefined is None."""

from __future__ import annotations

import math
import random
from dataclasses import astuple
from decimal import Decimal
from fractions import Fraction

import empyrical
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine import performance
from apps.engine.performance import DAY_MINUTES, Drawdown, RoundTrip, measure

Points = list[tuple[int, Decimal]]
MINUTE_MS = 60_000
CENT = Decimal("0.01")


def random_curve(seed: int, *, step: int = 1) -> Points:
    """Up to 400 points with falls and rises of up to some per cent, in cents."""
    dice = random.Random(seed)
    equity, spread, drift = 100_000.0, dice.choice([1e-5, 1e-3, 0.03]), dice.uniform(-0.2, 0.3)
    points = []
    for index in range(dice.randint(30, 400)):
        points.append((10_000 + index * step, Decimal(repr(equity)).quantize(CENT)))
        equity *= 1 + spread * dice.gauss(drift, 1)
    return points


def trip(net: str, *, fees: str = "0.5", opened: int = 0, closed: int = MINUTE_MS, notional: str = "100") -> RoundTrip:
    gross = Decimal(net) + Decimal(fees)
    return RoundTrip(
        symbol="AAAUSDT",
        reason="take_profit",
        opened_ts_event=opened,
        closed_ts_event=closed,
        entry_notional=Decimal(notional),
        exit_notional=Decimal(notional) + gross,
        gross=gross,
        fees=Decimal(fees),
        net=Decimal(net),
    )


def near(figure: float | None, oracle: float) -> bool:
    return figure is not None and math.isclose(figure, oracle, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("period_minutes", [1, 60, DAY_MINUTES])
def test_fifty_random_curves_give_the_figures_of_empyrical(period_minutes: int) -> None:
    compared = 0
    for seed in range(50):
        curve = random_curve(seed, step=period_minutes)
        found = measure(curve, [], period_minutes=period_minutes)
        values = np.array([float(equity) for _, equity in curve])
        returns, year = values[1:] / values[:-1] - 1, 365 * 1440 / period_minutes
        assert near(found.sharpe, empyrical.sharpe_ratio(returns, annualization=year))
        assert near(found.sortino, empyrical.sortino_ratio(returns, annualization=year))
        assert near(found.total_return, empyrical.cum_returns_final(returns))
        assert found.max_drawdown is not None
        assert near(found.max_drawdown.share, -empyrical.max_drawdown(returns))
        assert found.returns == len(returns)
        with np.errstate(over="ignore"):
            yearly = empyrical.calmar_ratio(returns, annualization=year)
        if math.isfinite(yearly):
            assert near(found.calmar, yearly)
            compared += 1
        else:
            assert found.calmar is None
    assert compared >= 30


def test_figures_of_round_trips_follow_their_definitions() -> None:
    trips = [trip("3"), trip("-1.5"), trip("0"), trip("0.75"), trip("-1", fees="0.25")]
    found = measure([], trips, period_minutes=1)
    assert (found.round_trips, found.won, found.win_rate) == (5, 2, 2 / 5)
    assert (found.gross, found.fees, found.net) == (Decimal("3.50"), Decimal("2.25"), Decimal("1.25"))
    assert found.profit_factor == 3.75 / 2.5
    assert found.expectancy == Decimal("0.25")
    assert found.turnover == 5 * 200 + Decimal("3.50")


@settings(deadline=None)
@given(st.lists(st.integers(-(10**6), 10**6), max_size=30))
def test_round_trips_of_any_results_equal_exact_fractions(cents: list[int]) -> None:
    trips = [trip(str(Decimal(value) / 100)) for value in cents]
    won, lost = sum(v for v in cents if v > 0), -sum(v for v in cents if v < 0)
    assert performance.profit_factor(trips) == (float(Fraction(won, lost)) if lost else None)
    assert performance.win_rate(trips) == (float(Fraction(sum(v > 0 for v in cents), len(cents))) if cents else None)
    expected = Fraction(sum(cents), 100 * len(cents)) if cents else None
    found = performance.expectancy(trips)
    assert (found is None) == (expected is None)
    assert found is None or expected is None or abs(Fraction(found) - expected) <= Fraction(1, 10**18)


def test_a_win_before_fees_that_loses_after_them_is_lost() -> None:
    assert performance.win_rate([trip("-0.1", fees="0.2")]) == 0.0


curves = st.lists(st.integers(1, 10**8), min_size=1, max_size=25).map(
    lambda values: [(index, Decimal(value) / 100) for index, value in enumerate(values)]
)


@settings(deadline=None)
@given(curves)
def test_the_largest_drawdown_is_the_largest_of_all_pairs(curve: Points) -> None:
    falls = [
        (Fraction(top) - Fraction(low)) / Fraction(top)
        for index, (_, top) in enumerate(curve)
        for _, low in curve[index:]
    ]
    found = performance.max_drawdown(curve)
    assert found is not None
    assert found.share == pytest.approx(float(max(falls)), abs=1e-15)
    by_minute = dict(curve)
    assert found.amount == by_minute[found.peak] - by_minute[found.trough]
    shares = performance.drawdowns(curve)
    assert [minute for minute, _ in shares] == [minute for minute, _ in curve]
    assert max(share for _, share in shares) == found.share
    assert all(0 <= share < 1 for _, share in shares)


def points(*values: float | str) -> Points:
    return [(5 + index, Decimal(str(value))) for index, value in enumerate(values)]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (points(100, 80, 90, 100, 120), Drawdown(0.2, Decimal(20), 5, 6, 8)),
        (points(100, 120, 90, 110), Drawdown(0.25, Decimal(30), 6, 7, None)),
        (points(100, 90, 100, 90, 101), Drawdown(0.1, Decimal(10), 5, 6, 7)),
        (points(100, 101, 102), Drawdown(0.0, Decimal(0), 5, 5, 5)),
        (points(100), Drawdown(0.0, Decimal(0), 5, 5, 5)),
    ],
)
def test_a_drawdown_names_its_peak_its_trough_and_its_recovery(curve: Points, expected: Drawdown) -> None:
    assert performance.max_drawdown(curve) == expected


@pytest.mark.parametrize(
    ("spans", "open_since", "expected"),
    [
        ([], [], 0.0),
        ([(1, 3), (5, 6)], [], 0.3),
        ([(1, 3), (2, 4), (2, 3)], [], 0.3),
        ([(1, 6), (2, 3), (4, 5)], [], 0.5),
        ([(-5, 1), (9, 15)], [], 0.2),
        ([(1, 2)], [8], 0.3),
        ([(-9, -1)], [0], 1.0),
        ([(12, 14)], [], 0.0),
    ],
)
def test_exposure_counts_time_with_a_position_once(
    spans: list[tuple[int, int]], open_since: list[int], expected: float
) -> None:
    """Times in minutes after the close of the curve's first minute."""
    curve = [(100, Decimal(1)), (110, Decimal(1))]
    origin = 101 * MINUTE_MS
    trips = [trip("1", opened=origin + first * MINUTE_MS, closed=origin + last * MINUTE_MS) for first, last in spans]
    since = [origin + first * MINUTE_MS for first in open_since]
    assert performance.exposure(curve, trips, open_since_ms=since) == pytest.approx(expected, abs=1e-12)


def test_turnover_is_compared_with_the_mean_equity() -> None:
    curve = points(900, 1100)
    assert performance.turnover_ratio(curve, [trip("-0.5"), trip("-0.5")]) == 0.4


def test_samples_carry_the_last_equity_and_leave_out_a_rest() -> None:
    curve = [(7, Decimal(1)), (8, Decimal(2)), (14, Decimal(3)), (15, Decimal(4))]
    assert performance.sampled(curve, 3) == [(7, Decimal(1)), (10, Decimal(2)), (13, Decimal(2))]
    assert performance.sampled(curve, 4) == [(7, Decimal(1)), (11, Decimal(2)), (15, Decimal(4))]
    assert performance.sampled([], 4) == []


@settings(deadline=None)
@given(curves, st.sampled_from([1, 2, 5, 60]))
def test_no_curve_gives_an_infinite_figure(curve: Points, period_minutes: int) -> None:
    figures = [value for value in astuple(measure(curve, [], period_minutes=period_minutes)) if value is not None]
    assert all(math.isfinite(value) for value in figures if isinstance(value, float))


@pytest.mark.parametrize(
    ("curve", "undefined"),
    [
        ([], {"total_return", "exposure", "turnover_ratio", "sharpe", "sortino", "calmar", "max_drawdown"}),
        (points(100), {"exposure", "sharpe", "sortino", "calmar"}),
        (points(100, 90), {"sharpe", "sortino", "calmar"}),
        (points(100, 100, 100), {"sharpe", "sortino", "calmar"}),
        (points(100, 101, 103), {"sortino", "calmar"}),
        (points(100, 110, 121, "133.1"), {"sharpe", "sortino", "calmar"}),
        (points(100, 0, 100), {"sharpe", "sortino"}),
        (points(0, 100, 90), {"total_return", "sharpe", "sortino", "calmar", "max_drawdown"}),
    ],
)
def test_what_the_curve_does_not_define_is_none(curve: Points, undefined: set[str]) -> None:
    found = measure(curve, [trip("1")], period_minutes=1)
    of_the_curve = (
        "total_return", "exposure", "turnover_ratio", "sharpe", "sortino", "calmar", "max_drawdown",
    )  # fmt: skip
    assert {name for name in of_the_curve if getattr(found, name) is None} - {"calmar"} == undefined - {"calmar"}
    assert "calmar" not in undefined or found.calmar is None


def test_without_round_trips_their_ratios_are_none_and_their_sums_zero() -> None:
    found = measure(points(100, 90, 95), [], period_minutes=1)
    assert (found.win_rate, found.profit_factor, found.expectancy) == (None, None, None)
    assert [found.round_trips, found.net, found.turnover, found.exposure] == [0] * 4


def test_only_winners_have_no_profit_factor() -> None:
    assert performance.profit_factor([trip("1"), trip("2")]) is None


@pytest.mark.parametrize("period_minutes", [0, -1, 7, 1441, 2880])
def test_a_period_that_divides_no_day_is_refused(period_minutes: int) -> None:
    with pytest.raises(ValueError, match=f"{period_minutes} minutes"):
        measure(points(1, 2), [], period_minutes=period_minutes)


def test_minutes_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="must rise"):
        measure([(5, Decimal(1)), (5, Decimal(2))], [], period_minutes=1)
