"""Moves of a tier on real rows: by results, by a breaker, by a person, each with its evidence and its schedule."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.engine.tiers import HOUR_MS, THRESHOLDS, Tier, interval
from apps.execution.services import submit_order, sync_order
from apps.execution.venues.base import VenueStatus
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Position, TradingSession
from apps.risk.models import RiskStateChange, TierChange, TradingState
from apps.risk.selectors import current_limits, standing_of, tier_in_force
from apps.risk.services import TierRefused, change_limits, change_state, review_tier, set_tier, set_trading_state
from apps.risk.tasks import review_tier as review_task
from apps.signals.models import ParameterSchedule, SessionStrategy
from apps.signals.services.schedules import version_in_force
from tests import factories
from tests.execution.venues import ScriptedVenue
from tests.factories import START_MS
from tests.worlds import World, fresh, open_world

D = Decimal
pytestmark = pytest.mark.django_db
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def world() -> World:
    made = open_world()
    factories.SessionStrategyFactory.create(session=made.session, version=made.version)
    return made


def binding(world: World) -> SessionStrategy:
    return SessionStrategy.objects.select_related("session", "version__strategy").get(session=world.session)


def close(world: World, wins: int, losses: int, *, at_ms: int = START_MS, version_id: int | None = None) -> None:
    """Closed round trips, the losses first; each closes a millisecond after the one before."""
    instrument = world.instruments["XRPUSDT"]
    first = Position.objects.count()
    Position.objects.bulk_create(
        factories.PositionFactory.build(
            account=world.account,
            instrument=instrument,
            opened_by=f"r{first + number}",
            strategy_version_id=version_id or version_in_force(binding(world)).pk,
            status=Position.Status.CLOSED,
            quantity=D(0),
            closed_ts=at_ms + number,
            realized=D("0.06") if number >= losses else D("0.05"),
            fees=D("0.05"),  # what only covers its fees has not won
        )
        for number in range(wins + losses)
    )


def review(world: World, change_id: int = 0) -> TierChange | None:
    found = review_tier(account_id=world.account.pk, change_id=change_id)
    return found[0] if found else None


# --- by results -------------------------------------------------------------------------------------------------------


def test_a_promotion_is_stored_with_its_evidence_and_scheduled(world: World) -> None:
    close(world, 208, 92)
    row = review(world)
    assert row is not None
    assert (row.from_tier, row.to_tier, row.cause) == ("NORMAL", "HIGH_TRUST", "results")
    assert (row.wins, row.round_trips, (row.lower, row.upper)) == (208, 300, interval(208, 300))
    assert (row.set_by, row.ts_event, row.closed_before) == ("system", START_MS + 299, 300)
    assert "208 of 300 round trips won: 60.0% to 77.3%" in row.reason
    scheduled = ParameterSchedule.objects.get()
    assert (scheduled.version, scheduled.from_minute) == (row.version, row.from_minute)
    assert row.version.parameters == {**world.version.parameters, **THRESHOLDS["HIGH_TRUST"]}
    assert row.version.changes.keys() == THRESHOLDS["HIGH_TRUST"].keys()
    assert tier_in_force(world.session) == "HIGH_TRUST"
    assert TradingSession.objects.get().tier == "NORMAL"  # what the session began with stays on record


@pytest.mark.parametrize(("wins", "losses"), [(207, 93), (299, 0), (150, 150)])
def test_results_that_prove_nothing_move_nothing(world: World, wins: int, losses: int) -> None:
    close(world, wins, losses)
    assert review(world) is None
    assert not ParameterSchedule.objects.exists()


def test_losing_more_than_half_takes_a_tier(world: World) -> None:
    close(world, 149, 151)
    row = review(world)
    assert row is not None
    assert (row.to_tier, row.wins) == ("LOW_TRUST", 149)
    assert row.version.parameters["threshold_pct"] == 3.0


def test_the_same_results_move_a_tier_once_however_often_they_are_looked_at(world: World) -> None:
    close(world, 300, 0)
    assert review(world) is not None
    assert [review(world) for _ in range(3)] == [None, None, None]
    close(world, 299, 0, at_ms=START_MS + 10 * DAY_MS)
    assert review(world) is None
    TierChange.objects.update(from_tier="LOW_TRUST", to_tier="NORMAL")  # as if there were one more above
    assert review(world) is None  # 299 since the move
    close(world, 1, 0, at_ms=START_MS + 11 * DAY_MS)
    assert review(world) is not None


def test_the_dwell_time_is_a_limit_of_the_account_and_counts_event_time(world: World) -> None:
    close(world, 0, 300)
    assert review(world) is not None
    TierChange.objects.update(from_tier="HIGH_TRUST", to_tier="NORMAL")
    close(world, 0, 1, at_ms=START_MS + 299 + 2 * HOUR_MS - 1)
    change_limits(account_id=world.account.pk, changes={"tier_dwell_minutes": 120}, set_by="oli", reason="faster")
    assert review(world) is None
    close(world, 0, 1, at_ms=START_MS + 299 + 2 * HOUR_MS)
    assert review(world) is not None


def test_results_of_other_strategies_and_open_positions_count_nothing(world: World) -> None:
    close(world, 300, 0, version_id=world.version.pk + 1_000)
    factories.PositionFactory.create(account=world.account, strategy_version_id=world.version.pk, realized=D(9))
    assert review(world) is None


def test_switched_off_by_a_new_version_of_the_limits_only_a_person_moves_tiers(world: World) -> None:
    change_limits(account_id=world.account.pk, changes={"adaptive_tiers": 0}, set_by="oli", reason="by hand now")
    close(world, 300, 0)
    trip = RiskStateChange.objects.create(
        account=world.account, sequence=1, from_state="ACTIVE", to_state="REDUCING", set_by="system", reason="x"
    )
    assert review(world) is None
    assert review(world, trip.pk) is None
    assert current_limits(world.account.pk).set_by == "oli"
    assert set_tier(binding_id=binding(world).pk, to_tier=Tier.HIGH_TRUST, set_by="oli", reason="x") is not None


def test_a_strategy_without_thresholds_has_no_tiers(world: World) -> None:
    bare = factories.StrategyVersionFactory.create(parameters={"lookback_minutes": 15})
    SessionStrategy.objects.update(version=bare)
    close(world, 0, 300)
    assert review(world) is None
    with pytest.raises(TierRefused, match="has no threshold_pct"):
        set_tier(binding_id=binding(world).pk, to_tier=Tier.LOW_TRUST, set_by="oli", reason="x")


def test_an_ended_session_moves_no_more(world: World) -> None:
    close(world, 0, 300)
    TradingSession.objects.update(ended_at="2026-01-01T00:00:00Z")
    assert review(world) is None


# --- by a breaker -----------------------------------------------------------------------------------------------------


def trip(world: World) -> RiskStateChange:
    state = world.state
    change = change_state(
        account=world.account, state=state, to_state=TradingState.REDUCING, set_by="system", reason="exposure differs"
    )
    assert change is not None
    return change


def test_a_breaker_rings_and_takes_one_tier_at_once_and_once(world: World) -> None:
    close(world, 300, 0)
    assert review(world) is not None  # HIGH_TRUST, a moment ago
    change = trip(world)
    event = OutboxEvent.objects.get(event_type="BreakerTripped")
    assert event.payload == {"account_id": world.account.pk, "change_id": change.pk}
    review_task(**event.payload)
    row = TierChange.objects.latest("id")
    assert (row.from_tier, row.to_tier, row.cause, row.breaker) == ("HIGH_TRUST", "NORMAL", "breaker", change)
    assert (row.wins, row.round_trips, row.reason) == (300, 300, "breaker: exposure differs")
    assert row.version == world.version  # the thresholds of NORMAL are those that the session began with
    review_task(**event.payload)
    assert TierChange.objects.count() == 2


def test_after_a_breaker_the_dwell_time_begins_anew(world: World) -> None:
    review(world, trip(world).pk)
    assert standing_of(binding(world)).tier is Tier.LOW_TRUST
    moved_ms = TierChange.objects.get().ts_event
    close(world, 300, 0, at_ms=moved_ms + DAY_MS - 300)
    assert review(world) is None
    close(world, 1, 0, at_ms=moved_ms + DAY_MS)
    assert review(world) is not None


def test_at_the_bottom_a_breaker_takes_nothing(world: World) -> None:
    TradingSession.objects.update(tier="LOW_TRUST")
    assert review(world, trip(world).pk) is None


def test_a_person_who_reduces_is_no_breaker(world: World) -> None:
    set_trading_state(account_id=world.account.pk, to_state=TradingState.REDUCING, set_by="oli", reason="lunch")
    assert not OutboxEvent.objects.filter(event_type="BreakerTripped").exists()


# --- closing rings ----------------------------------------------------------------------------------------------------


def test_the_last_sale_of_a_position_rings_for_a_review_and_the_first_does_not(world: World) -> None:
    venue = ScriptedVenue()
    bought = world.approved(world.entry_signal())
    submit_order(intent_id=bought.pk, now_ms=int(bought.created_at.timestamp() * 1000), feed=fresh, venue=venue)
    venue.fill("t1", "BUY", "4000", "0.5")
    venue.status = VenueStatus.FILLED
    sync_order(order_id=bought.order.pk, venue=venue)
    position = Position.objects.get()
    sold = world.approved(world.exit_signal(position))
    selling = ScriptedVenue()
    submit_order(intent_id=sold.pk, now_ms=int(sold.created_at.timestamp() * 1000), feed=fresh, venue=selling)
    selling.fill("t2", "SELL", "1000", "0.51")
    sync_order(order_id=sold.order.pk, venue=selling)
    closed = OutboxEvent.objects.filter(event_type="PositionClosed")
    assert not closed.exists()
    selling.fill("t3", "SELL", "3000", "0.51")
    selling.status = VenueStatus.FILLED
    sync_order(order_id=sold.order.pk, venue=selling)
    assert closed.get().payload == {"account_id": world.account.pk}
    review_task(**closed.get().payload)


# --- by a person ------------------------------------------------------------------------------------------------------


def tier(*arguments: str) -> str:
    out = io.StringIO()
    call_command("tier", *arguments, stdout=out)
    return out.getvalue()


def test_a_person_moves_a_tier_as_far_and_as_soon_as_wanted(world: World) -> None:
    TradingSession.objects.update(tier="LOW_TRUST")
    said = tier("set", "high_trust", "--by", "oli", "--reason", "a good   week")
    assert said.startswith("LOW_TRUST -> HIGH_TRUST by oli: a good week\nmomentum v")
    row = TierChange.objects.get()
    assert (row.cause, row.set_by, row.reason, row.round_trips, row.lower, row.upper) == (
        "person", "oli", "a good week", 0, 0.0, 1.0,
    )  # fmt: skip
    assert "HIGH_TRUST already; nothing changed" in tier("set", "HIGH_TRUST", "--by", "oli", "--reason", "again")
    assert TierChange.objects.count() == 1


def test_the_command_shows_tier_evidence_and_moves(world: World) -> None:
    close(world, 3, 1)
    tier("set", "LOW_TRUST", "--by", "oli", "--reason", "careful")
    shown = json.loads(tier("show", "--json"))[0]
    assert (shown["tier"], shown["wins"], shown["round_trips"], shown["automatic"]) == ("LOW_TRUST", 3, 4, True)
    assert shown["moves"][0]["reason"] == "careful"
    said = tier("show")
    assert "LOW_TRUST, moves by results and breakers" in said
    assert "won 3 of the last 4 round trips" in said
    assert "NORMAL -> LOW_TRUST by oli (person): careful" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("set", "BRAVE", "--reason", "x"), "invalid choice"),
        (("set", "NORMAL", "--reason", " "), "--reason must have"),
        (("show", "--strategy", "astrology"), "runs no strategy astrology"),
    ],
)
def test_the_command_refuses_with_a_reason(world: World, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        tier(*arguments)


def test_without_a_session_there_is_no_tier() -> None:
    with pytest.raises(CommandError, match="no session is running"):
        tier("show")


def test_a_tier_is_read_with_one_query(world: World, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1, connection=connection):
        assert tier_in_force(world.session) == "NORMAL"
