"""Automatic trips: what trips, on which evidence, how it gets stricter, and the way back of each cause."""

from __future__ import annotations

import io
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.alerts.models import Alert
from apps.bus.feed import FeedAge
from apps.engine.risk.values import SOUND_PATH, EquityRecord, OrderPath
from apps.execution.services import submit_order, sync_order
from apps.execution.venues.base import VenueStatus
from apps.market.models import Bar, ShardCursor
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Account, Position
from apps.risk.models import (
    BreakerTrip,
    OrderIntent,
    RiskLimits,
    RiskState,
    RiskStateChange,
    Scope,
    StateRefusal,
    TradingState,
    TripCause,
)
from apps.risk.selectors import current_limits, limits_of
from apps.risk.services import set_trading_state
from apps.risk.services.flattening import flatten
from apps.risk.services.states import StateRefused
from apps.risk.services.trips import cause_gone, trip_account
from apps.risk.services.watchdog import (
    BEGINNING_MS,
    ERROR_RATE_ORDERS_MIN,
    STALE_LASTS_MS,
    Outcomes,
    Watchdog,
    Worth,
    judge_worth,
)
from apps.risk.services.ways_back import WAYS_BACK
from apps.signals.models import Signal
from tests.execution.venues import ScriptedVenue
from tests.factories import START_MINUTE, LedgerEntryFactory, PositionFactory, SessionStrategyFactory
from tests.worlds import World, fresh, open_world

D = Decimal
ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED
FRESH = FeedAge(100)
NOW_MS = 1_800_000_000_000
pytestmark = pytest.mark.django_db


def trip(world: World, cause: TripCause = TripCause.ERROR_RATE, **fields: Any) -> BreakerTrip | None:
    given: dict[str, Any] = {"evidence": {"failed": "3"}, "reason": "three of ten failed"}
    return trip_account(account_id=world.account.pk, cause=cause, **{**given, **fields})


def gone(world: World, cause: TripCause, **fields: Any) -> list[BreakerTrip]:
    return cause_gone(account_id=world.account.pk, cause=cause, words="seen to be gone", **fields)


def ask(world: World, state: TradingState, scope: Scope = Scope.ACCOUNT, subject: str = "") -> Any:
    return set_trading_state(
        account_id=world.account.pk, to_state=state, set_by="mara", reason="looked at", scope=scope, subject=subject
    )


# --- a trip -----------------------------------------------------------------------------------------------------------


def test_a_trip_is_a_row_with_its_evidence_an_alert_and_a_change_of_state_in_one_number() -> None:
    world = open_world()
    row = trip(world)
    assert row is not None
    change = RiskStateChange.objects.get()
    assert (row.cause, row.from_state, row.to_state, row.evidence) == (
        "ERROR_RATE",
        "ACTIVE",
        "REDUCING",
        {"failed": "3"},
    )
    assert (change.trip, change.set_by, change.sequence) == (row, "system", row.sequence)
    assert (world.state.trading_state, world.state.asked_state) == (REDUCING, ACTIVE)
    alert = Alert.objects.get(kind=Alert.Kind.BREAKER_TRIPPED)
    assert (alert.severity, "three of ten failed" in alert.words) == ("critical", True)


def test_the_same_cause_trips_once_and_a_stricter_state_trips_again() -> None:
    world = open_world()
    assert trip(world) is not None
    assert trip(world) is None
    assert trip(world, to_state=HALTED) is not None
    assert trip(world) is None
    assert world.state.trading_state == HALTED
    assert BreakerTrip.objects.count() == 2


def test_a_trip_under_a_stricter_state_changes_nothing_and_is_met_by_whoever_resumes() -> None:
    world = open_world()
    ask(world, HALTED)
    row = trip(world)
    assert row is not None
    assert (row.from_state, world.state.trading_state) == (HALTED, HALTED)
    with pytest.raises(StateRefused, match="ERROR_RATE persists: three of ten failed"):
        ask(world, ACTIVE)
    assert world.state.trading_state == HALTED


def test_a_trip_of_a_symbol_touches_that_symbol_only() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    trip(world, TripCause.REPEAT, scope=Scope.SYMBOL, subject="XRPUSDT")
    denied = world.decide(world.entry_signal("XRPUSDT"))
    assert denied is not None
    assert denied.reasons == ["REDUCING"]
    world.approved(world.entry_signal("ADAUSDT"))
    ask(world, ACTIVE, Scope.SYMBOL, "XRPUSDT")
    world.approved(world.entry_signal("XRPUSDT"))


@pytest.mark.parametrize("cause", TripCause)
def test_only_what_says_something_of_the_strategy_takes_a_tier(cause: TripCause) -> None:
    world = open_world()
    trip(world, cause)
    operational = {"STALE_FEED", "EXPOSURE", "HEARTBEAT", "VERSION", "LEASE", "REPEAT"}
    assert OutboxEvent.objects.filter(event_type="BreakerTripped").exists() == (cause not in operational)


# --- the ways back ----------------------------------------------------------------------------------------------------

BY_ITSELF = {"STALE_FEED", "RECON", "EXPOSURE", "HEARTBEAT", "VERSION", "LEASE", "DAILY_LOSS"}
AT_ONCE = {"REPEAT", "NEGATIVE_CASH", "EXPOSURE_DIFFERENCE"}  # looked at when somebody asks, and sound in this world


@pytest.mark.parametrize("cause", TripCause)
def test_every_cause_has_its_way_back_and_persists_until_it_is_gone(cause: TripCause) -> None:
    world = open_world()
    trip(world, cause)
    assert WAYS_BACK[cause].words
    if cause in AT_ONCE:
        ask(world, ACTIVE)
    else:
        with pytest.raises(StateRefused, match=str(cause)):
            ask(world, ACTIVE)
        assert world.state.trading_state == REDUCING
        gone(world, cause)
        assert (world.state.trading_state == ACTIVE) == (cause in BY_ITSELF)
        ask(world, ACTIVE)
    row = BreakerTrip.objects.get()
    assert world.state.trading_state == ACTIVE
    assert row.cleared_at is not None
    assert row.cleared_by == ("system" if cause in BY_ITSELF else "mara")
    assert Alert.objects.get(kind=Alert.Kind.BREAKER_TRIPPED).acknowledged_by == row.cleared_by


def test_a_trip_that_clears_itself_leaves_what_a_person_asked_for() -> None:
    world = open_world()
    ask(world, REDUCING)
    trip(world, TripCause.STALE_FEED, to_state=HALTED)
    assert world.state.trading_state == HALTED
    gone(world, TripCause.STALE_FEED)
    assert world.state.trading_state == REDUCING


def test_of_two_causes_the_one_that_is_left_holds() -> None:
    world = open_world()
    trip(world, TripCause.STALE_FEED)
    trip(world, TripCause.LEASE, to_state=HALTED)
    gone(world, TripCause.LEASE)
    assert world.state.trading_state == REDUCING
    gone(world, TripCause.STALE_FEED)
    assert world.state.trading_state == ACTIVE
    assert not Alert.objects.filter(kind=Alert.Kind.BREAKER_TRIPPED, acknowledged_at=None).exists()


def test_what_a_rule_halted_for_the_days_loss_waits_for_a_person() -> None:
    world = open_world()
    trip(world, TripCause.DAILY_LOSS, to_state=HALTED)
    gone(world, TripCause.DAILY_LOSS)
    assert world.state.trading_state == HALTED
    ask(world, ACTIVE)
    assert world.state.trading_state == ACTIVE


def test_exits_may_be_let_through_while_the_days_loss_persists_and_it_trips_no_further() -> None:
    world = open_world()
    RiskState.objects.update(day=date(2023, 11, 14))
    trip(world, TripCause.DAILY_LOSS, to_state=HALTED)
    ask(world, REDUCING)
    assert world.state.trading_state == REDUCING
    assert trip(world, TripCause.DAILY_LOSS, to_state=HALTED) is None
    assert world.state.trading_state == REDUCING
    with pytest.raises(StateRefused, match="DAILY_LOSS persists"):
        ask(world, ACTIVE)
    RiskState.objects.update(day=date(2023, 11, 15))
    ask(world, ACTIVE)


def test_a_halt_for_a_doubt_about_our_own_figures_lets_no_exit_through_while_it_persists() -> None:
    world = open_world()
    trip(world, TripCause.RECON, to_state=HALTED)
    with pytest.raises(StateRefused, match="RECON persists"):
        ask(world, REDUCING)
    assert world.state.trading_state == HALTED


def test_cash_below_zero_is_looked_at_again_when_somebody_resumes() -> None:
    world = open_world()
    trip(world, TripCause.NEGATIVE_CASH)
    Account.objects.filter(pk=world.account.pk).update(cash=D(-1))
    with pytest.raises(StateRefused, match="cash is still -1"):
        ask(world, ACTIVE)
    Account.objects.filter(pk=world.account.pk).update(cash=D(1))
    ask(world, ACTIVE)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("trip"), st.sampled_from(sorted(TripCause)), st.sampled_from([REDUCING, HALTED])),
            st.tuples(st.just("gone"), st.sampled_from(sorted(TripCause)), st.just(ACTIVE)),
            st.tuples(st.just("ask"), st.just(TripCause.RECON), st.sampled_from(sorted(TradingState))),
        ),
        max_size=12,
    )
)
def test_a_state_is_always_the_strictest_of_what_was_asked_for_and_what_open_trips_hold(steps: list[Any]) -> None:
    world = open_world()
    order = [ACTIVE, REDUCING, HALTED]
    for what, cause, state in steps:
        if what == "trip":
            trip(world, cause, to_state=state)
        elif what == "gone":
            gone(world, cause)
        else:
            with suppress(StateRefused):
                ask(world, state)
        now = world.state
        held = BreakerTrip.objects.filter(account=world.account, cleared_at=None).values_list("to_state", flat=True)
        floors = [order.index(TradingState(name)) for name in [now.asked_state, *held]]
        assert now.trading_state == order[max(floors)]
    sequences = list(RiskStateChange.objects.filter(account=world.account).order_by("id").values_list("sequence"))
    assert sequences == sorted(set(sequences))


# --- the watchdog -----------------------------------------------------------------------------------------------------


def look(dog: Watchdog, world: World, *, at_ms: int = NOW_MS, **given: Any) -> None:
    account = Account.objects.select_related("session__epoch").get(pk=world.account.pk)
    seen: dict[str, Any] = {"feed": FRESH, "path": SOUND_PATH, "outcomes": lambda _: Outcomes(0, 0), **given}
    dog.watch([account], now_ms=at_ms, **seen)


def open_causes() -> set[tuple[str, str]]:
    return set(BreakerTrip.objects.filter(cleared_at=None).values_list("cause", "to_state"))


def holding(world: World, quantity: str, price: str) -> Position:
    """A position bought for what cash is missing, and a closed minute that marks it at `price`."""
    position = PositionFactory.create(
        account=world.account, instrument=world.instruments["XRPUSDT"], quantity=D(quantity)
    )
    mark(world, price)
    return position


def mark(world: World, price: str, minute: int = START_MINUTE) -> None:
    Bar.objects.update(close=D(price), minute=minute)
    ShardCursor.objects.filter(epoch=world.epoch).update(closed_minute=minute)


@pytest.mark.parametrize(
    ("equity", "day_start", "peak", "expected"),
    [
        ("100000", "100000", "100000", set()),
        ("95000.01", "100000", "100000", set()),
        ("95000", "100000", "100000", {("DAILY_LOSS", "REDUCING"), ("DRAWDOWN", "REDUCING")}),
        ("93000.01", "100000", "100000", {("DAILY_LOSS", "REDUCING"), ("DRAWDOWN", "REDUCING")}),
        ("93000", "100000", "100000", {("DAILY_LOSS", "HALTED"), ("DRAWDOWN", "HALTED")}),
        ("95000", "96000", "100000", {("DRAWDOWN", "REDUCING")}),
        ("200000", "100000", "100000", set()),
    ],
)
def test_losses_reach_their_limits_exactly(equity: str, day_start: str, peak: str, expected: set[Any]) -> None:
    world = open_world()
    found = judge_worth(
        Worth(D(equity), D(0)),
        EquityRecord(date(2023, 11, 14), D(day_start), D(peak), D(day_start)),
        limits_of(current_limits(world.account.pk)),
    )
    assert {(cause, finding.to_state) for cause, finding in found.items() if finding is not None} == expected


@pytest.mark.parametrize(
    ("exposure", "trips"), [("50000", False), ("50000.01", True), ("49999.99", False), ("0", False)]
)
def test_exposure_trips_above_its_limit_and_not_at_it(exposure: str, trips: bool) -> None:
    world = open_world()
    found = judge_worth(Worth(D(100_000), D(exposure)), EquityRecord(), limits_of(current_limits(world.account.pk)))
    assert (found[TripCause.EXPOSURE] is not None) == trips


def test_a_price_that_moves_exposure_past_its_limit_warns_then_reduces_and_frees_itself() -> None:
    world, dog = open_world(), Watchdog()
    Account.objects.update(cash=D(60_000))
    holding(world, "80000", "0.5")  # 40 000 of 100 000
    look(dog, world)
    assert not Alert.objects.exists()
    mark(world, "0.7")  # 56 000 of 116 000: 97 %
    look(dog, world)
    look(dog, world)
    assert Alert.objects.get().kind == Alert.Kind.EXPOSURE_NEAR_LIMIT
    assert Alert.objects.get().count == 1
    mark(world, "0.8")  # 64 000 of 124 000
    look(dog, world)
    assert open_causes() == {("EXPOSURE", "REDUCING")}
    assert world.state.trading_state == REDUCING
    mark(world, "0.5")
    look(dog, world)
    assert open_causes() == set()
    assert world.state.trading_state == ACTIVE
    assert not Alert.objects.filter(acknowledged_at=None).exists()


def test_the_first_position_that_is_closed_frees_what_exposure_alone_had_reduced() -> None:
    world = open_world()
    position = PositionFactory.create(
        account=world.account, instrument=world.instruments["XRPUSDT"], strategy_version_id=world.version.pk
    )
    LedgerEntryFactory.create(account=world.account, currency="XRP", amount=position.quantity, reference="trade:t:1")
    RiskState.objects.update(exposure=50, marks={"minute": 1, "prices": {"XRPUSDT": "0.5"}})
    trip(world, TripCause.EXPOSURE)
    venue = ScriptedVenue()
    intent = world.approved(world.exit_signal(position))
    order = submit_order(intent_id=intent.pk, now_ms=int(intent.created_at.timestamp() * 1000), feed=fresh, venue=venue)
    assert order is not None
    assert world.state.trading_state == REDUCING
    venue.status = VenueStatus.FILLED
    venue.fill("t-1", "SELL", f"{position.quantity:f}")
    sync_order(order_id=order.pk, venue=venue)
    assert (world.state.trading_state, open_causes()) == (ACTIVE, set())


def test_a_days_loss_trips_between_decisions_and_is_over_with_the_day() -> None:
    world, dog = open_world(), Watchdog()
    Account.objects.update(cash=D(60_000))
    holding(world, "80000", "0.5")
    day = datetime.fromtimestamp((START_MINUTE + 1) * 60, UTC).date()
    RiskState.objects.update(day=day, day_start_equity=D(100_000), peak_equity=D(100_000), last_equity=D(95_000))
    RiskLimits.objects.update(drawdown_reducing=D("0.5"), drawdown_halted=D("0.6"))
    mark(world, "0.43")  # 94 400
    look(dog, world)
    row = BreakerTrip.objects.get()
    assert (row.cause, row.to_state, row.evidence["day"], row.evidence["loss"]) == (
        "DAILY_LOSS", "REDUCING", day.isoformat(), "5600",
    )  # fmt: skip
    mark(world, "0.46")  # 96 800: less than five per cent, but on the same day
    look(dog, world)
    assert world.state.trading_state == REDUCING
    mark(world, "0.43", minute=START_MINUTE + 1_440)
    look(dog, world)
    assert open_causes() == set()
    assert world.state.trading_state == ACTIVE


@pytest.mark.parametrize(
    ("sent", "failed", "trips"),
    [
        (0, 0, False),
        (ERROR_RATE_ORDERS_MIN - 1, 9, False),
        (10, 1, False),
        (10, 2, True),
        (100, 10, False),
        (100, 11, True),
    ],
)
def test_more_than_a_tenth_of_failed_orders_trips(sent: int, failed: int, trips: bool) -> None:
    world, dog = open_world(), Watchdog()
    look(dog, world, outcomes=lambda _: Outcomes(sent, failed))
    assert (("ERROR_RATE", "REDUCING") in open_causes()) == trips
    look(dog, world)
    if trips:
        assert world.state.trading_state == REDUCING  # it is gone, and a person resumes
        ask(world, ACTIVE)


def test_asking_for_more_openings_than_a_minute_may_have_trips() -> None:
    world, dog = open_world(), Watchdog()
    RiskLimits.objects.update(orders_per_minute_max=2, orders_per_second_max=100, open_orders_max=100)
    for number in range(3):
        world.decide(world.entry_signal(ts_event=1_700_000_400_000 + number * 1_000, price=D("0.5")))
        if number < 2:
            look(dog, world)
            assert ("ORDER_FREQUENCY", "REDUCING") not in open_causes()
    if OrderIntent.objects.count() < 2:
        RiskLimits.objects.update(orders_per_minute_max=0)
    look(dog, world)
    assert ("ORDER_FREQUENCY", "REDUCING") in open_causes()


def test_a_feed_that_stays_silent_reduces_and_comes_back_by_itself() -> None:
    world, dog = open_world(), Watchdog()
    look(dog, world)
    silent = FeedAge(None, "mexc-1 is CLOSED")
    look(dog, world, feed=silent, at_ms=NOW_MS + 1_000)
    assert open_causes() == set()
    look(dog, world, feed=silent, at_ms=NOW_MS + 1_000 + STALE_LASTS_MS)
    assert open_causes() == {("STALE_FEED", "REDUCING")}
    look(dog, world, at_ms=NOW_MS + 30_000)
    assert open_causes() == set()
    assert world.state.trading_state == ACTIVE


def test_a_feed_that_has_not_begun_trips_only_after_a_start_has_had_its_time() -> None:
    world, dog = open_world(), Watchdog()
    unknown = FeedAge(None, "the ingest has not reported")
    look(dog, world, feed=unknown)
    look(dog, world, feed=unknown, at_ms=NOW_MS + BEGINNING_MS - 1)
    assert open_causes() == set()
    look(dog, world, feed=unknown, at_ms=NOW_MS + BEGINNING_MS)
    assert open_causes() == {("STALE_FEED", "REDUCING")}


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        (OrderPath(lease_age_ms=60_000, strangers=0, heartbeat_age_ms=0, differences=0), "LEASE"),
        (OrderPath(lease_age_ms=0, strangers=1, version_words="trade", heartbeat_age_ms=0, differences=0), "VERSION"),
        (OrderPath(lease_age_ms=0, strangers=0, heartbeat_age_ms=60_000, differences=0), "HEARTBEAT"),
    ],
)
def test_an_order_path_that_is_amiss_at_two_looks_reduces_and_after_a_minute_halts(path: OrderPath, cause: str) -> None:
    world, dog = open_world(), Watchdog()
    look(dog, world)
    later = NOW_MS + BEGINNING_MS
    look(dog, world, path=path, at_ms=later)
    assert open_causes() == set()
    look(dog, world, path=path, at_ms=later + 1_000)
    assert open_causes() == {(cause, "REDUCING")}
    BreakerTrip.objects.update(created_at=datetime.now(UTC) - timedelta(seconds=61))
    look(dog, world, path=path, at_ms=later + 2_000)
    assert open_causes() == {(cause, "REDUCING"), (cause, "HALTED")}
    look(dog, world, at_ms=later + 3_000)
    assert world.state.trading_state == ACTIVE
    unknown = OrderPath(lease_age_ms=None, strangers=None, heartbeat_age_ms=None, differences=None)
    look(dog, world, path=unknown, at_ms=later + 4_000)
    assert open_causes() == set()


# --- flatten ----------------------------------------------------------------------------------------------------------


def held(world: World, symbol: str = "XRPUSDT") -> Position:
    return PositionFactory.create(
        account=world.account, instrument=world.instruments[symbol], strategy_version_id=world.version.pk
    )


def sell_all(world: World, reason: str = "enough") -> Any:
    return flatten(account_id=world.account.pk, set_by="mara", reason=reason, now_ms=NOW_MS)


def test_flatten_reduces_and_sells_every_position_once_however_often_it_is_pressed() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    positions = [held(world, symbol) for symbol in world.instruments]
    RiskState.objects.update(exposure=100, marks={"minute": 1, "prices": {"XRPUSDT": "0.5", "ADAUSDT": "0.5"}})
    first, second = sell_all(world), sell_all(world)
    assert (len(first.raised), len(second.raised), second.on_the_way) == (2, 0, 2)
    assert (world.state.trading_state, first.change.set_by) == (REDUCING, "mara")
    rows = Signal.objects.filter(exit_reason=Signal.ExitReason.FLATTEN).order_by("position")
    assert [row.position for row in rows] == positions
    assert OutboxEvent.objects.filter(event_type="SignalRaised").count() == 2
    for row in rows:
        intent = world.approved(row)
        assert (intent.reducing, intent.side, intent.position) == (True, "SELL", row.position)
    assert sell_all(world).on_the_way == 2


def test_flatten_is_refused_while_halted_because_exits_stop_too() -> None:
    world = open_world()
    held(world)
    ask(world, HALTED)
    with pytest.raises(StateRefused, match="stops exits too"):
        sell_all(world)
    assert not Signal.objects.exists()


def test_what_was_sold_in_vain_may_be_flattened_again() -> None:
    world = open_world()
    position = held(world)
    RiskState.objects.update(exposure=50, marks={"minute": 1, "prices": {"XRPUSDT": "0.5"}})
    ask(world, HALTED)
    denied = world.decide(world.exit_signal(position))
    assert denied is not None
    RiskState.objects.update(trading_state=REDUCING, asked_state=REDUCING)  # so that nothing is revived meanwhile
    assert len(sell_all(world).raised) == 1
    assert Signal.objects.latest("id").trigger_key == f"x:{position.pk}:1"


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("risk", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_refuses_to_resume_while_a_cause_persists_and_keeps_that() -> None:
    world = open_world()
    trip(world)
    with pytest.raises(CommandError, match="refused: ERROR_RATE persists") as refused:
        run("resume", "--reason", "why not", "--by", "mara")
    assert refused.value.returncode == 2
    row = StateRefusal.objects.get()
    assert (row.asked, row.set_by, row.reason) == ("ACTIVE", "mara", "why not")
    assert world.state.trading_state == REDUCING
    assert "trip ERROR_RATE, REDUCING since" in run("show")
    assert "way back: a person" in run("show")


def test_the_command_flattens() -> None:
    world = open_world()
    SessionStrategyFactory.create(session=world.session, version=world.version)
    held(world)
    words = run("flatten", "--reason", "enough")
    assert words == "ACTIVE -> REDUCING: nothing is opened any more. 1 position will be sold.\n"
    assert "0 positions will be sold; 1 already on the way." in run("flatten", "--reason", "enough")
