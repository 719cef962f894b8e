"""An exit is judged by the confirmed price: one wild print sells nothing, three that agree within two seconds do."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.exit_kernel import Watch, trailing_parts
from apps.engine.exits import (
    EXIT_SIGNAL,
    MAX_HOLDING,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING_STOP,
    ExitCall,
    ExitRule,
    ExitSearch,
)
from apps.engine.model import MINUTE_MS, RaisedExit
from apps.engine.portfolio import Fill, Side
from apps.engine.results import Result
from apps.engine.shard import StrategySpec
from apps.engine.tapes import Tape
from apps.engine.ticks import Suspects
from tests.engine.believing import Believer, Plan
from tests.engine.market_stream import START_MS, block_of
from tests.engine.simulations import FIRST_MS, VERSION, setup, simulate, walk
from tests.engine.test_exits import at
from tests.engine.test_shard import watermark

ENTRY = 10_000
RULE = ExitRule(1, "AAAUSDT", opened_ts=START_MS + 1_000, stop=9_500, target=10_800, due_ts=START_MS + 3_600_000)
TRAILS = replace(RULE, stop=0, target=0, trailing=trailing_parts(Decimal(5)))
CALM = (2_000, 10_000)
QUIET = [(10_000 * number, 5_000) for number in range(1, 65)]
LATE = [CALM, (2_100, 5_000), (3_000, 5_000), (4_101, 5_000)]
RISE = [CALM, *[(2_100, 12_000)] * 3]
OVER = (3_600_000, 10_000)

CASES: list[tuple[str, ExitRule, list[tuple[int, int]], tuple[Any, ...] | None]] = [
    ("one print down", RULE, [CALM, (2_100, 5_000), (2_200, 10_000)], None),
    ("one print down before any other", RULE, [(2_100, 5_000), (2_200, 10_000)], None),
    ("one print up", RULE, [CALM, (2_100, 20_000), (2_200, 10_000)], None),
    ("two prints", RULE, [CALM, (2_100, 5_000), (2_200, 5_000), (2_300, 10_000)], None),
    ("two, a return, and two more", RULE, [(2_100, 5_000), (2_110, 5_000), CALM, (2_120, 5_000), (2_130, 5_000)], None),
    ("three within two seconds", RULE, [(2_100, 5_000), (3_000, 5_200), (4_100, 4_900)], (STOP_LOSS, 4_100, 4_900)),
    ("three in one millisecond", RULE, [(2_100, 5_000)] * 3, (STOP_LOSS, 2_100, 5_000)),
    ("three in a millisecond more", RULE, LATE, None),
    ("a fourth in time", RULE, [*LATE, (4_900, 5_001)], (STOP_LOSS, 4_900, 5_001)),
    ("three that do not agree", RULE, [CALM, (2_100, 5_000), (2_200, 100), (2_300, 5_000)], None),
    ("a tenth is no jump", RULE, [CALM, (2_100, 9_000)], (STOP_LOSS, 2_100, 9_000)),
    ("more than a tenth is one", RULE, [CALM, (2_100, 8_999)], None),
    ("one print, then the stop", RULE, [CALM, (2_100, 5_000), (2_200, 9_400)], (STOP_LOSS, 2_200, 9_400)),
    ("three prints up", RULE, RISE, (TAKE_PROFIT, 2_100, 12_000)),
    ("one print up raises no stop", TRAILS, [CALM, (2_100, 20_000), (2_200, 9_800)], None),
    ("three prints up raise it", TRAILS, [*RISE, (2_200, 11_400)], (TRAILING_STOP, 2_200, 11_400)),
    ("one print below it", TRAILS, [CALM, (2_050, 10_500), (2_100, 5_000), (2_200, 10_000)], None),
    ("the time is over after a wild print", RULE, [CALM, (2_100, 5_000), OVER], (MAX_HOLDING, 3_600_000, 5_000)),
    ("a quiet market elsewhere", RULE, [CALM, *QUIET], (STOP_LOSS, 640_000, 5_000)),
    ("a quiet market elsewhere, one print less", RULE, [CALM, *QUIET[:-1]], None),
]  # fmt: skip


def blocks(rows: list[tuple[int, int]], size: int) -> list[Any]:
    prints = [at(offset, price, number + 1) for number, (offset, price) in enumerate(rows)]
    return [block_of(prints[start : start + size], start + 1) for start in range(0, len(prints), size)]


@pytest.mark.parametrize("restarts", [False, True], ids=["one process", "a process per block"])
@pytest.mark.parametrize("size", [100, 2, 1])
@pytest.mark.parametrize(("what", "rule", "rows", "expected"), CASES, ids=[row[0] for row in CASES])
def test_only_a_confirmed_price_ends_a_position(
    what: str,
    rule: ExitRule,
    rows: list[tuple[int, int]],
    expected: tuple[Any, ...] | None,
    size: int,
    restarts: bool,
) -> None:
    search, found, read = ExitSearch(rule, last_price=ENTRY), None, 0
    for number, block in enumerate(blocks(rows, size)):
        found = found or search.feed(f"{number}-0", [block])
        read += len(block.ts_event)
        if restarts:
            high, confirmed, suspects, called_ts = search.watch
            stored = Watch(high, confirmed, Suspects(*list(suspects)), called_ts)
            search = ExitSearch(rule, last_price=search.last_price, watch=stored)
            search.follow_on(1, read)
    shown = found and (found.reason, found.ts_event - START_MS, found.price)
    assert shown == expected, what


def test_a_time_exit_after_a_wild_print_is_judged_by_the_price_before_it() -> None:
    search = ExitSearch(RULE, last_price=ENTRY)
    assert search.feed("1-0", blocks([(2_000, 10_010), (2_100, 5_000)], 9)) is None
    found = search.feed("2-0", [watermark(START_MS + 3_600_000, 2)])
    assert found is not None
    assert (found.reason, found.price, found.confirmed) == (MAX_HOLDING, 5_000, 10_010)


@pytest.mark.parametrize(
    ("before", "jumped_from"), [([(2_100, 5_000), (2_200, 5_000)], 10_000), ([(2_100, 9_600)], None)]
)
def test_an_exit_that_confirms_a_jump_says_from_where(before: list[tuple[int, int]], jumped_from: int | None) -> None:
    price = before[-1][1] - 200
    found = ExitSearch(RULE, last_price=ENTRY).feed("1-0", blocks([CALM, *before, (2_300, price)], 9))
    assert found is not None
    assert (found.reason, found.confirmed, found.jumped_from) == (STOP_LOSS, price, jumped_from)


def called(rows: list[tuple[int, int]], *numbers: int) -> RaisedExit | None:
    calls = [ExitCall(START_MS + rows[number][0], str(number + 1)) for number in numbers]
    return ExitSearch(replace(RULE, stop=0), last_price=ENTRY).feed("1-0", blocks(rows, 99), calls)


@pytest.mark.parametrize(
    ("what", "after", "expected"),
    [
        ("nothing more", [], None),
        ("a second wild print", [(2_210, 5_000)], None),
        ("the market as before", [(2_300, 10_600)], (EXIT_SIGNAL, "3", 10_600)),
        ("a third print that agrees, above the stop", [(2_210, 5_000), (2_220, 5_050)], (EXIT_SIGNAL, "4", 5_050)),
    ],
)
def test_an_exit_signal_on_a_wild_print_counts_on_the_next_trade_that_is_believed(
    what: str, after: list[tuple[int, int]], expected: tuple[Any, ...] | None
) -> None:
    """It may be said once only, so it is not forgotten."""
    found = called([CALM, (2_200, 5_000), *after], 1)
    assert (found and (found.reason, found.trade_id, found.price)) == expected, what


def test_an_exit_signal_before_a_failed_exit_does_not_count_after_it() -> None:
    search = ExitSearch(replace(RULE, retry_ts=START_MS + 3_000), last_price=ENTRY)
    search.watch = search.watch._replace(called_ts=START_MS + 2_999)
    assert search.feed("1-0", blocks([(3_000, 10_000)], 1)) is None
    search.watch = search.watch._replace(called_ts=START_MS + 3_000)
    found = search.feed("2-0", [block_of([at(3_001, 10_000, 2)], 2)])
    assert found is not None
    assert found.reason == EXIT_SIGNAL


# --- simulations ------------------------------------------------------------------------------------------------------


def wild(seed: int, minutes: int = 60) -> Tape:
    """A walk in which one print in forty is wild, some of them three times in a row."""
    tape, dice = walk("AAAUSDT", seed, minutes=minutes), np.random.default_rng(seed)
    price, row = tape.price.copy(), 0
    while (row := row + int(dice.integers(1, 80))) < len(price) - 4:
        price[row : row + int(dice.choice([1, 1, 2, 3]))] = int(price[row] * dice.choice([0.1, 0.85, 1.15, 3.0]))
    return replace(tape, price=np.maximum(price, 1))


def first_exits(result: Result) -> dict[str, tuple[Any, ...]]:
    """By the entry's key: its first exit as it was found."""
    return {
        row.key.removeprefix("x:").removesuffix(":0"): (
            row.reason,
            row.ts_event,
            row.trade_id,
            row.price,
            row.confirmed,
        )
        for row in result.signals
        if row.kind == "exit" and row.key.endswith(":0")
    }


def plan_of(fill: Fill, trailing_stop_pct: str) -> Plan:
    entry = fill.price * 100
    stop, target = (entry * (100 + Decimal(part)) / 100 for part in ("-0.5", "1"))
    trailing = trailing_parts(Decimal(trailing_stop_pct))
    due = fill.ts_event + 20 * MINUTE_MS
    return Plan(int(entry), fill.ts_event, int(stop), math.ceil(target), trailing, due)


CUTS = st.lists(st.integers(1, 62), max_size=6)


@given(seed=st.integers(0, 10_000), cuts=CUTS, trailing=st.sampled_from(["0", "0.4"]))
@settings(max_examples=12, deadline=None)
def test_a_simulation_over_wild_prints_ends_positions_where_plain_python_does(
    seed: int, cuts: list[int], trailing: str
) -> None:
    tape, made = wild(seed), setup(["AAAUSDT"], trailing_stop_pct=trailing)
    result = simulate(made, {"AAAUSDT": tape}, ends=[FIRST_MS + minute * MINUTE_MS for minute in cuts])
    trades, found = list(zip(tape.ts.tolist(), tape.price.tolist(), strict=True)), first_exits(result)
    fills = {end.order.trigger_key: end.outcome for end in result.ends if end.order.side is Side.BUY}
    for key, fill in fills.items():
        if not isinstance(fill, Fill):
            continue
        end = plan_of(fill, trailing).ending(trades, end_ms=FIRST_MS + 62 * MINUTE_MS)
        trade_id = "" if end is None or end.number is None else tape.trade_id[end.number]
        assert found.get(key) == (end and (end.reason, end.ts, trade_id, end.price, end.counts))


@given(seed=st.integers(0, 10_000), cuts=CUTS)
@settings(max_examples=8, deadline=None)
def test_in_a_simulation_an_exit_signal_counts_on_a_price_that_is_believed(seed: int, cuts: list[int]) -> None:
    tape = wild(seed)
    given = {"window_minutes": 5, "entry_deviations": 1, "rsi_max": 100, "cooldown_minutes": 0, "exit_deviations": 0}
    made = setup(["AAAUSDT"])
    spec = StrategySpec(VERSION, "mean_reversion", {**made.strategies[0].parameters, **given})
    made = replace(made, strategies=(spec,))
    whole = simulate(made, {"AAAUSDT": tape})
    cut = simulate(made, {"AAAUSDT": tape}, ends=[FIRST_MS + minute * MINUTE_MS for minute in cuts])
    assert list(cut.lines()) == list(whole.lines())
    rows = {str(tape.trade_id[number]): number for number in range(len(tape))}
    fills = {end.order.trigger_key: end.outcome for end in whole.ends if end.order.side is Side.BUY}
    for key, (reason, _, trade_id, _, _) in first_exits(whole).items():
        fill = fills[key]
        assert isinstance(fill, Fill)
        if reason != EXIT_SIGNAL:
            continue
        believer = Believer(int(fill.price * 100))
        believed = [
            believer.sees(ts, price)
            for ts, price in zip(tape.ts[: rows[trade_id] + 1].tolist(), tape.price.tolist(), strict=False)
            if ts > fill.ts_event
        ]
        assert believed[-1]
