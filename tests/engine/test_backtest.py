"""Trading on recorded trades: the same whatever the slices, nothing from the future, money that adds up."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.backtest import Backtest
from apps.engine.matching import Expired
from apps.engine.model import MINUTE_MS
from apps.engine.portfolio import Fill, LegKind, Side
from apps.engine.tapes import TapeError
from tests.engine.simulations import FIRST_MS, LIMITS, setup, simulate, tape_of, walk, without

MINUTES = 60


def rising(seconds: int = 10) -> list[tuple[int, str]]:
    """Twenty quiet minutes, then a rise of a per cent: one signal in the first trade of minute 20."""
    quiet = [(second * 1_000, f"100.0{second // 60 % 2}") for second in range(0, 20 * 60, seconds)]
    return [*quiet, (20 * MINUTE_MS + 500, "101.00"), (20 * MINUTE_MS + 1_000, "101.00")]


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, MINUTES + 2), max_size=12),
    trailing=st.sampled_from(["0", "0.4"]),
)
def test_slices_change_nothing(seed: int, cuts: list[int], trailing: str) -> None:
    tapes = {"AAAUSDT": walk("AAAUSDT", seed, minutes=MINUTES), "BBBUSDT": walk("BBBUSDT", seed + 1, minutes=MINUTES)}
    made = setup(list(tapes), trailing_stop_pct=trailing)
    whole = simulate(made, tapes)
    cut = simulate(made, tapes, ends=[FIRST_MS + minute * MINUTE_MS for minute in cuts])
    assert list(cut.lines()) == list(whole.lines())
    assert cut.decision_hash == whole.decision_hash
    assert (cut.equity, cut.cash, cut.round_trips) == (whole.equity, whole.cash, whole.round_trips)


def test_the_tapes_of_that_test_make_round_trips_of_every_kind() -> None:
    reasons = set()
    for seed in range(6):
        tapes = {"AAAUSDT": walk("AAAUSDT", seed, minutes=MINUTES)}
        reasons |= {trip.reason for trip in simulate(setup(["AAAUSDT"]), tapes).round_trips}
        reasons |= {trip.reason for trip in simulate(setup(["AAAUSDT"], trailing_stop_pct="0.4"), tapes).round_trips}
        reasons |= {trip.reason for trip in simulate(setup(["AAAUSDT"], max_holding_minutes=1), tapes).round_trips}
    assert reasons == {"stop_loss", "take_profit", "trailing_stop", "max_holding"}


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), known=st.integers(20, MINUTES - 1))
def test_what_comes_later_changes_nothing_of_what_was_decided(seed: int, known: int) -> None:
    tapes = {"AAAUSDT": walk("AAAUSDT", seed, minutes=MINUTES), "BBBUSDT": walk("BBBUSDT", seed + 1, minutes=MINUTES)}
    until = FIRST_MS + known * MINUTE_MS
    whole = simulate(setup(list(tapes)), tapes)
    part = simulate(
        setup(list(tapes)), {symbol: without(tape, until - 1) for symbol, tape in tapes.items()}, end_ms=until
    )
    assert [signal for signal in whole.signals if signal.ts_event < until] == part.signals
    early = [decision for decision in whole.decisions if decision.trigger.ts_event < until]
    assert [decision.ruled for decision in early] == [decision.ruled for decision in part.decisions]
    assert [end.outcome for end in whole.ends if end.order.ts_mature < until] == [end.outcome for end in part.ends]
    assert [point for point in whole.equity if point[0] < until // MINUTE_MS] == part.equity


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_money_adds_up(seed: int) -> None:
    tapes = {
        symbol: walk(symbol, seed + number, minutes=MINUTES)
        for number, symbol in enumerate(["AAAUSDT", "BBBUSDT", "CCCUSDT"])
    }
    backtest = Backtest(setup(list(tapes)))
    backtest.feed(tapes, end_ms=FIRST_MS + (MINUTES + 1) * MINUTE_MS)
    result, desk = backtest.finish(), backtest.desk
    for reference, legs in desk.ledger:
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for leg in legs:
            sums[leg.currency] += leg.amount
        assert set(sums.values()) == {Decimal(0)}, reference
    posted = [leg for _, entry in desk.ledger for leg in entry]
    assert sum(leg.amount for leg in posted if leg.kind is LegKind.CASH) == desk.cash
    for symbol in tapes:
        held = sum((row.holding.quantity for row in desk.positions_of(symbol)), Decimal(0))
        assert sum(leg.amount for leg in posted if leg.kind is LegKind.ASSET and leg.currency == symbol[:3]) == held
    for decision in result.decisions:
        if decision.order is not None and decision.order.side is Side.BUY:
            assert decision.ruled.exposure_after <= LIMITS.exposure_max * decision.ruled.equity
    assert desk.symbols == desk.book().symbols
    closed = sum((trip.net for trip in result.round_trips), Decimal(0))
    if not desk.positions:
        assert desk.cash == 100_000 + closed
    assert len(result.fills) == 2 * len(result.round_trips) + len(desk.positions)


def test_an_order_meets_the_quote_that_is_in_force_when_it_matures() -> None:
    rows = [*rising(), (20 * MINUTE_MS + 600, "101.40")]
    result = simulate(setup(["AAAUSDT"]), {"AAAUSDT": tape_of("AAAUSDT", sorted(rows))})
    fill = result.ends[0].outcome
    assert isinstance(fill, Fill)
    assert result.signals[0].ts_event == FIRST_MS + 20 * MINUTE_MS + 500
    assert fill.ts_event == FIRST_MS + 20 * MINUTE_MS + 650
    assert fill.price >= Decimal("101.40")  # not the signal's 101.00: that quote was over by then


def test_a_gap_through_the_stop_is_filled_at_the_market() -> None:
    rows = [*rising(), (21 * MINUTE_MS, "90.00"), (21 * MINUTE_MS + 100, "90.00"), (22 * MINUTE_MS, "90.00")]
    result = simulate(setup(["AAAUSDT"]), {"AAAUSDT": tape_of("AAAUSDT", rows)})
    trip = result.round_trips[0]
    assert trip.reason == "stop_loss"
    stop = Decimal(101) * Decimal("0.995")
    assert trip.exit_notional / (trip.entry_notional / 101) < stop - 5
    assert trip.net < -10


def test_a_position_is_closed_when_its_time_is_over_even_if_nobody_trades_then() -> None:
    made = setup(["AAAUSDT"], max_holding_minutes=5)
    result = simulate(made, {"AAAUSDT": tape_of("AAAUSDT", rising())}, end_ms=FIRST_MS + 40 * MINUTE_MS)
    exit_signal = result.signals[1]
    assert (exit_signal.kind, exit_signal.reason, exit_signal.trade_id) == ("exit", "max_holding", "")
    assert exit_signal.ts_event == FIRST_MS + 20 * MINUTE_MS + 650 + 5 * MINUTE_MS
    assert result.round_trips[0].closed_ts_event == exit_signal.ts_event + 150


def test_a_signal_over_a_hole_is_refused_with_its_reason_and_never_decided() -> None:
    minute = FIRST_MS // MINUTE_MS
    tape = replace(tape_of("AAAUSDT", rising()), unproven=((minute + 19, "a dropped frame"),))
    result = simulate(setup(["AAAUSDT"]), {"AAAUSDT": tape})
    assert [(row.unproven_minutes, row.reason) for row in result.refusals] == [(1, "a dropped frame")]
    assert (result.signals, result.decisions) == ([], [])


def test_an_order_that_matures_in_a_hole_expires_unfilled() -> None:
    minute = FIRST_MS // MINUTE_MS
    rows = [*rising()[:-2], (20 * MINUTE_MS + 59_900, "101.00"), (21 * MINUTE_MS + 5_000, "101.00")]
    tape = replace(tape_of("AAAUSDT", rows), unproven=((minute + 21, "a cut connection"),))
    result = simulate(setup(["AAAUSDT"]), {"AAAUSDT": tape})
    outcome = result.ends[0].outcome
    assert isinstance(outcome, Expired)
    assert "a cut connection" in outcome.words


def test_positions_that_are_open_at_the_end_are_told_and_not_closed() -> None:
    result = simulate(setup(["AAAUSDT"]), {"AAAUSDT": tape_of("AAAUSDT", rising())})
    assert (result.open_positions, result.round_trips) == (1, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ts": np.array([5, 4])}, "trade 2 is older than the one before it"),
        ({"price": np.array([1, 0])}, "trade 2 has the price 0"),
        ({"quantity": np.array([-1, 3])}, "trade 1 has the quantity -1"),
        ({"trade_id": ["1"]}, r"columns of \[1, 2\] rows"),
    ],
)
def test_a_tape_that_no_feed_could_have_given_is_refused(change: dict[str, object], words: str) -> None:
    tape = replace(tape_of("AAAUSDT", [(0, "1.00")]), **change)  # type: ignore[arg-type]
    with pytest.raises(TapeError, match=words):
        tape.check()


@pytest.mark.parametrize(
    ("symbol", "end", "words"),
    [
        ("ZZZUSDT", FIRST_MS + MINUTE_MS, "ZZZUSDT is on the tape, but nothing is known of it"),
        ("AAAUSDT", FIRST_MS + 1, "not a whole minute after 0"),
        ("AAAUSDT", FIRST_MS, "AAAUSDT: trades outside the slice"),
    ],
)
def test_a_slice_that_cannot_be_next_is_refused(symbol: str, end: int, words: str) -> None:
    with pytest.raises(TapeError, match=words):
        Backtest(setup(["AAAUSDT"])).feed({symbol: tape_of(symbol, [(0, "1.00")])}, end_ms=end)
