"""A strategy that raises is disabled in its shard and named; the others go on as if it had never been there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.kernel import ENTRY, HEAD, build
from apps.engine.model import FailedStrategy
from apps.engine.plans import Stage
from apps.engine.shard import Effects, ShardEngine, StrategySpec
from apps.engine.strategies import STRATEGIES
from apps.engine.strategies.base import StrategyModule
from apps.engine.strategies.parameters import ParameterSpec, numbers
from apps.signals.services.state import pack_market, restore_market
from tests.engine.market_stream import PARAMETERS, SCALE, START_MS, Entry, make_prints, to_entries
from tests.engine.test_plans import reached

SYMBOLS = ("AAAUSDT", "BBBUSDT")
START_MINUTE = START_MS // 60_000
DTYPE = np.dtype([*HEAD, ("asked", np.int64)])
SPECS = (
    ParameterSpec("trades", "trades", -1, 10**6, True, None, "Raises at this trade, counted from 1; 0: never."),
    ParameterSpec("bars", "bars", 0, 10**6, True, 0, "Raises at this close; 0: never."),
)


@numba.njit
def on_bar(state: Any, parameters: Any, close: float, _turnover: float) -> None:
    state.warm = 1
    if state.closed == parameters[1]:
        state.asked = int(1.0 / (close - close))


@numba.njit
def on_trade(state: Any, parameters: Any, _ts: int, price: float, figures: Any, row: int) -> int:
    state.asked += 1
    figures[row, 0] = 1.0 / (state.asked - parameters[0])
    figures[row, 1] = figures[row, 2] = price
    return ENTRY


def pack(parameters: Any) -> Any:
    return np.array(list(numbers(SPECS, parameters).values()), dtype=np.float64)


MODULE = StrategyModule(
    name="failing",
    layout="failing-1",
    dtype=DTYPE,
    kernel=build("failing", DTYPE, on_bar, on_trade),
    parameters=SPECS,
    pack=pack,
    window_minutes=lambda _: 1,
    bars_needed=lambda _: 1,
    kept=("asked",),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "failing", MODULE)


def engine_with(*, trades: int = -1, bars: int = 0) -> ShardEngine:
    specs = [
        StrategySpec(1, "failing", {"trades": trades, "bars": bars}),
        StrategySpec(2, "momentum", PARAMETERS),
    ]
    return ShardEngine(dict.fromkeys(SYMBOLS, SCALE), specs)


def entries(frame_ms: tuple[int, ...] = (10_000,), symbols: tuple[str, ...] = SYMBOLS) -> list[Entry]:
    return to_entries(make_prints(4, symbols=symbols, minutes=90), 1, frame_ms=frame_ms)


def run(engine: ShardEngine, wanted: list[Entry]) -> Effects:
    total = Effects()
    for entry_id, events in wanted:
        total.extend(engine.apply(entry_id, events))
    return total


def of_version(effects: Effects, version_id: int) -> list[Any]:
    return [replace(row, entry_id="") for row in effects.signals if row.version_id == version_id]


@pytest.mark.parametrize("how", [{"trades": 40}, {"bars": 20}], ids=["on a trade", "on a close"])
def test_the_others_go_on_and_the_failure_is_named_once(how: dict[str, int]) -> None:
    alone = ShardEngine(dict.fromkeys(SYMBOLS, SCALE), [StrategySpec(2, "momentum", PARAMETERS)])
    expected, effects = run(alone, entries()), run(engine_with(**how), entries())
    assert len(effects.failed) == 1
    assert effects.failed[0].version_id == 1
    assert effects.failed[0].symbol in SYMBOLS
    assert "ZeroDivisionError: division by zero" in effects.failed[0].words
    assert effects.errors == []
    assert (effects.bars, effects.coverage) == (expected.bars, expected.coverage)
    assert of_version(effects, 2) == of_version(expected, 2)
    assert len(of_version(expected, 2)) > 1


def test_it_says_nothing_more_of_any_symbol_after_its_failure() -> None:
    effects = run(engine_with(trades=40), entries())
    (failed,) = effects.failed
    told = of_version(effects, 1)
    assert sum(row.symbol == failed.symbol for row in told) == 39
    assert 0 < sum(row.symbol != failed.symbol for row in told) < 40
    assert max(row.ts_event for row in told) < START_MS + 30 * 60_000


def test_what_it_said_before_its_failure_stands_for_any_cut() -> None:
    told = [
        of_version(run(engine_with(trades=40), entries(frame_ms, ("AAAUSDT",))), 1)
        for frame_ms in ((500,), (10_000,), (3_000_000,))
    ]
    assert len(told[0]) == 39
    assert told[0] == told[1] == told[2]


def test_a_parameter_that_cannot_be_read_disables_the_version_before_its_first_trade() -> None:
    engine = engine_with(trades=10**7)
    effects = run(engine, entries())
    assert [(row.version_id, row.symbol) for row in effects.failed] == [(1, "")]
    assert "trades=10000000 is not from -1 to 1e+06 (trades)" in effects.failed[0].words
    assert of_version(effects, 1) == []
    assert of_version(effects, 2)
    assert [row[0] for row in engine.warm_up("AAAUSDT")] == [2]


def test_a_failure_moves_the_stored_state() -> None:
    failed = FailedStrategy(1, "AAAUSDT", "ZeroDivisionError: division by zero")
    assert Effects(failed=[failed]).move_state


def test_a_disabled_strategy_is_still_disabled_when_the_shard_is_restored() -> None:
    wanted = entries()
    before = engine_with(trades=40)
    first = run(before, wanted[:-60])
    assert first.failed
    after = engine_with(trades=40)
    for symbol, state in before.symbols.items():
        restore_market(after, symbol, pack_market(before, symbol))
        after.symbols[symbol].strategies = [part.copy() for part in state.strategies]
    rest = run(after, wanted[-60:])
    assert (rest.failed, of_version(rest, 1)) == ([], [])


# --- disabled everywhere from a minute on, and back from a later one --------------------------------------------------

FAILING = {"trades": 40, "bars": 0}


def scheduled(*schedule: Stage) -> ShardEngine:
    specs = [StrategySpec(1, "failing", FAILING, schedule), StrategySpec(2, "momentum", PARAMETERS)]
    return ShardEngine(dict.fromkeys(SYMBOLS, SCALE), specs)


def stages(off: int, on: int) -> tuple[Stage, Stage]:
    """Nobody judges from the first minute on, and a version that never raises does from the second on."""
    return (
        Stage(START_MINUTE + off, 1, FAILING, enabled=False),
        Stage(START_MINUTE + on, 3, {"trades": -1, "bars": 0}),
    )


def minutes_told(effects: Effects, version_id: int) -> set[int]:
    return {row.ts_event // 60_000 - START_MINUTE for row in effects.signals if row.version_id == version_id}


def test_a_failure_says_on_which_trade_and_under_which_version() -> None:
    (failed,) = run(engine_with(trades=40), entries()).failed
    told = of_version(run(engine_with(), entries()), 1)
    fortieth = [row for row in told if row.symbol == failed.symbol][39]
    assert (failed.ts_event, failed.judge_id) == (fortieth.ts_event, 1)


@pytest.mark.parametrize(("off", "on"), [(30, 50), (30, 30), (60, 60)], ids=["later", "at once", "never off"])
def test_it_begins_anew_where_its_schedule_says_in_every_symbol(off: int, on: int) -> None:
    effects = run(scheduled(*stages(off, on)), entries())
    assert len(effects.failed) == 1
    assert max(minutes_told(effects, 1)) < 30
    told = minutes_told(effects, 3)
    assert on < min(told) <= on + 3  # one minute closes before anything is said
    assert {row.symbol for row in effects.signals if row.version_id == 3} == set(SYMBOLS)
    alone = ShardEngine(dict.fromkeys(SYMBOLS, SCALE), [StrategySpec(2, "momentum", PARAMETERS)])
    assert of_version(effects, 2) == of_version(run(alone, entries()), 2)


def test_where_nobody_judges_a_shard_in_which_nothing_failed_is_silent_too() -> None:
    off, on = stages(30, 50)
    quiet = StrategySpec(1, "failing", {"trades": -1, "bars": 0}, (off, on))
    effects = run(ShardEngine(dict.fromkeys(SYMBOLS, SCALE), [quiet]), entries())
    assert not effects.failed
    assert max(minutes_told(effects, 1)) == 29
    assert min(minutes_told(effects, 3)) > 50


def test_what_fails_again_after_it_was_enabled_is_disabled_again() -> None:
    off, _ = stages(20, 40)
    effects = run(scheduled(off, Stage(START_MINUTE + 40, 3, FAILING)), entries())
    assert [row.judge_id for row in effects.failed] == [1, 3]
    last = effects.failed[1]
    assert last.ts_event // 60_000 >= START_MINUTE + 40
    assert all(row.ts_event <= last.ts_event for row in effects.signals if row.version_id == 3)


@given(cut=st.integers(0, 10_000), off=st.integers(15, 40), later=st.integers(0, 30), restore=st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_learning_of_it_on_the_way_and_every_restart_give_the_same(
    cut: int, off: int, later: int, restore: int
) -> None:
    """As live: the schedule becomes known before its minutes, and the states are stored and loaded in between."""
    wanted = to_entries(make_prints(4, symbols=SYMBOLS, minutes=90), cut, frame_ms=(20_000,))
    schedule = stages(off, off + later)
    known = run(scheduled(*schedule), wanted)
    engine, effects = scheduled(), Effects()
    for number, (entry_id, events) in enumerate(wanted):
        if not engine.specs[0].schedule and reached(events) // 60_000 >= START_MINUTE + off:
            engine.reschedule(scheduled(*schedule).specs)
        if number % 200 == restore:
            after = scheduled(*engine.specs[0].schedule)
            for symbol, state in engine.symbols.items():
                restore_market(after, symbol, pack_market(engine, symbol))
                after.symbols[symbol].strategies = [part.copy() for part in state.strategies]
            engine = after
        effects.extend(engine.apply(entry_id, events))
    assert (effects.failed, effects.signals) == (known.failed, known.signals)


def test_no_cut_into_frames_moves_where_nobody_judges_and_where_it_begins_anew() -> None:
    """Also frames that begin before nobody judges and end after somebody does again."""
    seen = []
    for frame_ms in ((500,), (60_000,), (1_200_000,)):
        wanted = entries(frame_ms, ("AAAUSDT",))
        failing, quiet = (
            scheduled(*stages(62, 66)),
            StrategySpec(1, "failing", {"trades": -1, "bars": 0}, stages(62, 66)),
        )
        runs = [run(failing, wanted), run(ShardEngine({"AAAUSDT": SCALE}, [quiet]), wanted)]
        seen.append([[(row.ts_event, row.version_id) for row in effects.signals] for effects in runs])
        assert all(ts // 60_000 - START_MINUTE < 62 or ts // 60_000 - START_MINUTE > 65 for ts, _ in seen[-1][1])
    assert seen[0] == seen[1] == seen[2]
    assert {version for _, version in seen[0][0]} == {1, 2, 3}


def test_another_version_alone_does_not_bring_a_failed_strategy_back() -> None:
    change = Stage(START_MINUTE + 50, 3, {"trades": -1, "bars": 0})
    effects = run(scheduled(change), entries())
    assert len(effects.failed) == 1
    assert minutes_told(effects, 3) == set()


def test_a_change_of_version_in_the_minute_in_which_it_was_enabled_again_begins_anew_as_well() -> None:
    off, on = stages(60, 60)
    effects = run(scheduled(off, on, replace(on, version_id=4)), entries())
    assert minutes_told(effects, 3) == set()
    assert min(minutes_told(effects, 4)) > 60
