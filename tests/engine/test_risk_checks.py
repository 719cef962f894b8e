"""Every pre-trade check: what it says to an order that opens and to one that reduces, at and beyond its limit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.risk.assessment import CHECKS, Assessment, Ruling, assess
from apps.engine.risk.values import SOUND_PATH, OrderPath, Outcome, Reason, TradingState, Verdict, View
from apps.engine.risk.words import NARROW_SPACE
from tests.engine.risk_cases import FAILED, LIMITS, OPENING, PASSED, REDUCING, TABLE, VIEW, D, changed


def verdict_of(reason: str, assessment: Assessment) -> Verdict:
    return next(verdict for verdict in assessment.verdicts if verdict.reason == reason)


@pytest.mark.parametrize(("reason", "changes", "opening", "_reducing"), TABLE)
def test_an_order_that_opens_is_judged_by_the_first_column(
    reason: str, changes: dict[str, Any], opening: Outcome, _reducing: Outcome
) -> None:
    intent, view = changed(OPENING, changes)
    verdict = verdict_of(reason, assess(intent, view, LIMITS))
    assert verdict.outcome is opening
    assert verdict.note or opening is PASSED


@pytest.mark.parametrize(("reason", "changes", "_opening", "reducing"), TABLE)
def test_an_order_that_reduces_is_judged_by_the_second_column(
    reason: str, changes: dict[str, Any], _opening: Outcome, reducing: Outcome
) -> None:
    intent, view = changed(REDUCING, changes)
    assert verdict_of(reason, assess(intent, view, LIMITS)).outcome is reducing


def test_the_table_covers_every_reason_and_every_reason_has_one_check() -> None:
    assert {row[0] for row in TABLE} == {reason.value for reason in Reason}
    assert [reason for reason, _ in CHECKS] == list(Reason)


def test_each_check_answers_with_its_own_reason() -> None:
    for intent in (OPENING, REDUCING):
        assert [check(intent, VIEW, LIMITS).reason for _, check in CHECKS] == list(Reason)


@pytest.mark.parametrize("reason", [row[0] for row in TABLE if row[2] is FAILED])
def test_all_checks_run_even_after_one_has_failed(reason: str) -> None:
    changes = next(row[1] for row in TABLE if row[0] == reason and row[2] is FAILED)
    intent, view = changed(OPENING, changes)
    assessment = assess(intent, view, LIMITS)
    assert assessment.ruling is Ruling.DENIED
    assert reason in assessment.reasons
    assert len(assessment.verdicts) == len(Reason)


def test_an_exit_of_a_position_that_is_closed_already_is_denied() -> None:
    assessment = assess(replace(REDUCING, quantity=D(0)), VIEW, LIMITS)
    assert assessment.reasons == [Reason.DUPLICATE]
    assert assessment.sentence == "Denied: the position is closed already."


SENTENCES: list[tuple[dict[str, Any], str]] = [
    (
        {"exposure": D(29_940), "quantity": D(425)},
        "Denied: gross exposure would be 30 365 of 30 000 USDT. 365 USDT less would pass.",
    ),
    (
        {"exposure": D("29999.999"), "quantity": D(425)},
        "Denied: gross exposure would be 30 425 of 30 000 USDT. No order would pass.",
    ),
    ({"exposure": D(31_000)}, "Denied: gross exposure would be 32 000 of 30 000 USDT. No order would pass."),
    (
        {"quantity": D("3000.001")},
        "Denied: order notional would be 3 000.01 of 3 000 USDT. 0.01 USDT less would pass.",
    ),
    ({"signal_age_ms": 2_230}, "Denied: the signal was 2.3 s old when it reached risk (limit 2 s)."),
    (
        {"trading_state": TradingState.HALTED, "state_words": "since 13:58 by DAILY_LOSS"},
        "Denied: trading is halted since 13:58 by DAILY_LOSS.",
    ),
    (
        {"quantity": D("4.10")},
        "Not sent: 4.1 USDT is below the exchange's minimum of 5 USDT for XRPUSDT.",
    ),
    (
        {"feed_age_ms": None, "feed_words": "no feed state is published"},
        "Denied: the age of the feed is unknown: no feed state is published (limit 2 s).",
    ),
    ({"feed_age_ms": 61_001}, "Denied: the feed's last sign of life was 61.1 s old (limit 2 s)."),
    (
        {"unproven_minutes": 2, "unproven_reason": "gap of 3 s"},
        "Denied: 2 minutes of the signal's window are UNPROVEN (gap of 3 s).",
    ),
    (
        {"price": D("1.0201"), "ask": D("1.03")},
        (
            "Denied: the price's distance from the last minute's median would be 2.01 % of 2 %. "
            "A price of at most 1.02 would pass."
        ),
    ),
    ({"orders_second": 5}, "Denied: orders within one second would be 6 of 5. 1 less would pass."),
    ({"open_orders_symbol": 1}, "Denied: open orders in XRPUSDT would be 2 of 1. 1 less would pass."),
    (
        {"twin_ms": 300},
        "Denied: an equal order (BUY 1 000 XRPUSDT) was approved 0.3 s away (limit 1 s).",
    ),
    (
        {"unvalued": ("ADAUSDT",)},
        "Denied: gross exposure is unknown: no price of ADAUSDT is known. Also failed: daily loss, drawdown.",
    ),
    (
        {"equity": D(57_000)},
        (
            "Denied: the day's loss is 3 000 of 3 000 USDT, 5 % of the 60 000 that the day began with. "
            "Also failed: drawdown."
        ),
    ),
    (
        {"repeats": 3},
        "Denied: orders to BUY XRPUSDT within 60 s would be 4 of 3. 1 less would pass.",
    ),
    (
        {"price": D("1.2"), "limit_price": D("1.2"), "bid": D("1.2"), "ask": D("1.2"), "median": D("1.2")},
        "Denied: the price 1.2 is 20 % away from the confirmed 1 (limit 10 %).",
    ),
    (
        {"path": replace(SOUND_PATH, heartbeat_age_ms=17_300, heartbeat_words="steward")},
        "Denied: steward was last heard of 17.3 s ago (limit 15 s).",
    ),
    ({"order_cap": D(900)}, "Denied: order notional would be 1 000 of 900 USDT. 100 USDT less would pass."),
    ({"in_session": False}, "Denied: XRPUSDT is not part of this session."),
    (
        {"free_cash": D(500), "orders_second": 5},
        "Denied: cash would be 1 001 of 500 USDT. 501 USDT less would pass. Also failed: order rate.",
    ),
    ({}, "Approved: BUY 1 000 XRPUSDT at 1 or better. Closest: order notional, 66 % left."),
    (
        {"symbol_exposure": D(4_000)},
        "Approved: BUY 1 000 XRPUSDT at 1 or better. Closest: symbol exposure, 16 % left.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), SENTENCES)
def test_the_sentence_says_what_was_decided_and_what_would_have_changed_it(
    changes: dict[str, Any], sentence: str
) -> None:
    intent, view = changed(OPENING, changes)
    assert assess(intent, view, LIMITS).sentence.replace(NARROW_SPACE, " ") == sentence


def test_a_held_exit_says_what_it_waits_for() -> None:
    assessment = assess(REDUCING, replace(VIEW, feed_age_ms=5_000), LIMITS)
    assert assessment.ruling is Ruling.HELD
    assert assessment.sentence.replace(NARROW_SPACE, " ") == (
        "Held: the feed's last sign of life was 5 s old (limit 2 s)."
    )


def test_halted_denies_an_exit_at_once_even_on_a_stale_feed() -> None:
    view = replace(VIEW, feed_age_ms=None, trading_state=TradingState.HALTED)
    assert assess(REDUCING, view, LIMITS).ruling is Ruling.DENIED


@pytest.mark.parametrize(
    "changes", [{"signal_age_ms": 9_000}, {"bid": None}, {"bid": D("1.2")}, {"exits_second": 20}, {"tradable": False}]
)
def test_an_exit_that_passes_under_odd_conditions_asks_somebody_to_look(changes: dict[str, Any]) -> None:
    intent, view = changed(REDUCING, changes)
    assessment = assess(intent, view, LIMITS)
    assert assessment.ruling is Ruling.APPROVED
    assert assessment.alerts
    assert all(verdict.note for verdict in assessment.alerts)


AMOUNT = st.decimals("-1e6", "1e6", places=2)
PATHS = st.builds(
    OrderPath,
    lease_age_ms=st.none() | st.integers(0, 10_000),
    strangers=st.none() | st.integers(0, 2),
    heartbeat_age_ms=st.none() | st.integers(0, 20_000),
    differences=st.none() | st.integers(0, 2),
)
VIEWS = st.builds(
    View,
    trading_state=st.sampled_from([TradingState.ACTIVE, TradingState.REDUCING]),
    state_words=st.just(""),
    in_session=st.booleans(),
    tradable=st.booleans(),
    path=PATHS,
    feed_age_ms=st.integers(0, 2_000),
    feed_words=st.just(""),
    signal_age_ms=st.integers(0, 100_000),
    unproven_minutes=st.integers(0, 15),
    unproven_reason=st.just("gap"),
    bid=st.none() | st.just(D("0.9")),
    ask=st.none() | st.just(D("1.1")),
    median=st.none() | st.just(D(1)),
    confirmed=st.none() | st.just(D(1)) | st.just(D(2)),
    quantity_min=st.just(D(1)),
    notional_min=st.just(D(5)),
    size_words=st.just(""),
    day_start_equity=st.none() | AMOUNT,
    peak_equity=st.none() | AMOUNT,
    order_cap=st.none() | AMOUNT,
    opposite_orders=st.integers(0, 2),
    repeats=st.integers(0, 9),
    currency=st.just("USDT"),
    equity=AMOUNT,
    free_cash=AMOUNT,
    needed_cash=AMOUNT,
    exposure=AMOUNT,
    symbol_exposure=AMOUNT,
    unvalued=st.sampled_from([(), ("XRPUSDT",), ("ADAUSDT",)]),
    positions_symbol=st.integers(0, 100),
    open_orders=st.integers(0, 100),
    open_orders_symbol=st.integers(0, 100),
    open_exits=st.just(0),
    orders_second=st.integers(0, 1_000),
    orders_minute=st.integers(0, 1_000),
    orders_day=st.integers(0, 1_000),
    exits_second=st.integers(0, 1_000),
    twin_ms=st.none() | st.integers(0, 2_000),
)


@given(VIEWS, st.decimals("0.01", "1e9", places=2))
def test_nothing_but_a_halt_or_a_second_exit_ever_denies_an_order_that_reduces(view: View, quantity: Decimal) -> None:
    assert assess(replace(REDUCING, quantity=quantity), view, LIMITS).ruling is Ruling.APPROVED


@given(VIEWS, st.decimals("0", "1e6", places=2))
def test_what_is_approved_is_within_every_limit(view: View, quantity: Decimal) -> None:
    intent = replace(OPENING, quantity=quantity)
    if assess(intent, view, LIMITS).ruling is not Ruling.APPROVED:
        return
    assert view.trading_state is TradingState.ACTIVE
    assert view.exposure + quantity <= view.equity / 2
    assert view.symbol_exposure + quantity <= view.equity / 10
    assert quantity <= view.equity / 20
    assert view.needed_cash <= view.free_cash
    assert view.orders_second < 5
    assert view.unproven_minutes == 0


@given(st.lists(st.integers(0, 9_999_999_999), min_size=2, max_size=2).map(sorted))
def test_numbers_in_sentences_keep_their_order(pair: list[int]) -> None:
    texts = []
    for cents in pair:
        changes = {"exposure": D(40_000) + D(cents).scaleb(-2)}
        intent, view = changed(OPENING, changes)
        texts.append(assess(intent, view, LIMITS).sentence.split("would be ")[1].split(" of ")[0])
    values = [D(text.replace(NARROW_SPACE, "")) for text in texts]
    assert all(earlier <= later for earlier, later in pairwise(values))
