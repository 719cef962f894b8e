"""A change of parameters from a minute on: the same trades are judged by the same version, however they were cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.plans import ALWAYS, Plan, Stage
from apps.engine.shard import Effects, ShardEngine, StrategySpec
from apps.engine.strategies import STRATEGIES
from tests.engine.market_stream import PARAMETERS, SCALE, START_MS, make_prints, to_entries
from tests.engine.test_shard import comparable, run

MINUTE = START_MS // 60_000
SYMBOLS = ("AAAUSDT", "BBBUSDT")
SEEDS = st.integers(0, 10_000)
# No cooldown: then a signal depends on its own minute's parameters only, and two plain runs are the oracle.
OLD = {**PARAMETERS, "cooldown_minutes": 0}
NEW = {**OLD, "threshold_pct": 1.0, "rsi_min": 40, "lookback_minutes": 7}


def engine(parameters: dict[str, Any], *schedule: Stage) -> ShardEngine:
    return ShardEngine(dict.fromkeys(SYMBOLS, SCALE), [StrategySpec(1, "momentum", parameters, schedule)])


def fired(effects: Effects) -> list[tuple[Any, ...]]:
    return [
        (row.symbol, row.ts_event, row.trade_id, row.change, row.rsi, row.turnover) for row in comparable(effects)
    ]  # fmt: skip


def minute_of(row: tuple[Any, ...]) -> int:
    return int(row[1]) // 60_000


@given(market=SEEDS, cut=SEEDS, change=st.integers(0, 95))
@settings(max_examples=40, deadline=None)
def test_trades_before_the_minute_are_judged_as_before_and_later_ones_by_the_new_version(
    market: int, cut: int, change: int
) -> None:
    entries = to_entries(make_prints(market, minutes=90), cut)
    at = MINUTE + change
    effects = run(engine(OLD, Stage(at, 2, NEW)), entries)
    before, after = fired(run(engine(OLD), entries)), fired(run(engine(NEW), entries))
    expected = [row for row in before if minute_of(row) < at] + [row for row in after if minute_of(row) >= at]
    assert fired(effects) == sorted(expected, key=lambda row: (row[1], row[0]))
    for signal in effects.signals:
        assert (signal.version_id, signal.base_version_id) == (2 if signal.ts_event // 60_000 >= at else 1, 1)


@given(market=SEEDS, one=SEEDS, other=SEEDS, changes=st.lists(st.integers(0, 95), max_size=4))
@settings(max_examples=40, deadline=None)
def test_no_cut_into_frames_moves_a_change(market: int, one: int, other: int, changes: list[int]) -> None:
    """With the cooldown on, and with watermarks that close minutes before their successors trade."""
    prints = make_prints(market, minutes=90)
    stages = tuple(
        Stage(MINUTE + at, 2 + n, {**PARAMETERS, "threshold_pct": 1.0 + n, "lookback_minutes": 5 + 3 * n})
        for n, at in enumerate(sorted(changes))
    )
    first = run(engine(PARAMETERS, *stages), to_entries(prints, one))
    second = run(engine(PARAMETERS, *stages), to_entries(prints, other, frame_ms=(250, 30_000, 600_000)))
    assert comparable(first) == comparable(second)


@given(market=SEEDS, cut=SEEDS, known=st.integers(0, 60), ahead=st.integers(1, 10))
@settings(max_examples=25, deadline=None)
def test_a_change_that_becomes_known_on_the_way_is_as_good_as_one_known_from_the_start(
    market: int, cut: int, known: int, ahead: int
) -> None:
    """As long as nothing of its minute has been evaluated when it becomes known."""
    entries = to_entries(make_prints(market, minutes=70), cut, frame_ms=(100, 20_000))
    known_ms = START_MS + known * 60_000
    place = next((n for n, (_, events) in enumerate(entries) if reached(events) >= known_ms), len(entries))
    reach = max((reached(events) for _, events in entries[:place]), default=START_MS) // 60_000
    stage = Stage(reach + ahead, 2, NEW)
    warned = engine(OLD, stage)
    surprised = engine(OLD)
    total = run(surprised, entries[:place])
    surprised.reschedule([StrategySpec(1, "momentum", OLD, (stage,))])
    total.extend(run(surprised, entries[place:]))
    assert comparable(total) == comparable(run(warned, entries))


def reached(events: list[Any]) -> int:
    """The newest event time in an entry; the start of the market for one that announces."""
    times = [getattr(event, "ts_event", START_MS) for event in events]
    return max(max(found) if isinstance(found, list) else found for found in times)


def test_these_markets_fire_under_either_version() -> None:
    entries = to_entries(make_prints(4, minutes=90), 1)
    before, after = fired(run(engine(OLD), entries)), fired(run(engine(NEW), entries))
    assert before
    assert set(before) != set(after)
    assert {minute_of(row) - MINUTE for row in after} & set(range(10, 90))


class Noting:
    """A kernel that only closes minutes and notes with which parameters each was closed."""

    def __init__(self) -> None:
        self.closed: list[tuple[int, int]] = []

    def load(self) -> None:
        """Nothing is compiled."""

    def roll(self, strategy: Any, parameters: Any, minute: int) -> None:
        open_minute = int(strategy["minute"][0])
        self.closed += [(closing, int(parameters[0])) for closing in range(open_minute, minute)]
        strategy["minute"] = max(open_minute, minute)


@pytest.mark.parametrize("minutes", [[100, 101, 108], [100, 102, 102, 108], [108], [100, 103], [103, 104, 107, 108]])
def test_a_minute_is_closed_with_the_parameters_that_judge_the_minute_after_it(minutes: list[int]) -> None:
    """For strategies whose sums depend on their parameters, also when nothing trades around the change."""
    noting: Any = Noting()
    module = replace(
        STRATEGIES["momentum"], kernel=noting, pack=lambda found: np.array([found["n"]]), window_minutes=lambda _: 1
    )
    plan = Plan(module, [Stage(ALWAYS, 1, {"n": 1}), Stage(103, 2, {"n": 2}), Stage(107, 3, {"n": 3})])
    state = module.new_state()
    state["minute"] = 100
    ts = np.array(minutes) * 60_000
    for start, end, parameters in plan.pieces(state, ts):
        for at in ts[start:end]:
            noting.roll(state, parameters, int(at) // 60_000)
    expected = [(minute, 1 + (minute + 1 >= 103) + (minute + 1 >= 107)) for minute in range(100, minutes[-1])]
    assert noting.closed == expected


def test_of_two_changes_from_the_same_minute_the_later_one_is_in_force() -> None:
    plan = Plan(
        STRATEGIES["momentum"], [Stage(ALWAYS, 1, OLD), Stage(100, 2, NEW), Stage(100, 3, OLD), Stage(120, 4, NEW)]
    )
    assert [plan.at(minute).version_id for minute in (0, 99, 100, 119, 120, 10**9)] == [1, 1, 3, 3, 4, 4]
    assert [plan.at(minute).window_minutes for minute in (99, 119, 120)] == [16, 16, 8]


def test_a_change_from_before_the_first_minute_replaces_the_first_version() -> None:
    plan = Plan(STRATEGIES["momentum"], [Stage(ALWAYS, 1, OLD), Stage(0, 2, NEW)])
    assert plan.at(0).version_id == 2
    assert plan.at(ALWAYS).version_id == 1


def test_changes_that_go_back_in_time_are_refused() -> None:
    with pytest.raises(ValueError, match="earlier minute"):
        Plan(STRATEGIES["momentum"], [Stage(ALWAYS, 1, OLD), Stage(100, 2, NEW), Stage(99, 3, OLD)])
