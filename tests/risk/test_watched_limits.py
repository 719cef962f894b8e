"""Reconciliation that stops is noticed, and what the watchdog holds is as the account's limits say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.alerts.models import Alert
from apps.bus.feed import FeedAge
from apps.engine.reconciling import Compared
from apps.engine.risk.values import SOUND_PATH
from apps.risk.models import BreakerTrip, RiskLimits, RiskState, TripCause
from apps.risk.services import change_limits
from apps.risk.services.findings import Outcomes
from apps.risk.services.path import note_reconciliation
from apps.risk.services.states import StateRefused
from apps.risk.services.watchdog import BEGINNING_MS, Watchdog
from tests.risk.test_watchdog import NOW_MS, look, open_causes
from tests.risk.tripping import ACTIVE, ask, gone, trip
from tests.worlds import World, open_world

pytestmark = pytest.mark.django_db
LATER = NOW_MS + BEGINNING_MS


def at(world: World, *, orders_ms: int | None, full_ms: int | None) -> Any:
    limits = RiskLimits.objects.get(account=world.account)
    ages = limits.reconcile_orders_age_max_ms, limits.reconcile_full_age_max_ms
    return lambda *_: Compared(orders_ms, full_ms, NOW_MS - 3_600_000, *ages)


def watching() -> tuple[World, Watchdog]:
    """A watchdog that began long enough ago."""
    world, dog = open_world(), Watchdog()
    look(dog, world)
    return world, dog


@pytest.mark.parametrize(
    ("orders_ago", "full_ago", "words"),
    [
        (30_000, 180_000, ""),
        (30_001, 0, "our books were not compared with the venue's for 30.1\u202fs (limit 30\u202fs)"),
        (0, 180_001, "all fills and balances were not compared with the venue's for 180.1\u202fs (limit 180\u202fs)"),
        (None, None, "our books were not compared with the venue's for 3\u202f660\u202fs (limit 30\u202fs)"),
    ],
)
def test_a_reconciliation_that_stops_reduces(orders_ago: int | None, full_ago: int | None, words: str) -> None:
    world, dog = watching()
    moments = [None if ago is None else LATER - ago for ago in (orders_ago, full_ago)]
    look(dog, world, at_ms=LATER, compared=at(world, orders_ms=moments[0], full_ms=moments[1]))
    assert [row.reason for row in BreakerTrip.objects.all()] == ([words] if words else [])
    if words:
        row = BreakerTrip.objects.get()
        assert (row.cause, row.to_state) == ("RECON", "REDUCING")
        assert int(row.evidence["silent_ms"]) > int(row.evidence["limit_ms"])
        assert Alert.objects.get().kind == Alert.Kind.BREAKER_TRIPPED


def test_nothing_is_late_while_everybody_is_still_starting_or_where_there_is_no_venue() -> None:
    world, dog = open_world(), Watchdog()
    never = at(world, orders_ms=None, full_ms=None)
    look(dog, world, compared=never)
    look(dog, world, compared=never, at_ms=LATER - 1)
    look(dog, world, compared=lambda *_: None, at_ms=LATER)
    assert open_causes() == set()
    look(dog, world, compared=never, at_ms=LATER)
    assert open_causes() == {("RECON", "REDUCING")}


@settings(deadline=None)
@given(began=st.integers(0, 10**6), orders=st.none() | st.integers(0, 10**6), now=st.integers(0, 10**6))
def test_nothing_is_late_before_it_was_due(began: int, orders: int | None, now: int) -> None:
    late = Compared(orders, orders, began, 30_000, 180_000).late(now)
    assert (late is not None) == (now - max(orders or 0, began) > 30_000)


def test_it_halts_after_a_minute_and_goes_on_by_itself_with_a_clean_run() -> None:
    world, dog = watching()
    silent = at(world, orders_ms=NOW_MS, full_ms=NOW_MS)
    look(dog, world, at_ms=LATER, compared=silent)
    BreakerTrip.objects.update(created_at=datetime.now(UTC) - timedelta(seconds=61))
    look(dog, world, at_ms=LATER + 61_000, compared=silent)
    assert open_causes() == {("RECON", "REDUCING"), ("RECON", "HALTED")}
    gone(world, TripCause.RECON)
    assert (open_causes(), world.state.trading_state) == (set(), ACTIVE)


def test_a_comparison_of_nothing_stops_the_halt_and_only_a_person_or_a_clean_run_goes_on() -> None:
    world, dog = watching()
    silent = at(world, orders_ms=NOW_MS, full_ms=NOW_MS)
    look(dog, world, at_ms=LATER, compared=silent)
    with pytest.raises(StateRefused):
        ask(world, ACTIVE)
    look(dog, world, at_ms=LATER + 1_000, compared=at(world, orders_ms=LATER + 900, full_ms=NOW_MS))
    BreakerTrip.objects.update(created_at=datetime.now(UTC) - timedelta(seconds=61))
    look(dog, world, at_ms=LATER + 61_000, compared=at(world, orders_ms=LATER + 60_900, full_ms=NOW_MS))
    assert open_causes() == {("RECON", "REDUCING")}
    look(dog, world, at_ms=LATER + 200_000, compared=silent)
    assert not BreakerTrip.objects.exclude(gone_at=None).exists()
    look(dog, world, at_ms=LATER + 201_000, compared=at(world, orders_ms=LATER + 200_900, full_ms=LATER + 200_900))
    ask(world, ACTIVE)
    assert open_causes() == set()


@pytest.mark.parametrize("differences", [1, None])
def test_being_compared_again_forgives_no_difference(differences: int | None) -> None:
    world, dog = watching()
    fresh = at(world, orders_ms=LATER, full_ms=LATER)
    trip(world, TripCause.RECON, evidence={"differences": "7"})
    look(dog, world, at_ms=LATER, compared=fresh)
    assert BreakerTrip.objects.get().gone_at is None
    BreakerTrip.objects.update(evidence={"silent_ms": "40000"})
    note_reconciliation(account_id=world.account.pk, differences=differences, words="BALANCE USDT")
    look(dog, world, at_ms=LATER, compared=fresh)
    assert BreakerTrip.objects.get().gone_at is None
    note_reconciliation(account_id=world.account.pk, differences=0, words="")
    look(dog, world, at_ms=LATER, compared=fresh)
    assert BreakerTrip.objects.get().gone_at is not None


def test_the_errors_that_trip_are_as_the_limits_say() -> None:
    world, dog = watching()
    seen: list[int] = []

    def outcomes(_account: Any, limits: RiskLimits) -> Outcomes:
        seen.append(limits.error_rate_window_ms)
        return Outcomes(6, 2)

    look(dog, world, outcomes=outcomes)
    assert open_causes() == set()
    changes: dict[str, Any] = {
        "error_rate_orders_min": 6,
        "error_rate_max": Decimal("0.3"),
        "error_rate_window_ms": 60_000,
    }
    change_limits(account_id=world.account.pk, changes=changes, set_by="mara", reason="few orders a day")
    look(dog, world, outcomes=outcomes)
    row = BreakerTrip.objects.get()
    assert (row.cause, row.evidence["limit"]) == ("ERROR_RATE", "0.3")
    assert row.reason == "2 of 6 orders were rejected or lost within 60\u202fs"
    assert seen == [600_000, 60_000]


@pytest.mark.parametrize(("age_ms", "trips"), [(20_000, False), (20_001, True)])
def test_the_silence_of_the_feed_that_trips_is_as_the_limits_say(age_ms: int, trips: bool) -> None:
    world, dog = watching()
    change_limits(
        account_id=world.account.pk, changes={"feed_silence_max_ms": 20_000}, set_by="mara", reason="a slow line"
    )
    look(dog, world, feed=FeedAge(age_ms), at_ms=LATER)
    assert open_causes() == ({("STALE_FEED", "REDUCING")} if trips else set())


def test_the_silence_of_a_worker_that_trips_is_as_the_limits_say() -> None:
    world, dog = watching()
    path = type(SOUND_PATH)(lease_age_ms=0, strangers=0, heartbeat_age_ms=40_000, differences=0)
    change_limits(
        account_id=world.account.pk, changes={"heartbeat_age_max_ms": 60_000}, set_by="mara", reason="a slow machine"
    )
    for second in range(2):
        look(dog, world, path=path, at_ms=LATER + second * 1_000)
    assert open_causes() == set()
    assert RiskState.objects.get(account=world.account).trading_state == ACTIVE
