"""A strategy that raises in a simulation is out from that trade on; the others go on, however the tape is cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.backtest import Setup
from apps.engine.model import MINUTE_MS
from apps.engine.plans import Stage
from apps.engine.results import Result
from apps.engine.shard import StrategySpec
from apps.engine.strategies import STRATEGIES
from tests.engine.simulations import FIRST_MS, setup, simulate, walk
from tests.engine.test_failing_strategy import MODULE

MINUTES = 60
FAILING, SOUND = 70, 7
EXITS = {
    "stop_loss_pct": "2",
    "take_profit_pct": "6",
    "trailing_stop_pct": "0",
    "max_holding_minutes": 240,
    "exit_on_signal": 1,
}
TAPES = {symbol: walk(symbol, seed, minutes=MINUTES) for seed, symbol in enumerate(("AAAUSDT", "BBBUSDT"))}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "failing", MODULE)


def beside(trades: int, bars: int = 0, schedule: tuple[Stage, ...] = ()) -> Setup:
    """A sound strategy, and one that raises at this trade of a symbol or at this close."""
    made = setup(list(TAPES))
    failing = StrategySpec(FAILING, "failing", {"trades": trades, "bars": bars, **EXITS}, schedule)
    return replace(made, strategies=(*made.strategies, failing))


def keys_of(result: Result, version_id: int) -> list[str]:
    told = [*result.signals, *(refusal.signal for refusal in result.refusals)]
    return [signal.key for signal in told if signal.version_id == version_id and signal.kind == "entry"]


def judged_from(symbol: str, from_ms: int) -> list[tuple[int, str]]:
    """(event time, id) of the trades of a symbol that a strategy judges if it is warm from then on."""
    tape = TAPES[symbol]
    return [(int(ts), tape.trade_id[row]) for row, ts in enumerate(tape.ts) if ts >= from_ms]


@pytest.mark.parametrize(("trades", "bars"), [(40, 0), (-1, 20), (1, 0)], ids=["a trade", "a close", "the first trade"])
def test_the_others_go_on_and_the_failure_is_named_once(trades: int, bars: int) -> None:
    alone, both = simulate(setup(list(TAPES)), TAPES), simulate(beside(trades, bars), TAPES)
    assert len(keys_of(alone, SOUND)) > 1
    assert keys_of(both, SOUND) == keys_of(alone, SOUND)
    (failed,) = both.failed
    assert (failed.version_id, failed.judge_id) == (FAILING, FAILING)
    assert "ZeroDivisionError" in failed.words


def test_what_it_had_told_before_the_trade_it_failed_on_stands_and_nothing_after_it() -> None:
    result = simulate(beside(40), TAPES)
    (failed,) = result.failed
    judged = {symbol: judged_from(symbol, FIRST_MS + MINUTE_MS) for symbol in TAPES}
    assert failed.ts_event == judged[failed.symbol][39][0], "it raises at its fortieth trade of a symbol"
    assert failed.ts_event == min(rows[39][0] for rows in judged.values()), "of the one that gets there first"
    told = {signal.key for signal in result.signals if signal.version_id == FAILING and signal.kind == "entry"}
    expected = {
        f"e:{FAILING}:{symbol}:{ts}:{trade_id}"
        for symbol, rows in judged.items()
        for ts, trade_id in rows[:39]
        if ts < failed.ts_event or symbol == failed.symbol
    }
    assert len(told) > 40
    assert told == expected


@settings(max_examples=10, deadline=None)
@given(
    cuts=st.lists(st.integers(1, MINUTES), max_size=8),
    how=st.sampled_from([(40, 0), (333, 0), (-1, 20), (-1, 41)]),
)
def test_slices_change_nothing(cuts: list[int], how: tuple[int, int]) -> None:
    whole = simulate(beside(*how), TAPES)
    cut = simulate(beside(*how), TAPES, ends=[FIRST_MS + minute * MINUTE_MS for minute in cuts])
    assert list(cut.lines()) == list(whole.lines())
    assert cut.failed == whole.failed


@pytest.mark.parametrize("ends", [[], [40], list(range(1, MINUTES))], ids=["whole", "in two", "minute by minute"])
def test_it_is_back_where_its_plan_begins_anew(ends: list[int]) -> None:
    first = FIRST_MS // MINUTE_MS
    stage: dict[str, Any] = {"parameters": {"trades": -1, "bars": 0, **EXITS}}
    off = Stage(first + 20, FAILING, enabled=False, **stage)
    on = Stage(first + 30, FAILING + 1, **stage)
    result = simulate(beside(40, schedule=(off, on)), TAPES, ends=[FIRST_MS + end * MINUTE_MS for end in ends])
    assert [failed.judge_id for failed in result.failed] == [FAILING]
    told = [signal.ts_event for signal in result.signals if signal.version_id == FAILING + 1 and signal.kind == "entry"]
    warm_ms = (first + 31) * MINUTE_MS  # it knows nothing of minutes before the stage
    wanted = [ts for symbol in TAPES for ts, _ in judged_from(symbol, warm_ms)]
    assert sorted(told) == sorted(wanted)
