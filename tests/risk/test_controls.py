"""What a decision does beyond its verdict: it trips, it remembers the day, and it lets every exit out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apps.engine.risk.values import SOUND_PATH, OrderPath, Reason
from apps.portfolio.models import Account, Position
from apps.risk.models import BreakerTrip, RiskDecision, RiskLimits, RiskState, TradingState
from apps.risk.services import change_limits, set_trading_state
from apps.risk.services.path import note_reconciliation
from apps.risk.services.tripping import CAUSES
from tests.factories import START_MINUTE, BarFactory, PositionFactory, ReservationFactory
from tests.worlds import TRIGGER_MS, World, open_world

D = Decimal
pytestmark = pytest.mark.django_db
TODAY = datetime.fromtimestamp(TRIGGER_MS / 1000, UTC).date()


def decided(world: World, symbol: str = "XRPUSDT", **fields: Any) -> RiskDecision:
    decision = world.decide(world.entry_signal(symbol, **fields))
    assert decision is not None
    return decision


def worth(start: int, peak: int = 0) -> None:
    """The account, worth 100 000 now, began its day with `start` and was worth `peak` once."""
    RiskState.objects.update(day=TODAY, day_start_equity=start, peak_equity=max(peak, 100_000), last_equity=100_000)


def limits(world: World, **changes: Any) -> None:
    change_limits(account_id=world.account.pk, changes=changes, set_by="tester", reason="a test")


# --- trips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "state"),
    [(105_000, "ACTIVE"), (105_300, "REDUCING"), (107_500, "REDUCING"), (107_600, "HALTED"), (200_000, "HALTED")],
)
def test_a_day_that_lost_five_percent_reduces_and_seven_halts(start: int, state: str) -> None:
    world = open_world()
    worth(start)
    decision = decided(world)
    assert world.state.trading_state == state
    assert ("LOSS_LIMIT" in decision.reasons) is (state != "ACTIVE")
    assert decision.trading_state == "ACTIVE", "it was decided in the state that held before"
    trips = BreakerTrip.objects.filter(account=world.account)
    assert [trip.cause for trip in trips] == ([] if state == "ACTIVE" else ["DAILY_LOSS"])
    assert all(trip.sequence > decision.sequence and trip.evidence["limit"] for trip in trips)


def test_a_loss_is_noticed_by_an_exit_which_goes_out() -> None:
    world, position = holding(1_000)
    RiskState.objects.update(day=date(2030, 1, 1), day_start_equity=120_000, peak_equity=100_500, last_equity=100_500)
    world.approved(world.exit_signal(position))
    assert world.state.trading_state == "HALTED"


def test_a_drawdown_over_several_days_reduces() -> None:
    world = open_world()
    worth(100_000, peak=105_300)
    assert decided(world).reasons == ["DRAWDOWN"]
    assert (world.state.trading_state, BreakerTrip.objects.get().cause) == ("REDUCING", "DRAWDOWN")


def test_a_fourth_order_on_one_side_of_a_symbol_reduces_only_that_symbol() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    RiskLimits.objects.update(open_orders_symbol_max=9, positions_per_symbol_max=9, duplicate_ms=0)
    for number in range(3):
        world.approved(world.entry_signal(ts_event=TRIGGER_MS + number * 1_000, trade_id=f"a{number}"))
    assert decided(world, ts_event=TRIGGER_MS + 59_999).reasons == ["REPEAT"]
    trip = BreakerTrip.objects.get()
    assert (trip.cause, trip.scope, trip.subject) == ("REPEAT", "symbol", "XRPUSDT")
    assert world.state.trading_state == "ACTIVE"
    assert decided(world, ts_event=TRIGGER_MS + 600_000).reasons == ["REDUCING"], "until a person resumes it"
    assert decided(world, "ADAUSDT", ts_event=TRIGGER_MS + 601_000).verdict == "approved"


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ({"lease_age_ms": 6_001}, "LEASE"),
        ({"strangers": 2, "version_words": "drain-0, misc"}, "VERSION"),
        ({"heartbeat_age_ms": 15_001, "heartbeat_words": "steward"}, "HEARTBEAT"),
    ],
)
def test_whoever_is_missing_on_the_way_of_an_order_reduces_at_once(path: dict[str, Any], cause: str) -> None:
    world = open_world()
    decision = world.decide(world.entry_signal(), path=lambda _: replace(SOUND_PATH, **path))
    assert decision is not None
    assert decision.reasons == [cause]
    assert BreakerTrip.objects.get().cause == cause
    assert decision.inputs["path"].items() >= path.items()


@pytest.mark.parametrize(("differences", "reduced"), [(2, True), (None, False)])
def test_what_a_reconciliation_left_opens_nothing_and_reduces_if_it_is_known(
    differences: int | None, reduced: bool
) -> None:
    world = open_world()
    note_reconciliation(account_id=world.account.pk, differences=differences, words="order c1 at the venue only")
    decision = decided(world)
    assert decision.reasons == ["RECON"]
    assert "order c1 at the venue only" in decision.sentence
    assert (decision.inputs["path"]["differences"], world.state.trading_state == "REDUCING") == (differences, reduced)
    note_reconciliation(account_id=world.account.pk, differences=0, words="")
    assert ("RECON" in decided(world).reasons) is False


@pytest.mark.parametrize("field", ["lease_age_ms", "strangers", "heartbeat_age_ms"])
def test_what_is_not_known_of_the_way_opens_nothing_and_trips_nothing(field: str) -> None:
    world, unknown = open_world(), OrderPath(**{**SOUND_PATH.as_json(), field: None})
    decision = world.decide(world.entry_signal(), path=lambda _: unknown)
    assert decision is not None
    assert decision.verdict == "denied"
    assert not BreakerTrip.objects.exists()
    assert world.state.trading_state == "ACTIVE"


# --- exits ------------------------------------------------------------------------------------------------------------


def holding(quantity: int) -> tuple[World, Position]:
    """A session that holds a position in XRPUSDT, marked at 0.5."""
    world = open_world()
    position = PositionFactory.create(
        account=world.account, instrument=world.instruments["XRPUSDT"], quantity=D(quantity)
    )
    RiskState.objects.update(exposure=D(quantity) / 2, marks={"minute": 1, "prices": {"XRPUSDT": "0.5"}})
    return world, position


def test_an_exit_of_a_position_of_maximum_size_passes_with_every_limit_used_up() -> None:
    """Gross exposure, the symbol, cash, orders, the day's orders and its loss: all at 100 per cent or beyond."""
    world, position = holding(100_000)
    limits(
        world, order_notional_max=D("0.5"), position_max=D("0.5"), exposure_max=D("0.5"), orders_per_day_max=0,
        orders_per_minute_max=0, orders_per_second_max=0, open_orders_max=0, open_orders_symbol_max=0, repeat_max=0,
        positions_per_symbol_max=0, exits_per_second_max=1,
    )  # fmt: skip
    Account.objects.filter(pk=world.account.pk).update(cash=D(50_000))
    ReservationFactory.create(account=world.account, amount=D(50_000), notional=D(0))
    RiskState.objects.update(day=TODAY, day_start_equity=110_000, peak_equity=110_000, last_equity=100_000)
    set_trading_state(account_id=world.account.pk, to_state=TradingState.REDUCING, set_by="tester", reason="a test")
    broken = replace(SOUND_PATH, lease_age_ms=None, strangers=1, heartbeat_age_ms=60_000)
    decision = world.decide(
        world.exit_signal(position, unproven_minutes=5, median_price=D(5), confirmed_price=None),
        path=lambda _: broken, order_cap=D(1),
    )  # fmt: skip
    assert decision is not None
    assert decision.verdict == "approved", decision.sentence
    assert decision.intents.get().quantity == D(100_000)
    assert D(decision.exposure_before) / D(decision.equity) == D("0.5")


def test_an_exit_whose_last_trade_was_wild_is_decided_at_the_confirmed_price() -> None:
    """At the print's price the account would have lost nine tenths, and the day's loss would halt it."""
    world, position = holding(100_000)
    symbol, price = position.instrument.symbol, D("0.5")
    signal = world.exit_signal(position, price=D("0.05"), confirmed_price=price, exit_reason="max_holding", trade_id="")
    decision = world.decide(signal)
    assert decision is not None
    assert (decision.marks["prices"][symbol], decision.verdict) == ("0.5", "approved")
    assert D(decision.equity) == D(150_000)
    checks = {check["code"]: check for check in decision.checks}
    assert checks["BAD_TICK"]["value"] == "0"


def test_exits_go_out_again_and_again_but_never_two_of_one_position() -> None:
    world, first = holding(1_000)
    others = [
        PositionFactory.create(account=world.account, instrument=first.instrument, quantity=D(1_000)) for _ in range(5)
    ]
    RiskState.objects.update(exposure=D(3_000))
    for position in (first, *others):
        world.approved(world.exit_signal(position, ts_event=TRIGGER_MS))
    decision = world.decide(world.exit_signal(first, ts_event=TRIGGER_MS, trigger_key="x:again"))
    assert decision is not None
    assert decision.reasons == ["DUPLICATE"]
    assert not BreakerTrip.objects.exists()


# --- the trading day --------------------------------------------------------------------------------------------------


def at(text: str, zone: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "last", "first"),
    [
        ("UTC", "2026-03-28T23:59:59.999", "2026-03-29T00:00:00"),
        ("Europe/Berlin", "2026-03-28T23:59:59.999", "2026-03-29T00:00:00"),
        ("Europe/Berlin", "2026-03-29T23:59:59.999", "2026-03-30T00:00:00"),
        ("Europe/Berlin", "2026-10-25T23:59:59.999", "2026-10-26T00:00:00"),
        ("Asia/Kolkata", "2026-10-25T23:59:59.999", "2026-10-26T00:00:00"),
    ],
)
def test_orders_and_equity_are_counted_by_the_day_of_the_zone_and_live_in_the_database(
    zone: str, last: str, first: str
) -> None:
    """Nothing is kept in a process, so one that starts a second before midnight knows what the one before it did."""
    world = open_world(["XRPUSDT", "ADAUSDT", "SOLUSDT"])
    limits(world, trading_day_zone=zone, orders_per_day_max=1, orders_per_minute_max=1, orders_per_second_max=1)
    evening, morning = at(last, zone), at(first, zone)
    world.approved(world.entry_signal("XRPUSDT", ts_event=evening - 7_200_000))
    began = world.state
    assert decided(world, "ADAUSDT", ts_event=evening).reasons == ["THROTTLE"]
    Account.objects.filter(pk=world.account.pk).update(cash=D(99_000))
    assert decided(world, "ADAUSDT", ts_event=morning).verdict == "approved"
    state = world.state
    assert state.day is not None
    assert began.day is not None
    assert (state.day - began.day).days == 1
    assert (began.day_start_equity, state.day_start_equity) == (D(100_000), D(100_000)), "what fell overnight counts"
    assert state.last_equity == D(99_000)


def test_the_hour_that_berlin_has_twice_belongs_to_one_day() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    limits(world, trading_day_zone="Europe/Berlin", orders_per_day_max=1, orders_per_minute_max=1,
           orders_per_second_max=1)  # fmt: skip
    world.approved(world.entry_signal("XRPUSDT", ts_event=at("2026-10-25T00:30", "UTC")))
    assert decided(world, "ADAUSDT", ts_event=at("2026-10-25T22:59:59", "UTC")).reasons == ["THROTTLE"]
    assert decided(world, "ADAUSDT", ts_event=at("2026-10-25T23:00", "UTC")).verdict == "approved"


# --- size -------------------------------------------------------------------------------------------------------------


def test_an_order_above_the_operators_cap_is_denied_and_the_cap_is_stored_with_it() -> None:
    world = open_world()
    decision = world.decide(world.entry_signal(), order_cap=D(500))
    assert decision is not None
    assert decision.reasons == ["FAT_FINGER"]
    assert decision.inputs["order_cap"] == "500"
    check = next(row for row in decision.checks if row["code"] == "FAT_FINGER")
    assert (check["value"], check["limit"], check["margin"]) == ("2040", "500", "-1540")


def test_a_size_by_volatility_comes_from_the_bars_before_the_signal() -> None:
    world = open_world()
    limits(world, sizing="volatility")
    unknown = decided(world)
    assert unknown.reasons == ["MIN_NOTIONAL"]
    assert "XRPUSDT has no size: its average true range over 14 minutes is not known yet" in unknown.sentence
    for minute in range(1, 17):
        high, low = ("0.51", "0.49") if minute <= 15 else ("9", "0.1")
        BarFactory.create(
            epoch=world.epoch, instrument=world.instruments["XRPUSDT"], minute=START_MINUTE + minute, high=D(high),
            low=D(low), close=D("0.5"),
        )  # fmt: skip
    decision = decided(world, ts_event=(START_MINUTE + 16) * 60_000 + 5_000)
    assert decision.inputs["volatility"] == "0.02"
    assert decision.intents.get().quantity == D(2_500), "0.001 x 100 000 / (2 x 0.02)"


def test_every_reason_that_trips_has_its_cause() -> None:
    assert set(CAUSES) == {
        Reason.LEASE, Reason.VERSION, Reason.HEARTBEAT, Reason.RECON, Reason.LOSS_LIMIT, Reason.DRAWDOWN, Reason.REPEAT,
    }  # fmt: skip
