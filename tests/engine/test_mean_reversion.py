"""Mean reversion against the rule in plain Python: decided at closes, told at the first trade after them."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import talib

from apps.engine.events import BUY, CoverageStart, Event, WarmupBar
from apps.engine.judging import Columns
from apps.engine.shard import ShardEngine, StrategySpec
from apps.engine.strategies import STRATEGIES
from tests.engine.columns import LIVELY_REVERSION, market, plan_of, run
from tests.engine.market_stream import PARAMETERS, SCALE, START_MS, Print, block_of, make_prints, to_entries

MINUTE = START_MS // 60_000
Told = tuple[int, str]


def reference(columns: Columns, parameters: dict[str, float]) -> list[Told]:
    """(row, kind) of every signal, from closes and TA-Lib's index."""
    window, pause = int(parameters["window_minutes"]), parameters["cooldown_minutes"] * 60_000
    closes: list[float] = []
    minute, last, due, entered, last_entry = int(columns.ts[0]) // 60_000, 0.0, "", False, None
    told: list[Told] = []
    for row, (ts, ticks) in enumerate(zip(columns.ts.tolist(), columns.price.tolist(), strict=True)):
        while minute < ts // 60_000:
            closes.append(last)
            minute += 1
            due = _due(closes, window, parameters, entered=entered)
        last = ticks / 10**SCALE.price_decimals
        if not due or (due == "entry" and last_entry is not None and ts - last_entry < pause):
            continue
        told.append((row, due))
        entered, last_entry, due = due == "entry", ts if due == "entry" else last_entry, ""
    return told


def _due(closes: list[float], window: int, parameters: dict[str, float], *, entered: bool) -> str:
    if len(closes) < max(window, 15):
        return ""
    deviation = statistics.pstdev(closes[-window:])
    if deviation == 0:
        return ""
    z = (closes[-1] - statistics.fmean(closes[-window:])) / deviation
    if entered:
        return "exit" if z >= -parameters["exit_deviations"] else ""
    strength = talib.RSI(np.array(closes), 14)[-1]
    return "entry" if z <= -parameters["entry_deviations"] and strength < parameters["rsi_max"] else ""


def test_signals_of_made_up_markets_are_those_of_the_plain_rule() -> None:
    kinds: list[str] = []
    for seed in range(15):
        columns = market(seed, minutes=150)
        found = [(event.row, event.kind) for event in run(plan_of("mean_reversion", **LIVELY_REVERSION), columns)[0]]
        assert found == reference(columns, LIVELY_REVERSION)
        kinds += [kind for _, kind in found]
    assert min(kinds.count("entry"), kinds.count("exit")) >= 20


def test_entries_and_exits_take_turns_beginning_with_an_entry() -> None:
    for seed in range(15):
        kinds = [event.kind for event in run(plan_of("mean_reversion", **LIVELY_REVERSION), market(seed))[0]]
        assert kinds == ["entry", "exit"] * (len(kinds) // 2) + ["entry"] * (len(kinds) % 2)


def engine_with(strategies: dict[int, str]) -> ShardEngine:
    parameters = {"momentum": PARAMETERS, "mean_reversion": STRATEGIES["mean_reversion"].validate(LIVELY_REVERSION)}
    return ShardEngine(
        {"AAAUSDT": SCALE}, [StrategySpec(number, name, parameters[name]) for number, name in strategies.items()]
    )


def history(closes: list[int]) -> list[Event]:
    first = MINUTE - len(closes)
    bars: list[Event] = [WarmupBar("AAAUSDT", first + n, c, c, c, c, 1, 1, 0) for n, c in enumerate(closes)]
    return [*bars, CoverageStart(1, START_MS, 0, ["AAAUSDT"], "test")]


def trade(minute: int, number: int, price: int) -> Print:
    return Print((MINUTE + minute) * 60_000 + 1_000, "AAAUSDT", price, 5, BUY, str(number))


def test_a_fall_far_below_the_mean_is_bought_and_its_return_is_an_exit_signal() -> None:
    engine = engine_with({1: "mean_reversion"})
    closes = [*(10_000 + n % 3 for n in range(29)), 9_000]
    rows = [trade(0, 1, 9_000), trade(0, 2, 9_000), trade(1, 3, 10_001), trade(2, 4, 10_001), trade(3, 5, 10_001)]
    told = engine.apply("1-0", [*history(closes), block_of(rows, 1)]).signals
    assert [(row.kind, row.trade_id, row.version_id) for row in told] == [("entry", "1", 1), ("exit", "4", 1)]
    assert told[0].change == pytest.approx(9_000 / statistics.fmean(closes[-8:]) - 1)


def test_several_strategies_judge_the_same_feed_each_as_if_it_were_alone() -> None:
    entries = to_entries(make_prints(11, symbols=("AAAUSDT",), minutes=150), 1, frame_ms=(10_000,))
    told = {}
    for strategies in ({1: "momentum"}, {2: "mean_reversion"}, {1: "momentum", 2: "mean_reversion"}):
        engine = engine_with(strategies)
        told[tuple(strategies)] = [
            row for entry_id, events in entries for row in engine.apply(entry_id, events).signals
        ]
    both = told[1, 2]
    assert [row for row in both if row.version_id == 1] == told[(1,)]
    assert [row for row in both if row.version_id == 2] == told[(2,)]
    assert told[(2,)]
