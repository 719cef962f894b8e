"""History done again in its own order: however late a worker decided and booked, the simulation told so equals it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.backtest.recorded import RecordedTurns, Told
from apps.backtest.simulating import simulate
from apps.backtest.slicing import Slice, between, unbroken
from apps.engine.backtest import Backtest, Setup, TurnOf
from apps.engine.desk.account import Desk
from apps.engine.desk.book import DAY_MS, MarkSet
from apps.engine.desk.deciding import Circumstances, Trigger
from apps.engine.model import MINUTE_MS
from apps.engine.portfolio import Fill
from apps.engine.results import Result
from apps.engine.risk.values import Limits, TradingState
from apps.engine.shard import StrategySpec
from apps.engine.strategies import STRATEGIES
from apps.engine.tapes import Tape
from tests.engine import simulations
from tests.engine.columns import LIVELY_REVERSION
from tests.engine.simulations import FIRST_MS, LIMITS, VERSION

SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
MINUTES = 90
REVERSION = VERSION + 1
LAST_MS = FIRST_MS + MINUTES * MINUTE_MS
pytestmark = pytest.mark.timeout(600)  # the first of them compiles the kernels


def setup_of(*, calls: bool) -> Setup:
    """Momentum alone, or beside it a strategy that says when to sell."""
    made = simulations.setup(SYMBOLS, threshold_pct=0.2)
    if not calls:
        return made
    reversion = STRATEGIES["mean_reversion"].validate({**LIVELY_REVERSION, "exit_on_signal": 1})
    return replace(made, strategies=(*made.strategies, StrategySpec(REVERSION, "mean_reversion", reversion)))


def late(seed: int, *, up_to_ms: int) -> TurnOf:
    """What a worker does that stands still now and then: some things are done later than they happened."""

    def turn_of(key: str, ends: bool, ts: int) -> tuple[int, int]:
        if key.startswith(f"e:{REVERSION}:") and not ends:
            return ts, 0  # it may be a call to sell, which is found on the stream and waits for no worker
        dice = random.Random(f"{seed} {key} {ends}")
        delay_ms = dice.randrange(up_to_ms) if dice.random() < 0.5 else 0
        return min(ts + delay_ms, LAST_MS - 1), 0

    return turn_of


def history_of(made: Setup, tapes: Mapping[str, Tape], turn_of: TurnOf) -> Result:
    """The whole time in one slice, done in another order than that of event time."""
    backtest = Backtest(made, turn_of)
    backtest.feed(tapes, end_ms=LAST_MS)
    return backtest.finish()


def told_of(history: Result) -> dict[str, Told]:
    ends = {end.order.trigger_key: end for end in history.ends}
    told = {}
    for row in history.decisions:
        end = ends.get(row.trigger_key)
        told[row.trigger_key] = Told(
            ts_event=row.trigger.ts_event,
            feed_age_ms=0,
            signal_age_ms=0,
            marks=row.ruled.marks,
            limits=LIMITS,
            trading_state=TradingState.ACTIVE,
            sequence=row.sequence,
            ended=None if end is None else end.sequence,
            expired=end is not None and not isinstance(end.outcome, Fill),
        )
    return told


def slices_at(tapes: Mapping[str, Tape], minutes: list[int]) -> Iterator[Slice]:
    """The same trades cut at these minutes."""
    bounds = [FIRST_MS, *(FIRST_MS + minute * MINUTE_MS for minute in sorted(set(minutes))), LAST_MS]
    for first, last in pairwise(bounds):
        parts = {symbol: between(tape, first, last) for symbol, tape in tapes.items()}
        yield {symbol: part for symbol, part in parts.items() if len(part)}, last


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    delay_minutes=st.integers(1, 20),
    cuts=st.lists(st.integers(1, MINUTES - 1), max_size=5),
    calls=st.booleans(),
)
def test_what_was_done_late_is_done_again_in_the_same_order(
    seed: int, delay_minutes: int, cuts: list[int], calls: bool
) -> None:
    made = setup_of(calls=calls)
    tapes = {symbol: simulations.walk(symbol, seed + number) for number, symbol in enumerate(SYMBOLS)}
    history = history_of(made, tapes, late(seed, up_to_ms=delay_minutes * MINUTE_MS))
    again = simulate(made, slices_at(tapes, cuts), told=told_of(history))
    assert again is not None
    assert list(again.result.lines()) == list(history.lines())


def test_such_histories_differ_from_the_order_of_event_time() -> None:
    """Else the test above would show nothing."""
    made, different = setup_of(calls=False), 0
    for seed in range(5):
        tapes = {symbol: simulations.walk(symbol, seed + number) for number, symbol in enumerate(SYMBOLS)}
        alone = simulate(made, slices_at(tapes, []))
        assert alone is not None
        assert len(alone.result.decisions) > 10
        history = history_of(made, tapes, late(seed, up_to_ms=20 * MINUTE_MS))
        different += list(alone.result.lines()) != list(history.lines())
    assert different == 5


def told(ts_event: int, sequence: int, ended: int | None) -> Told:
    return Told(ts_event, 0, 0, MarkSet(None, {}), LIMITS, TradingState.ACTIVE, sequence, ended)


def test_what_came_after_something_later_is_done_at_that_later_time() -> None:
    turns = RecordedTurns({"a": told(1_000, 1, 4), "b": told(5_000, 2, None), "c": told(2_000, 3, 5)}, latency_ms=150)
    assert turns.turn_of("a", False, 1_000) == (1_000, 1)
    assert turns.turn_of("b", False, 5_000) == (5_000, 2)
    assert turns.turn_of("c", False, 2_000) == (5_000, 3)
    assert turns.turn_of("a", True, 1_150) == (5_000, 4)
    assert turns.turn_of("x", False, 4_000) == (4_000, 0), "history knows nothing of it"
    assert turns.waits == [(1_150, 5_000)]


def test_no_slice_ends_while_something_waits() -> None:
    tapes = {symbol: simulations.walk(symbol, 3) for symbol in SYMBOLS}
    spans = [(FIRST_MS + 10 * MINUTE_MS - 1, FIRST_MS + 12 * MINUTE_MS), (FIRST_MS + 40 * MINUTE_MS, LAST_MS + 5)]
    found = list(unbroken(slices_at(tapes, [5, 10, 11, 12, 13, 40, 50]), spans))
    assert [(end_ms - FIRST_MS) // MINUTE_MS for _, end_ms in found] == [5, 13, 40, MINUTES]
    assert sum(len(tape) for part, _ in found for tape in part.values()) == sum(map(len, tapes.values()))


ORDERS = [(0, 1, 2, 3), (3, 0, 1, 2), (2, 3, 1, 0)]
FULL = [("THROTTLE", {"orders_per_minute_max": 2}), ("THROTTLE", {"orders_per_day_max": 3})]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize(("reason", "limits"), FULL, ids=["a minute", "a day"])
def test_a_throttle_counts_by_event_time_in_whatever_order_was_decided(
    order: tuple[int, ...], reason: str, limits: dict[str, int]
) -> None:
    """Two orders in one minute, a third on the same day and one on the next; then a late signal in that minute."""
    made = simulations.setup(SYMBOLS, _limits(limits))
    desk = Desk(
        capital=made.capital, currency="USDT", limits=made.limits, terms=made.terms,
        plans=Backtest(made).desk.plans, paper=made.paper,
    )  # fmt: skip
    first = FIRST_MS // DAY_MS * DAY_MS + DAY_MS - 60 * MINUTE_MS
    times = (first, first + 10_000, first + 40 * MINUTE_MS, first + 70 * MINUTE_MS)
    for number in order:
        assert decided(desk, f"e:{number}", SYMBOLS[number % 3], times[number]) == []
    assert decided(desk, "e:late", "CCCUSDT", first + 20_000) == [reason]


def _limits(changes: dict[str, Any]) -> Limits:
    return replace(LIMITS, positions_per_symbol_max=9, open_orders_symbol_max=9, **changes)


def decided(desk: Desk, key: str, symbol: str, ts_event: int) -> list[str]:
    """Why an entry at this time is denied; empty if it is not."""
    price, tick = Decimal(100), Decimal("0.01")
    trigger = Trigger(symbol, ts_event, price, price - tick, price + tick, price, 0, "", False, None, price)
    around = Circumstances(True, 0, "", 0, MarkSet(0, dict.fromkeys(SYMBOLS, price)))
    made = desk.decide(trigger_key=key, version_id=VERSION, trigger=trigger, around=around)
    return [reason.value for reason in made.ruled.assessment.reasons]
