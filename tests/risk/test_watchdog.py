"""What trips and clears with time and prices: losses, exposure, errors, frequency, the feed and the order path."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.alerts.models import Alert
from apps.bus.feed import FeedAge
from apps.engine.risk.values import SOUND_PATH, EquityRecord, OrderPath
from apps.execution.services import submit_order, sync_order
from apps.execution.venues.base import VenueStatus
from apps.market.models import Bar, ShardCursor
from apps.portfolio.models import Account, Position
from apps.risk.models import (
    BreakerTrip,
    OrderIntent,
    RiskLimits,
    RiskState,
    TripCause,
)
from apps.risk.selectors import current_limits, limits_of
from apps.risk.services.findings import Outcomes, Worth, judge_worth
from apps.risk.services.watchdog import BEGINNING_MS, Watchdog
from tests.execution.venues import ScriptedVenue
from tests.factories import START_MINUTE, LedgerEntryFactory, PositionFactory
from tests.risk.tripping import ACTIVE, REDUCING, ask, trip
from tests.worlds import World, fresh, open_world

D = Decimal
FRESH = FeedAge(100)
NOW_MS = 1_800_000_000_000
pytestmark = pytest.mark.django_db


# --- the watchdog -----------------------------------------------------------------------------------------------------


def look(dog: Watchdog, world: World, *, at_ms: int = NOW_MS, **given: Any) -> None:
    account = Account.objects.select_related("session__epoch").get(pk=world.account.pk)
    seen: dict[str, Any] = {"feed": FRESH, "path": SOUND_PATH, "outcomes": lambda *_: Outcomes(0, 0), **given}
    dog.watch([account], now_ms=at_ms, **{"compared": lambda *_: None, **seen})


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
        (9, 9, False),
        (10, 1, False),
        (10, 2, True),
        (100, 10, False),
        (100, 11, True),
    ],
)
def test_more_than_a_tenth_of_failed_orders_trips(sent: int, failed: int, trips: bool) -> None:
    world, dog = open_world(), Watchdog()
    look(dog, world, outcomes=lambda *_: Outcomes(sent, failed))
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
    silent = FeedAge(None, "feed-1 is CLOSED")
    look(dog, world, feed=silent, at_ms=NOW_MS + 1_000)
    assert open_causes() == set()
    look(dog, world, feed=silent, at_ms=NOW_MS + 11_000)
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
