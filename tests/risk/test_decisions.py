"""From a signal to a decision: what is stored, what is reserved, and that it happens once."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.engine.risk.values import Reason
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Account, Position, Reservation
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, RiskState, RiskStateChange, TradingState
from apps.risk.services import set_trading_state
from tests.factories import START_MINUTE, BarFactory, CoverageFactory, PositionFactory, ReservationFactory
from tests.worlds import NOW_MS, TRIGGER_MS, World, open_world, stale, unknown

D = Decimal
pytestmark = pytest.mark.django_db


def test_an_approval_stores_decision_intent_reservation_and_event_together() -> None:
    world = open_world()
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert (decision.verdict, decision.reasons, decision.sequence) == ("approved", [], 2)
    intent = decision.intents.get()
    # 2 % of 100 000 at 0.5 is 4 000; the limit is 0.5 + 2 %
    assert (intent.side, intent.quantity, intent.limit_price) == ("BUY", D(4_000), D("0.51"))
    reservation = Reservation.objects.get(client_order_id=intent.client_order_id)
    assert (reservation.amount, reservation.notional) == (D("2041.02"), D(2_040))
    assert (reservation.currency, reservation.active, reservation.reducing) == ("USDT", True, False)
    event = OutboxEvent.objects.get(event_type="IntentApproved")
    assert event.payload == {"intent_id": intent.pk}


def test_a_decision_keeps_every_check_with_its_input_and_limit() -> None:
    world = open_world()
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert len(decision.checks) == len(Reason)
    by_code = {check["code"]: check for check in decision.checks}
    assert by_code["EXPOSURE"] == {
        "code": "EXPOSURE", "value": "2040", "limit": "50000", "margin": "47960", "left": "0.9592", "passed": True,
        "note": "",
    }  # fmt: skip
    assert by_code["STALE_FEED"]["value"] == "100"
    assert by_code["CASH"]["limit"] == "100000"
    assert (decision.feed_age_ms, decision.signal_age_ms) == (100, 100)
    assert (decision.exposure_before, decision.exposure_after, decision.equity) == (D(0), D(2_040), D(100_000))


def test_a_denial_reserves_nothing_and_says_why() -> None:
    world = open_world()
    decision = world.decide(world.entry_signal(unproven_minutes=2, unproven_reason="gap of 3 s"))
    assert decision is not None
    assert (decision.verdict, decision.reasons) == ("denied", ["DATA_GAP"])
    assert decision.sentence == "Denied: 2 minutes of the signal's window are UNPROVEN (gap of 3 s)."
    assert not OrderIntent.objects.exists()
    assert not Reservation.objects.exists()
    assert not OutboxEvent.objects.exists()
    assert decision.exposure_after == decision.exposure_before


def test_a_second_call_for_a_signal_does_nothing() -> None:
    world = open_world()
    signal = world.entry_signal()
    assert world.decide(signal) is not None
    before = Account.objects.get(pk=world.account.pk).sequence
    assert world.decide(signal) is None
    assert RiskDecision.objects.count() == OrderIntent.objects.count() == 1
    assert Account.objects.get(pk=world.account.pk).sequence == before


def test_a_signal_that_does_not_exist_is_no_error() -> None:
    world = open_world()
    signal = world.entry_signal()
    signal.pk = signal.pk + 1_000
    assert world.decide(signal) is None


def test_every_commit_has_its_own_sequence_number_in_order() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT", "SOLUSDT"])
    numbers = []
    for symbol in world.instruments:
        decision = world.decide(world.entry_signal(symbol))
        assert decision is not None
        numbers.append(decision.sequence)
    assert numbers == [2, 3, 4]
    assert world.state.sequence == 4


def test_an_opening_order_on_a_feed_that_nobody_reports_is_denied_in_words() -> None:
    world = open_world()
    decision = world.decide(world.entry_signal(), feed=unknown)
    assert decision is not None
    assert decision.reasons == ["STALE_FEED"]
    assert "the age of the feed is unknown: the ingest has not reported" in decision.sentence
    assert decision.feed_age_ms is None


def test_an_opening_order_of_an_old_signal_is_denied() -> None:
    world = open_world()
    decision = world.decide(world.entry_signal(ts_init=NOW_MS - 2_001))
    assert decision is not None
    assert decision.reasons == ["STALE_SIGNAL"]


def test_a_symbol_outside_the_session_is_denied() -> None:
    world, elsewhere = open_world(), open_world(["ADAUSDT"])
    decision = world.decide(world.entry_signal(instrument=elsewhere.instruments["ADAUSDT"]))
    assert decision is not None
    assert decision.reasons == ["SYMBOL"]


# --- marks and exposure -----------------------------------------------------------------------------------------------


def test_positions_are_marked_at_the_last_minute_that_all_shards_had_closed() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    held = PositionFactory.create(account=world.account, instrument=world.instruments["ADAUSDT"], quantity=D(1_000))
    RiskState.objects.update(exposure=D(500), marks={"minute": 1, "prices": {"ADAUSDT": "0.5"}})
    for minute, close in ((1, "0.6"), (2, "0.7"), (3, "0.8")):
        BarFactory.create(epoch=world.epoch, instrument=held.instrument, minute=START_MINUTE + minute, close=D(close))
    world.epoch.cursors.update(closed_minute=START_MINUTE + 3)
    world.epoch.cursors.filter(shard=world.shard("ADAUSDT")).update(closed_minute=START_MINUTE + 2)
    decision = world.decide(world.entry_signal(ts_event=TRIGGER_MS + 600_000, price=D("0.5")))
    assert decision is not None
    assert decision.marks == {"minute": START_MINUTE + 2, "prices": {"ADAUSDT": "0.7", "XRPUSDT": "0.5"}}
    assert decision.exposure_before == D(700)
    assert decision.equity == D(100_700)


def test_marks_are_never_of_the_triggers_own_minute_or_later() -> None:
    world = open_world()
    for minute in (1, 2):
        BarFactory.create(
            epoch=world.epoch, instrument=world.instruments["XRPUSDT"], minute=START_MINUTE + minute, close=D(9)
        )
    world.epoch.cursors.update(closed_minute=START_MINUTE + 2)
    decision = world.decide(world.entry_signal(ts_event=(START_MINUTE + 1) * 60_000 + 5))
    assert decision is not None
    assert decision.marks["minute"] == START_MINUTE


def test_a_symbol_without_a_bar_at_that_minute_is_marked_by_the_last_one_before() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    PositionFactory.create(account=world.account, instrument=world.instruments["ADAUSDT"], quantity=D(1_000))
    RiskState.objects.update(exposure=D(500), marks={"minute": 1, "prices": {"ADAUSDT": "0.5"}})
    world.epoch.cursors.update(closed_minute=START_MINUTE + 9)
    decision = world.decide(world.entry_signal(ts_event=TRIGGER_MS + 900_000))
    assert decision is not None
    assert decision.marks["prices"]["ADAUSDT"] == "0.5"


def test_a_holding_whose_price_nobody_knows_makes_exposure_unknown_and_denies() -> None:
    world = open_world()
    stranger = open_world(["ADAUSDT"]).instruments["ADAUSDT"]
    PositionFactory.create(account=world.account, instrument=stranger, quantity=D(10))
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert "EXPOSURE" in decision.reasons
    assert "no price of ADAUSDT is known" in decision.sentence


def test_open_orders_count_as_exposure_and_take_cash() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    first = world.decide(world.entry_signal())
    second = world.decide(world.entry_signal("ADAUSDT"))
    assert first is not None
    assert second is not None
    assert second.exposure_before == first.exposure_after == D(2_040)
    cash = next(check for check in second.checks if check["code"] == "CASH")
    assert D(cash["limit"]) == D(100_000) - D("2041.02")


def test_the_stored_exposure_is_the_one_after_the_decision_on_its_marks() -> None:
    world = open_world()
    decision = world.decide(world.entry_signal())
    assert decision is not None
    state = world.state
    assert (state.exposure, state.marks) == (decision.exposure_after, decision.marks)


def test_a_stored_exposure_that_differs_sets_reducing_and_denies(caplog: pytest.LogCaptureFixture) -> None:
    world = open_world()
    RiskState.objects.update(exposure=D(7))
    with caplog.at_level(logging.CRITICAL):
        decision = world.decide(world.entry_signal())
    assert decision is not None
    assert decision.reasons == ["REDUCING"]
    assert "stored exposure" in caplog.text
    change = RiskStateChange.objects.get()
    assert (change.from_state, change.to_state, change.set_by) == ("ACTIVE", "REDUCING", "system")
    assert change.sequence < decision.sequence
    assert (world.state.trading_state, world.state.exposure) == ("REDUCING", D(0))


def test_a_position_changed_behind_our_back_is_noticed() -> None:
    world = open_world()
    assert world.decide(world.entry_signal()) is not None
    Reservation.objects.update(notional=D(1))
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert "REDUCING" in decision.reasons


# --- day and peak -----------------------------------------------------------------------------------------------------


def test_the_trading_day_begins_in_event_time_and_the_peak_only_grows() -> None:
    world = open_world()
    day_ms = 86_400_000
    world.decide(world.entry_signal(ts_event=TRIGGER_MS))
    first = world.state
    Account.objects.filter(pk=world.account.pk).update(cash=D(90_000))
    world.decide(world.entry_signal(ts_event=TRIGGER_MS + 60_000))
    same_day = world.state
    world.decide(world.entry_signal(ts_event=TRIGGER_MS + day_ms))
    next_day = world.state
    assert (first.day_start_equity, same_day.day_start_equity, next_day.day_start_equity) == (
        D(100_000), D(100_000), D(90_000),
    )  # fmt: skip
    assert first.day is not None
    assert next_day.day is not None
    assert (next_day.day - first.day).days == 1
    assert next_day.peak_equity == D(100_000)


# --- rates ------------------------------------------------------------------------------------------------------------


def test_an_equal_order_within_a_second_is_a_duplicate_and_after_it_is_not() -> None:
    world = open_world()
    RiskLimits.objects.update(open_orders_symbol_max=9)
    assert world.decide(world.entry_signal(ts_event=TRIGGER_MS)) is not None
    again = world.decide(world.entry_signal(ts_event=TRIGGER_MS + 1_000, trade_id="again"))
    later = world.decide(world.entry_signal(ts_event=TRIGGER_MS + 1_001, trade_id="later"))
    assert again is not None
    assert later is not None
    assert again.reasons == ["DUPLICATE"]
    assert later.verdict == "approved"


def test_a_sixth_order_within_one_second_of_event_time_is_denied_in_whatever_order_they_come() -> None:
    symbols = [f"{name}USDT" for name in ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")]
    world = open_world(symbols)
    times = [TRIGGER_MS + offset for offset in (900, 0, 500, 300, 700, 450)]
    decisions = [
        world.decide(world.entry_signal(symbol, ts_event=time)) for symbol, time in zip(symbols, times, strict=True)
    ]
    assert [decision.verdict for decision in decisions if decision] == ["approved"] * 5 + ["denied"]
    last = decisions[-1]
    assert last is not None
    assert last.reasons == ["THROTTLE"]


def test_denied_signals_do_not_count_for_the_throttle() -> None:
    world = open_world([f"{name}USDT" for name in ("AAA", "BBB")])
    RiskLimits.objects.update(orders_per_second_max=1)
    denied = world.decide(world.entry_signal("AAAUSDT", ts_event=TRIGGER_MS, unproven_minutes=1))
    approved = world.decide(world.entry_signal("BBBUSDT", ts_event=TRIGGER_MS))
    assert denied is not None
    assert approved is not None
    assert (denied.verdict, approved.verdict) == ("denied", "approved")


# --- exits ------------------------------------------------------------------------------------------------------------


def holding(quantity: int) -> tuple[World, Position]:
    """A session that holds a position in XRPUSDT, marked at 0.5."""
    world = open_world()
    position = PositionFactory.create(
        account=world.account, instrument=world.instruments["XRPUSDT"], quantity=D(quantity)
    )
    RiskState.objects.update(exposure=D(quantity) / 2, marks={"minute": 1, "prices": {"XRPUSDT": "0.5"}})
    return world, position


def test_an_exit_sells_all_of_its_position_within_the_band_below_the_bid() -> None:
    world, position = holding(1_000)
    intent = world.approved(world.exit_signal(position))
    assert (intent.side, intent.quantity, intent.reducing, intent.position) == ("SELL", D(1_000), True, position)
    assert intent.limit_price == D("0.4500")  # 0.4999 less 10 %, up to the tick
    reservation = Reservation.objects.get()
    assert (reservation.currency, reservation.amount, reservation.notional) == ("XRP", D(1_000), D(0))
    assert world.state.exposure == D(500)


def test_an_exit_without_a_quote_takes_the_signal_price_as_reference() -> None:
    world, position = holding(10)
    intent = world.approved(world.exit_signal(position, bid=None, ask=None))
    assert intent.limit_price == D("0.45")


def test_a_second_exit_of_a_position_is_denied_while_one_is_open() -> None:
    world, position = holding(1_000)
    world.approved(world.exit_signal(position))
    decision = world.decide(world.exit_signal(position, trigger_key="x:again"))
    assert decision is not None
    assert decision.reasons == ["DUPLICATE"]


def test_an_exit_is_held_while_the_feed_is_stale_and_goes_on_when_it_is_fresh(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world, position = holding(1_000)
    signal = world.exit_signal(position)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert world.decide(signal, feed=stale) is None
    assert caplog.text.count("Held: the feed's last sign of life was 5") == 1  # said once, not at every try
    assert not RiskDecision.objects.exists()
    late = world.decide(signal, now_ms=NOW_MS + 60_000)
    assert late is not None
    assert late.verdict == "approved"


def test_an_exit_goes_through_every_limit_that_would_stop_an_entry() -> None:
    world, position = holding(150_000)
    Account.objects.filter(pk=world.account.pk).update(cash=D(0))
    ReservationFactory.create_batch(20, account=world.account, notional=D(0), amount=D(0))
    set_trading_state(account_id=world.account.pk, to_state=TradingState.REDUCING, set_by="tester", reason="a test")
    CoverageFactory.create(epoch=world.epoch, instrument=position.instrument)
    assert world.approved(world.exit_signal(position, unproven_minutes=5)).quantity == D(150_000)


def test_halted_denies_an_exit() -> None:
    world, position = holding(100)
    set_trading_state(account_id=world.account.pk, to_state=TradingState.HALTED, set_by="mara", reason="feed looks odd")
    decision = world.decide(world.exit_signal(position))
    assert decision is not None
    assert decision.reasons == ["HALTED"]
    assert "by mara: feed looks odd" in decision.sentence


def test_a_decision_takes_few_queries() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    world.decide(world.entry_signal("ADAUSDT"))
    signal = world.entry_signal()
    with CaptureQueriesContext(connection) as queries:
        world.decide(signal)
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert len(statements) <= 18, "\n".join(statements)
