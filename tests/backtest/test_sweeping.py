"""Which points a sweep tries, where it cuts, and that it chooses without looking behind the cut."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.backtest.sweeping import Tried, cut_at, drawn, grid, parse_axes, parse_split, ranked
from apps.backtest.values import BacktestRefused


def values(words: str) -> tuple[str, ...]:
    return parse_axes([words])[0].values


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("threshold_pct=1.0..3.0/5", ("1", "1.5", "2", "2.5", "3")),
        ("threshold_pct=0..1/4", ("0", "0.3333333333", "0.6666666667", "1")),
        ("shift=-1..1/3", ("-1", "0", "1")),
        ("rsi_min=40,50, 60", ("40", "50", "60")),
        ("rsi_min=50", ("50",)),
    ],
)
def test_an_axis_names_its_values(words: str, expected: tuple[str, ...]) -> None:
    assert values(words) == expected


def test_a_grid_holds_every_combination_once() -> None:
    points = grid(parse_axes(["threshold_pct=1..3/3", "rsi_min=40,50"]))
    assert len(points) == 6
    assert points[0] == {"threshold_pct": "1", "rsi_min": "40"}
    assert len({tuple(point.items()) for point in points}) == 6


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 30))
def test_a_draw_is_repeated_by_its_seed_keeps_to_its_ends_and_draws_nothing_twice(seed: int, count: int) -> None:
    axes = parse_axes(["threshold_pct=0.5..3.0", "lookback_minutes=5..30", "rsi_min=40,50"])
    points = drawn(axes, count=count, seed=seed)
    assert points == drawn(axes, count=count, seed=seed)
    assert len({tuple(point.values()) for point in points}) == len(points) == count
    for point in points:
        assert Decimal("0.5") <= Decimal(point["threshold_pct"]) <= 3
        assert 5 <= int(point["lookback_minutes"]) <= 30
        assert point["rsi_min"] in ("40", "50")


def test_a_draw_from_fewer_points_than_asked_gives_each_once() -> None:
    points = drawn(parse_axes(["rsi_min=40,50", "threshold_pct=1,2"]), count=100, seed=1)
    assert len(points) == 4
    few = drawn(parse_axes(["lookback_minutes=5..7"]), count=100, seed=1)
    assert sorted(point["lookback_minutes"] for point in few) == ["5", "6", "7"]


WRONG = [
    ([], "name what to try"),
    (["threshold_pct"], "'threshold_pct' sets nothing"),
    (["rsi_min=40", "rsi_min=50"], "rsi_min is set twice"),
    (["rsi_min=40,,50"], "rsi_min=40,,50: a value is missing between two commas"),
    (["rsi_min=40,40"], "rsi_min=40,40: a value is named twice"),
    (["threshold_pct=3..1/5"], "threshold_pct=3..1/5: 3 does not lie before 1"),
    (["threshold_pct=1..3/1"], "threshold_pct=1..3/1: from 2 to 1000 values, not 1"),
    (["threshold_pct=1..3/9999"], "threshold_pct=1..3/9999: from 2 to 1000 values, not 9999"),
    (["threshold_pct=a..3/5"], "threshold_pct: 'a' is not a number"),
    (["threshold_pct=1..Infinity/5"], "threshold_pct: 'Infinity' is not a number"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_axis_is_one_line(words: list[str], line: str) -> None:
    with pytest.raises(BacktestRefused) as refused:
        grid(parse_axes(words))
    assert str(refused.value).startswith(line)


def test_a_grid_asks_how_many_and_not_for_too_many() -> None:
    with pytest.raises(BacktestRefused, match="a grid needs to know how many values"):
        grid(parse_axes(["threshold_pct=1..3"]))
    with pytest.raises(BacktestRefused, match="1000000 combinations are too many: at most 10000"):
        grid(parse_axes(["a=1..3/1000", "b=1..3/1000"]))
    with pytest.raises(BacktestRefused, match="from 1 to 10000"):
        drawn(parse_axes(["a=1..3"]), count=0, seed=1)


@pytest.mark.parametrize("words", ["", "1", "0", "0.95", "NaN", "70%"])
def test_a_split_leaves_something_on_both_sides(words: str) -> None:
    with pytest.raises(BacktestRefused, match="--split"):
        parse_split(words)


@settings(deadline=None, max_examples=60)
@given(first=st.integers(10**6, 10**9), minutes=st.integers(2, 10_000), split=st.sampled_from(["0.1", "0.5", "0.9"]))
def test_the_cut_is_a_whole_minute_with_time_on_both_sides(first: int, minutes: int, split: str) -> None:
    last = first + minutes * 60_000
    try:
        cut = cut_at(first, last, Decimal(split))
    except BacktestRefused:
        assert minutes < 11
        return
    assert cut % 60_000 == 0
    assert first < cut <= last


def test_points_are_ranked_by_what_they_gave_before_the_cut_only() -> None:
    tried = [
        Tried(1, {"a": "1"}, {"result": "5"}, {"result": "-100"}),
        Tried(2, {"a": "2"}, {"result": None}, {"result": "100"}),
        Tried(3, {"a": "3"}, {"result": "7.5"}, {"result": "-1"}),
        Tried(4, {"a": "4"}, {"result": "NaN"}, {"result": "100"}),
        Tried(5, {"a": "5"}, {"result": "5"}, {"result": "100"}),
    ]
    assert [row.changes["a"] for row in ranked(tried, "result")] == ["3", "1", "5", "2", "4"]
