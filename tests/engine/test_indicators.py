"""Indicators equal TA-Lib, and both their forms agree to the last bit however a series is split."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine import indicators
from apps.engine.indicators import Floats, Warmup

RECORDED = Path(__file__).with_name("recorded_minutes.csv")
COLUMNS = ("high", "low", "close", "turnover")
Columns = dict[str, Floats]


@dataclass(frozen=True)
class Case:
    """One indicator: which columns it reads, its forms, and what TA-Lib gives for the same."""

    reads: tuple[str, ...]
    cells: Callable[[int], int]
    need: Callable[[int], int]
    update: Callable[..., float]
    over: Callable[..., None]
    batch: Callable[..., Floats]
    oracle: Callable[..., Floats]
    periods: tuple[int, ...]


def log_squares(closes: Floats, window: int) -> Floats:
    squares = np.concatenate([[math.nan], np.diff(np.log(closes)) ** 2])
    return np.sqrt(talib.SUM(squares, window)) if window > 1 else np.sqrt(squares)


def rolling_sum(values: Floats, window: int) -> Floats:
    return talib.SUM(values, window) if window > 1 else values


CASES = {
    "ema": Case(
        ("close",), lambda _: indicators.EMA_CELLS, indicators.ema_need, indicators.ema_update, indicators.ema_over,
        indicators.ema, talib.EMA, (2, 9, 26),
    ),
    "rsi": Case(
        ("close",), lambda _: indicators.RSI_CELLS, indicators.rsi_need, indicators.rsi_update, indicators.rsi_over,
        indicators.rsi, talib.RSI, (2, 5, 14),
    ),
    "atr": Case(
        ("high", "low", "close"), lambda _: indicators.ATR_CELLS, indicators.atr_need, indicators.atr_update,
        indicators.atr_over, indicators.atr, talib.ATR, (1, 5, 14),
    ),
    "change": Case(
        ("close",), indicators.change_cells, indicators.change_need, indicators.change_update, indicators.change_over,
        indicators.change, talib.ROCP, (1, 15, 60),
    ),
    "turnover": Case(
        ("turnover",), indicators.turnover_cells, indicators.turnover_need, indicators.turnover_update,
        indicators.turnover_over, indicators.turnover, rolling_sum, (1, 15, 60),
    ),
    "volatility": Case(
        ("close",), indicators.volatility_cells, indicators.volatility_need, indicators.volatility_update,
        indicators.volatility_over, indicators.volatility, log_squares, (1, 15, 60),
    ),
}  # fmt: skip
EACH = [(name, period) for name, case in CASES.items() for period in case.periods]


def random_columns(seed: int, rows: int = 2_000) -> Columns:
    dice = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(dice.normal(scale=0.01, size=rows)))
    high, low = close * (1 + dice.exponential(0.003, rows)), close * (1 - dice.uniform(0, 0.01, rows))
    return dict(zip(COLUMNS, (high, low, close, dice.exponential(1e5, rows)), strict=True))


def recorded_columns(*, unit: float = 1.0) -> Columns:
    """600 minutes of a real market in 2019, a fifth of them without a trade. `unit` multiplies prices."""
    table = np.loadtxt(RECORDED, delimiter=",", skiprows=1)
    scale = np.array([unit, unit, unit, 1.0])
    return dict(zip(COLUMNS, np.ascontiguousarray((table * scale).T), strict=True))


SERIES: dict[str, Callable[[], Columns]] = {
    "random 1": lambda: random_columns(1),
    "random 2": lambda: random_columns(2),
    "a real market": recorded_columns,
    "a real market in a dearer unit": lambda: recorded_columns(unit=1e6),
}


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize(("name", "period"), EACH)
def test_an_indicator_equals_ta_lib_wherever_either_has_a_value(name: str, period: int, series: str) -> None:
    case, columns = CASES[name], SERIES[series]()
    given_columns = [columns[read] for read in case.reads]
    ours, theirs = case.batch(*given_columns, period), case.oracle(*given_columns, period)
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    known = ~np.isnan(ours)
    assert known.sum() == len(ours) - case.need(period) + 1 > 500
    assert np.all(np.abs(ours[known] - theirs[known]) <= 1e-9 * np.maximum(1.0, np.abs(theirs[known])))


@pytest.mark.parametrize(("name", "period"), EACH)
def test_a_value_appears_exactly_when_the_warm_up_is_over(name: str, period: int) -> None:
    case, columns = CASES[name], random_columns(3, rows=80)
    state = np.zeros(case.cells(period))
    for row in range(80):
        before = indicators.warmup(state, case.need(period))
        assert before == Warmup(min(row, case.need(period)), case.need(period))
        value = case.update(state, period, *(columns[read][row] for read in case.reads))
        assert indicators.warmup(state, case.need(period)).ready == (not math.isnan(value)) == (row + 1 >= before.need)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(EACH), st.integers(0, 1000), st.lists(st.integers(0, 200), max_size=8))
def test_any_split_of_a_series_gives_the_same_bits(which: tuple[str, int], seed: int, cuts: list[int]) -> None:
    """Batches over pieces with the state carried on, one bar at a time, and the whole at once."""
    name, period = which
    case, columns = CASES[name], random_columns(seed, rows=200)
    given_columns = [columns[read] for read in case.reads]
    whole = case.batch(*given_columns, period)
    pieces, single = np.zeros(case.cells(period)), np.zeros(case.cells(period))
    out = np.empty(200)
    edges = [0, *sorted(cuts), 200]
    for first, last in pairwise(edges):
        case.over(pieces, period, *(column[first:last] for column in given_columns), out[first:last])
    assert np.array_equal(out, whole, equal_nan=True)
    one_by_one = [case.update(single, period, *values) for values in zip(*given_columns, strict=True)]
    assert np.array_equal(np.array(one_by_one), whole, equal_nan=True)
    assert pieces.tobytes() == single.tobytes()


@pytest.mark.parametrize("name", ["change", "turnover", "volatility"])
def test_a_larger_state_gives_the_same_values(name: str) -> None:
    """A strategy's dtype has room for the longest window that its parameters allow."""
    case, columns = CASES[name], random_columns(4, rows=300)
    column = columns[case.reads[0]]
    out, state = np.empty(300), np.zeros(case.cells(120))
    case.over(state, 7, column, out)
    assert np.array_equal(out, case.batch(column, 7), equal_nan=True)


@pytest.mark.parametrize("name", ["change", "turnover", "volatility"])
def test_a_state_too_small_for_its_window_is_refused(name: str) -> None:
    case, columns = CASES[name], random_columns(5, rows=30)
    state = np.zeros(case.cells(6))
    with pytest.raises(ValueError, match="too small"):
        case.over(state, 7, columns[case.reads[0]], np.empty(30))


RECORD = np.dtype(
    [("rsi", np.float64, (indicators.RSI_CELLS,)), ("change", np.float64, (indicators.change_cells(30),))]
)


@numba.njit
def _on_bar(state: Any, close: float) -> float:
    """As a strategy would: the states of two indicators are fields of its own record."""
    return float(indicators.rsi_update(state.rsi, 14, close) + indicators.change_update(state.change, 15, close))


def test_states_are_fields_of_a_strategys_record() -> None:
    closes = random_columns(6, rows=60)["close"]
    state = np.zeros(1, RECORD)
    found = np.array([_on_bar(state[0], close) for close in closes])
    assert np.array_equal(found, indicators.rsi(closes, 14) + indicators.change(closes, 15), equal_nan=True)
    assert state["rsi"][0, 0] == 60


def plain_rsi(closes: list[float]) -> float:
    """Wilder's index of 14 written out for the last of the closes, with the momentum rule's order of operations."""
    moves = [later - earlier for earlier, later in pairwise(closes)]
    gain, loss = (sum(max(sign * move, 0.0) for move in moves[:14]) / 14 for sign in (1, -1))
    for move in moves[14:]:
        gain, loss = (gain * 13 + max(move, 0.0)) / 14, (loss * 13 + max(-move, 0.0)) / 14
    return 100.0 * (gain / (gain + loss)) if gain + loss > 0 else 0.0


def test_rsi_has_the_momentum_rules_order_of_operations() -> None:
    closes = recorded_columns()["close"]
    values = indicators.rsi(closes, 14)
    assert all(values[end - 1] == plain_rsi(closes[:end].tolist()) for end in range(15, 600, 13))


def test_the_reference_of_a_change_is_the_close_before_the_window() -> None:
    state = np.zeros(indicators.change_cells(15))
    closes = random_columns(7, rows=40)["close"]
    for close in closes:
        indicators.change_update(state, 15, close)
    assert indicators.change_reference(state, 15) == closes[-16]


@pytest.mark.parametrize(
    ("name", "expected"), [("rsi", 0.0), ("atr", 0.0), ("change", 0.0), ("volatility", 0.0), ("ema", 5.0)]
)
def test_a_market_that_does_not_move_has_plain_values(name: str, expected: float) -> None:
    case, flat = CASES[name], np.full(40, 5.0)
    values = case.batch(*([flat] * len(case.reads)), 14)
    assert values[-1] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(values[0])


@pytest.mark.parametrize("name", ["rsi", "change", "volatility"])
def test_the_unit_of_the_price_does_not_matter(name: str) -> None:
    """A power of two scales without rounding; a coin at 1e-12 has the same figures as one at 1."""
    case, closes = CASES[name], random_columns(8, rows=100)["close"]
    assert np.array_equal(case.batch(closes * 2.0**-47, 14), case.batch(closes, 14), equal_nan=True)


@pytest.mark.parametrize(("closes", "expected"), [(np.arange(1.0, 40.0), 100.0), (np.arange(40.0, 1.0, -1.0), 0.0)])
def test_rsi_of_one_direction_is_at_its_end(closes: Floats, expected: float) -> None:
    assert indicators.rsi(closes, 14)[-1] == expected


def test_a_sum_keeps_nothing_of_what_has_left_the_window() -> None:
    turnovers = np.array([1e17, 0.1, 0.2, 0.3])
    assert indicators.turnover(turnovers, 3)[-1] == 0.1 + 0.2 + 0.3


def test_a_warm_up_says_how_far_it_is() -> None:
    assert str(Warmup(9, 15)) == "warming up, 9 of 15 bars"
    assert not Warmup(9, 15).ready
    assert str(Warmup(15, 15)) == "ready"


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_close_that_is_no_price_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="bar 2 has the value"):
        indicators.rsi(np.array([1.0, wrong, 2.0]), 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: indicators.rsi(np.ones(3), 0), "a period of 0 bars"),
        (lambda: indicators.ema(np.ones(3), indicators.PERIOD_MAX + 1), "a period of 100001 bars"),
        (lambda: indicators.turnover(np.array([1.0, -0.5]), 1), "bar 2 has the value -0.5"),
        (lambda: indicators.atr(np.ones(3), np.ones(3), np.ones(2), 2), "columns of the shapes"),
        (lambda: indicators.atr(np.ones(3), np.full(3, 2.0), np.ones(3), 2), "a low is above its high"),
    ],
)
def test_what_no_market_gives_is_refused(call: Callable[[], Floats], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
