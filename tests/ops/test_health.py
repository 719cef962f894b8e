"""/health says whether data flowed; /metrics are fed and not for everybody."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.test import Client
from django.utils import timezone

from apps.bus import streams
from apps.engine import timeouts
from apps.execution.models import ReconcileDifference, ReconcileRun
from apps.market.models import EpochInstrument, Gap, IngestLease
from apps.ops import health
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import TradingSession
from apps.risk.models import RiskDecision
from apps.signals.models import Signal
from tests.admin.rows import Road, make_road
from tests.factories import (
    START_MINUTE,
    BarFactory,
    CoverageFactory,
    EpochInstrumentFactory,
    FeedTransitionFactory,
    GapFactory,
    IngestLeaseFactory,
    OutboxEventFactory,
    ReconcileDifferenceFactory,
    SignalFactory,
)

pytestmark = pytest.mark.django_db


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(autouse=True)
def static_folder() -> None:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


def report(client: redis.Redis, road: Road, *, age_ms: int = 100, state: str = "STREAMING", **fields: object) -> None:
    connection: dict[str, object] = {
        "name": "connection 1",
        "state": state,
        "last_frame_ms": None,
        "last_pong_ms": now_ms() - age_ms,
        "symbols": ["XRPUSDT"],
        **fields,
    }
    body = {"token": 10**9, "written_ms": now_ms(), "connections": [connection], "last_trade_ms": now_ms() - 3_600_000}
    client.set(streams.feed_state_key(road.session.epoch_id), json.dumps(body))


def beat(client: redis.Redis, *, age_ms: int = 0) -> None:
    for name in health.HEARTBEATS:
        client.set(streams.heartbeat_key(name), now_ms() - age_ms)


@pytest.fixture
def well(redis_client: redis.Redis) -> Road:
    """A session whose every part works; its newest trade is an hour old, as in a recording played to its end."""
    road = make_road()
    EpochInstrumentFactory.create(epoch=road.session.epoch, instrument=road.instrument)
    IngestLeaseFactory.create(epoch=road.session.epoch)
    report(redis_client, road)
    beat(redis_client)
    return road


def failing(answer_status: int = 503) -> list[str]:
    answer = Client().get("/health")
    body = answer.json()
    assert answer.status_code == answer_status, body
    assert body["healthy"] is (answer_status == 200)
    return sorted(name for name, part in body["parts"].items() if not part["ok"])


def test_everything_that_works_is_200_even_when_the_market_is_quiet(well: Road) -> None:
    assert failing(200) == []


def quiet_feed(client: redis.Redis, road: Road) -> None:
    report(client, road, age_ms=health.FEED_AGE_MAX_MS + 1_000)


def closed_connection(client: redis.Redis, road: Road) -> None:
    report(client, road, state="CLOSED")


def blocked_connection(client: redis.Redis, road: Road) -> None:
    report(client, road, state="BLOCKED", refused={"spot@deals@XRPUSDT": "Blocked!"})


def blocked_symbol(client: redis.Redis, road: Road) -> None:
    report(client, road, symbols=["XRPUSDT", "ABCUSDT"], refused={"spot@deals@ABCUSDT": "Blocked!"})


def lease_run_out(_client: redis.Redis, _road: Road) -> None:
    late = timedelta(seconds=timeouts.LEASE_TTL_SECONDS + 1)
    IngestLease.objects.update(renewed_at=timezone.now() - late)


def lease_given_back(_client: redis.Redis, _road: Road) -> None:
    IngestLease.objects.update(renewed_at=None)


def lease_never_taken(_client: redis.Redis, _road: Road) -> None:
    IngestLease.objects.all().delete()


def unfillable_minute(_client: redis.Redis, road: Road) -> None:
    hole(road, Gap.Status.UNFILLABLE)


def hole(road: Road, status: str, *, ago: int = 1) -> None:
    """An UNPROVEN minute, `ago` minutes before the newest closed one, in a gap with this status."""
    minute = START_MINUTE - ago
    gap = GapFactory.create(epoch=road.session.epoch, instrument=road.instrument, first_minute=minute, status=status)
    CoverageFactory.create(epoch=gap.epoch, instrument=gap.instrument, minute=minute, gap=gap, attempts=8)


def no_report(client: redis.Redis, road: Road) -> None:
    client.delete(streams.feed_state_key(road.session.epoch_id))


def broken_report(client: redis.Redis, road: Road) -> None:
    client.set(streams.feed_state_key(road.session.epoch_id), "{")


def unread_entry(client: redis.Redis, road: Road) -> None:
    client.xadd(streams.stream_key(road.session.epoch_id, 0), {"b": b"x"}, id=f"{now_ms() - 60_000}-0")


def undecided_signal(_client: redis.Redis, road: Road) -> None:
    signal = SignalFactory.create(session=road.session, instrument=road.instrument)
    Signal.objects.filter(pk=signal.pk).update(created_at=timezone.now() - timedelta(minutes=1))


def waiting_event(_client: redis.Redis, _road: Road) -> None:
    event = OutboxEventFactory.create()
    OutboxEvent.objects.filter(pk=event.pk).update(created_at=timezone.now() - timedelta(minutes=1))


def silent_steward(client: redis.Redis, _road: Road) -> None:
    client.delete(streams.heartbeat_key("steward"))


def late_beat(client: redis.Redis, _road: Road) -> None:
    client.set(streams.heartbeat_key("beat"), now_ms() - health.HEARTBEAT_MAX_MS - 1_000)


def not_compared(_client: redis.Redis, _road: Road) -> None:
    ReconcileRun.objects.update(finished_at=timezone.now() - timedelta(minutes=61))


def never_compared(_client: redis.Redis, _road: Road) -> None:
    ReconcileRun.objects.all().delete()


def venue_does_not_answer(_client: redis.Redis, _road: Road) -> None:
    ReconcileRun.objects.update(outcome=ReconcileRun.Outcome.UNCLEAR)


def open_difference(_client: redis.Redis, road: Road) -> None:
    ReconcileDifferenceFactory.create(run=road.account.reconcile_runs.get())


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (not_compared, ["reconciliation"]),
        (never_compared, ["reconciliation"]),
        (venue_does_not_answer, ["reconciliation"]),
        (open_difference, ["reconciliation"]),
        (quiet_feed, ["feed"]),
        (closed_connection, ["feed"]),
        (blocked_connection, ["feed", "subscriptions"]),
        (blocked_symbol, ["subscriptions"]),
        (lease_run_out, ["lease"]),
        (lease_given_back, ["lease"]),
        (lease_never_taken, ["lease"]),
        (unfillable_minute, ["gaps"]),
        (no_report, ["feed"]),
        (broken_report, ["feed"]),
        (unread_entry, ["drain"]),
        (undecided_signal, ["decisions"]),
        (waiting_event, ["outbox"]),
        (silent_steward, ["steward"]),
        (late_beat, ["beat"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_part_that_does_nothing_is_named(
    well: Road, redis_client: redis.Redis, damage: Callable[[redis.Redis, Road], None], parts: list[str]
) -> None:
    damage(redis_client, well)
    assert failing() == parts


@pytest.mark.parametrize("state", ["applied", "approved", "dismissed", "resolved"])
def test_a_difference_that_somebody_dealt_with_is_healthy(well: Road, state: str) -> None:
    ReconcileDifferenceFactory.create(run=well.account.reconcile_runs.get(), state=state)
    assert failing(200) == []


def test_a_session_that_has_just_begun_was_not_due_to_be_compared(well: Road) -> None:
    ReconcileRun.objects.all().delete()
    TradingSession.objects.update(started_at=timezone.now())
    assert Client().get("/health").json()["parts"]["reconciliation"] == {
        "ok": True, "effect": "first comparison is not due yet", "age_s": None,
    }  # fmt: skip


def test_what_the_exchange_refuses_is_named_with_its_words(well: Road, redis_client: redis.Redis) -> None:
    blocked_connection(redis_client, well)
    said = Client().get("/health").json()["parts"]["subscriptions"]["effect"]
    assert said == "connection 1 is BLOCKED; XRPUSDT: Blocked!"


@pytest.mark.parametrize("status", [Gap.Status.OPEN, Gap.Status.PARTIAL, Gap.Status.UNFILLABLE])
def test_a_gap_is_unhealthy_only_while_it_holds_up_signals_for_good(well: Road, status: str) -> None:
    hole(well, status, ago=400)
    assert failing(200) == []
    hole(well, status)
    parts = Client().get("/health").json()["parts"]
    assert parts["gaps"]["ok"] is (status == Gap.Status.OPEN)
    assert f"{2 if status == Gap.Status.OPEN else 0} open" in parts["gaps"]["effect"]


def test_a_symbol_that_is_not_followed_any_more_needs_no_data(well: Road) -> None:
    EpochInstrumentFactory.create(epoch=well.session.epoch, instrument__symbol="GONEUSDT", followed=False)
    assert failing(200) == []
    EpochInstrument.objects.update(followed=True)
    assert failing() == ["feed"]


def test_a_connection_that_rotates_still_delivers(well: Road, redis_client: redis.Redis) -> None:
    report(redis_client, well, state="ROTATING")
    assert failing(200) == []


def test_a_fresh_backlog_is_not_a_failure(well: Road, redis_client: redis.Redis) -> None:
    redis_client.xadd(streams.stream_key(well.session.epoch_id, 0), {"b": b"x"}, id=f"{now_ms()}-0")
    SignalFactory.create(session=well.session, instrument=well.instrument)
    OutboxEventFactory.create()
    assert failing(200) == []


def test_before_any_session_it_says_that_nothing_flows(redis_client: redis.Redis) -> None:
    assert failing() == ["session"]


def test_without_redis_it_says_so_instead_of_failing_itself(well: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    assert failing() == ["beat", "drain", "feed", "redis", "steward"]


def test_it_says_nothing_that_must_not_be_known(well: Road) -> None:
    TradingSession.objects.update(name="canary-name")
    text = Client().get("/health").content.decode()
    for secret in ("canary", settings.SECRET_KEY, settings.REDIS_URL, "XRPUSDT", "127.0.0.1", "100000"):
        assert secret not in text


def test_only_looking_is_allowed() -> None:
    assert Client().post("/health").status_code == 405
    assert Client().post("/metrics").status_code == 405


# --- /metrics ---------------------------------------------------------------------------------------------------
def series(text: str) -> dict[str, float]:
    rows = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def test_the_numbers_that_matter_are_read_when_asked_for(well: Road) -> None:
    found = series(Client().get("/metrics").content.decode())
    assert found['cdb_funnel{stage="received"}'] == 48_220
    assert found['cdb_funnel{stage="signals"}'] == Signal.objects.count() == 2
    assert found['cdb_funnel{stage="denied"}'] == 1
    assert found["cdb_undecided_signals"] == 0
    assert found["cdb_drain_lag_seconds"] == 0
    assert found["cdb_open_positions"] == 1
    assert found["cdb_equity_quote"] == 100_050
    assert found["cdb_exposure_quote"] == 0
    assert found["cdb_exposure_limit_quote"] == 50_025
    assert found['cdb_trading_state{state="ACTIVE"}'] == 1
    assert 0 < found["cdb_feed_age_seconds"] < 10
    assert found["cdb_healthy"] == 1
    assert found['cdb_part_healthy{part="reconciliation"}'] == 1
    assert 0 <= found["cdb_reconciled_orders_age_seconds"] == found["cdb_reconciled_full_age_seconds"] < 600
    assert found["cdb_reconcile_differences_open"] == 0
    RiskDecision.objects.filter(verdict="denied").update(verdict="approved")
    assert series(Client().get("/metrics").content.decode())['cdb_funnel{stage="denied"}'] == 0


def test_what_was_never_compared_has_no_age_and_an_open_difference_is_counted(well: Road) -> None:
    ReconcileRun.objects.update(scope=ReconcileRun.Scope.ORDERS, finished_at=timezone.now() - timedelta(seconds=90))
    found = series(Client().get("/metrics").content.decode())
    assert 90 <= found["cdb_reconciled_orders_age_seconds"] < 600
    assert "cdb_reconciled_full_age_seconds" not in found
    ReconcileDifferenceFactory.create(run=well.account.reconcile_runs.get())
    assert series(Client().get("/metrics").content.decode())["cdb_reconcile_differences_open"] == 1
    ReconcileDifference.objects.update(state="resolved")
    assert series(Client().get("/metrics").content.decode())["cdb_reconcile_differences_open"] == 0


def test_the_feed_is_counted_from_what_is_stored(well: Road, redis_client: redis.Redis) -> None:
    epoch = well.session.epoch
    for minute in range(START_MINUTE - 9, START_MINUTE + 1):
        BarFactory.create(epoch=epoch, instrument=well.instrument, minute=minute)
    hole(well, Gap.Status.OPEN)
    CoverageFactory.create(epoch=epoch, instrument=well.instrument, minute=START_MINUTE - 5, status="backfilled")
    EpochInstrument.objects.update(swept_minute=START_MINUTE - 30)
    for category in ("no_pong", "no_pong", "rotated"):
        FeedTransitionFactory.create(epoch=epoch, category=category)
    report(redis_client, well, state="STALE", refused={"spot@deals@ABCUSDT": "Blocked!"})
    found = series(Client().get("/metrics").content.decode())
    assert {name: value for name, value in found.items() if name.startswith("cdb_feed_minutes")} == {
        'cdb_feed_minutes{status="proven"}': 8,
        'cdb_feed_minutes{status="backfilled"}': 1,
        'cdb_feed_minutes{status="unproven"}': 1,
    }
    assert found['cdb_feed_gaps{status="open"}'] == 1
    assert found['cdb_feed_gaps{status="unfillable"}'] == 0
    assert found['cdb_feed_connections{state="STALE"}'] == 1
    assert found['cdb_feed_connections{state="BLOCKED"}'] == 0
    assert found["cdb_feed_blocked_channels"] == 1
    assert found['cdb_feed_transitions_total{category="no_pong"}'] == 2
    assert found["cdb_feed_swept_age_seconds"] == 1800
    assert 0 <= found["cdb_feed_lease_age_seconds"] < 60
    assert "cdb_feed_standby" not in found


@pytest.mark.parametrize("standby", [True, False])
def test_a_standby_is_a_figure_once_the_ingest_has_told_of_it(
    well: Road, redis_client: redis.Redis, standby: bool
) -> None:
    key = streams.feed_state_key(well.session.epoch_id)
    body = json.loads(str(redis_client.get(key), "utf-8"))  # type: ignore[arg-type]
    redis_client.set(key, json.dumps({**body, "standby": standby}))
    assert series(Client().get("/metrics").content.decode())["cdb_feed_standby"] == standby


def test_states_that_nobody_knows_share_one_series(well: Road, redis_client: redis.Redis) -> None:
    report(redis_client, well, state="MADE_UP")
    found = series(Client().get("/metrics").content.decode())
    assert found['cdb_feed_connections{state="other"}'] == 1
    assert not any("MADE_UP" in name for name in found)


def test_what_is_not_known_has_no_series(well: Road, redis_client: redis.Redis) -> None:
    redis_client.delete(streams.feed_state_key(well.session.epoch_id))
    found = series(Client().get("/metrics").content.decode())
    assert "cdb_feed_age_seconds" not in found
    assert "cdb_last_trade_age_seconds" not in found
    assert not [name for name in found if name.startswith(("cdb_feed_connections", "cdb_feed_blocked", "cdb_feed_st"))]
    assert found["cdb_healthy"] == 0


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("10.0.0.7", {}, 403),
        ("", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.7"}, 403),
        ("127.0.0.1", {"Forwarded": "for=10.0.0.7"}, 403),
        ("10.0.0.7", {"Authorization": "Bearer right"}, 200),
        ("10.0.0.7", {"Authorization": "Bearer wrong"}, 403),
        ("10.0.0.7", {"Authorization": "Bearer "}, 403),
    ],
)
def test_metrics_are_for_this_machine_or_the_bearer_of_the_token(
    redis_client: redis.Redis, address: str, headers: dict[str, str], status: int
) -> None:
    token = settings.SECRETS_DIR / "metrics_token"
    token.write_text("right\n")
    try:
        assert Client(REMOTE_ADDR=address).get("/metrics", headers=headers).status_code == status
    finally:
        token.unlink()


def test_without_a_token_no_bearer_is_right(redis_client: redis.Redis) -> None:
    answer = Client(REMOTE_ADDR="10.0.0.7").get("/metrics", headers={"Authorization": "Bearer "})
    assert answer.status_code == 403
