"""Losses, days, wild prices and sizes by volatility in a simulation: by the functions that live trading uses."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.backtest import Backtest
from apps.engine.desk.account import Desk, DeskDecision
from apps.engine.desk.book import MarkSet
from apps.engine.desk.deciding import Circumstances, Trigger
from apps.engine.desk.replaying import decision_values
from apps.engine.model import MINUTE_MS
from apps.engine.risk.values import SOUND_PATH, Limits, OrderPath, Sizing
from apps.engine.sizing import average_true_range
from tests.engine.simulations import FIRST_MS, LIMITS, VERSION, setup, simulate, tape_of, walk

D = Decimal
DAY_MS = 86_400_000
MIDNIGHT_MS = (FIRST_MS // DAY_MS + 1) * DAY_MS
VOLATILE = replace(LIMITS, sizing=Sizing.VOLATILITY)


def desk_of(limits: Limits = LIMITS) -> Desk:
    made = setup(["AAAUSDT"], limits)
    return Desk(
        capital=made.capital, currency="USDT", limits=limits, terms=made.terms, plans=Backtest(made).desk.plans,
        paper=made.paper,
    )  # fmt: skip


def decided(desk: Desk, ts: int, *, path: OrderPath = SOUND_PATH) -> DeskDecision:
    price = D(100)
    trigger = Trigger("AAAUSDT", ts, price, price, price, price, 0, "", False, None, price)
    around = Circumstances(True, 0, "", 0, MarkSet(0, {"AAAUSDT": price}), path)
    return desk.decide(trigger_key=f"e:{ts}", version_id=VERSION, trigger=trigger, around=around)


def reasons(desk: Desk, ts: int) -> list[str]:
    return [reason.value for reason in decided(desk, ts).ruled.assessment.reasons]


# --- losses -----------------------------------------------------------------------------------------------------------


def test_a_lost_day_opens_nothing_until_the_next_one_of_the_limits_zone() -> None:
    limits = replace(LIMITS, trading_day_zone="Asia/Tokyo", drawdown_reducing=D(1), drawdown_halted=D(1))
    desk = desk_of(replace(limits, open_orders_symbol_max=9, positions_per_symbol_max=9))
    assert reasons(desk, MIDNIGHT_MS) == []
    desk.cash -= 5_000
    assert reasons(desk, MIDNIGHT_MS + MINUTE_MS) == ["LOSS_LIMIT"]
    tokyo_ms = MIDNIGHT_MS + 15 * 3_600_000  # midnight there
    assert reasons(desk, tokyo_ms - 1) == ["LOSS_LIMIT"]
    assert reasons(desk, tokyo_ms) == []


def test_after_a_day_with_too_deep_a_drawdown_the_peak_is_counted_anew() -> None:
    """A simulation has nobody who decides to go on; live, that is a person's decision."""
    desk = desk_of(replace(LIMITS, open_orders_symbol_max=9, positions_per_symbol_max=9))
    assert reasons(desk, MIDNIGHT_MS - 3 * DAY_MS) == []
    desk.cash -= 4_000
    assert reasons(desk, MIDNIGHT_MS - 2 * DAY_MS) == []
    assert reasons(desk, MIDNIGHT_MS - DAY_MS) == []
    desk.cash -= 2_000
    assert reasons(desk, MIDNIGHT_MS - 1) == ["DRAWDOWN"], "2 % of the day, 6 % of the peak"
    assert reasons(desk, MIDNIGHT_MS) == []
    assert desk.record.peak == desk.cash


def test_what_is_told_of_the_order_path_denies_here_as_it_does_there() -> None:
    desk = desk_of()
    found = decided(desk, MIDNIGHT_MS, path=replace(SOUND_PATH, heartbeat_age_ms=None, heartbeat_words="not heard of"))
    assert decision_values(found)["reasons"] == ["HEARTBEAT"]
    assert Circumstances.told({})["path"] == SOUND_PATH, "decisions from before they were recorded"


@given(
    age=st.none() | st.integers(0, 10**6), volatility=st.none() | st.decimals("0", "1e6", places=8),
    cap=st.none() | st.decimals("1", "1e6", places=2),
)  # fmt: skip
def test_what_is_recorded_of_the_circumstances_is_what_a_replay_is_told(
    age: int | None, volatility: Decimal | None, cap: Decimal | None
) -> None:
    path = replace(SOUND_PATH, lease_age_ms=age, lease_words="w", heartbeat_age_ms=age)
    around = Circumstances(True, 0, "", 0, MarkSet(None, {}), path, volatility, cap)
    again = Circumstances(True, 0, "", 0, MarkSet(None, {}), **Circumstances.told(around.recorded()))
    assert again == around


# --- wild prices ------------------------------------------------------------------------------------------------------


def test_one_wild_print_opens_nothing_and_three_that_agree_are_the_market() -> None:
    quiet = [(second * 1_000, f"100.0{second // 60 % 2}") for second in range(0, 20 * 60, 10)]
    wild = [(20 * MINUTE_MS + 500 + at, "130.00") for at in (0, 300, 600)]
    later = [(22 * MINUTE_MS + 30_000 + at * 1_000, "130.00") for at in range(10)]
    result = simulate(setup(["AAAUSDT"]), {"AAAUSDT": tape_of("AAAUSDT", [*quiet, *wild, *later])})
    found = [[reason.value for reason in row.ruled.assessment.reasons] for row in result.decisions]
    assert "BAD_TICK" in found[0]
    assert found[1:]
    assert all("BAD_TICK" not in row for row in found[1:])
    assert result.signals[0].confirmed == 10_001 - 1, "the sale that followed the last quiet print"


# --- sizes ------------------------------------------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(1, 62), max_size=12))
def test_slices_change_no_size_by_volatility(seed: int, cuts: list[int]) -> None:
    tapes = {symbol: walk(symbol, seed + number, minutes=60) for number, symbol in enumerate(["AAAUSDT", "BBBUSDT"])}
    made = setup(list(tapes), VOLATILE)
    whole = simulate(made, tapes)
    cut = simulate(made, tapes, ends=[FIRST_MS + minute * MINUTE_MS for minute in cuts])
    assert list(cut.lines()) == list(whole.lines())


def test_sizes_by_volatility_follow_the_bars_that_a_drain_would_have_closed() -> None:
    tape = walk("AAAUSDT", 3, minutes=60)
    result = simulate(setup(["AAAUSDT"], VOLATILE), {"AAAUSDT": tape})
    compared = 0
    for row in result.decisions:
        if row.trigger.is_exit:
            continue
        minute, bars = row.trigger.ts_event // MINUTE_MS, []
        for back in range(15, 0, -1):
            within = (tape.ts >= (minute - back) * MINUTE_MS) & (tape.ts < (minute - back + 1) * MINUTE_MS)
            prices = [D(int(ticks)).scaleb(-2) for ticks in tape.price[within]]
            if prices:
                bars.append((max(prices), min(prices), prices[-1]))
        volatility = average_true_range(bars)
        proposal = row.ruled.proposal
        if volatility is None:
            assert proposal.intent.quantity == 0
            assert "not known yet" in proposal.words
            continue
        at_risk = proposal.intent.quantity * 2 * volatility
        room = proposal.intent.quantity * proposal.intent.limit_price
        step = D("0.001")
        assert at_risk <= D("0.001") * row.ruled.equity
        grown = (at_risk / proposal.intent.quantity * step, proposal.intent.limit_price * step)
        assert at_risk + grown[0] > D("0.001") * row.ruled.equity or room + grown[1] > D("0.05") * row.ruled.equity
        compared += 1
    assert compared > 5


def test_a_minute_without_trades_stands_at_the_close_before_it() -> None:
    rows = [(minute * MINUTE_MS + 1_000, f"{100 + minute % 2}.00") for minute in range(30) if minute not in (17, 18)]
    tape = tape_of("AAAUSDT", rows)
    backtest = Backtest(setup(["AAAUSDT"], VOLATILE))
    backtest.feed({"AAAUSDT": tape}, end_ms=FIRST_MS + 30 * MINUTE_MS)
    bars = backtest._windows["AAAUSDT"].bars_before(FIRST_MS // MINUTE_MS + 20, 15)
    assert bars[12] == bars[13]
    assert bars[12] == (bars[11][2],) * 3


@pytest.mark.parametrize("minute", [0, 5, 14])
def test_before_fifteen_minutes_are_known_there_are_no_bars(minute: int) -> None:
    backtest = Backtest(setup(["AAAUSDT"], VOLATILE))
    tape = tape_of("AAAUSDT", [(at * MINUTE_MS, "100.00") for at in range(20)])
    backtest.feed({"AAAUSDT": tape}, end_ms=FIRST_MS + 20 * MINUTE_MS)
    assert backtest._windows["AAAUSDT"].bars_before(FIRST_MS // MINUTE_MS + minute, 15) == []
