"""Why has nothing traded: each stage of the road as the one that stands still, with its reason and its numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import redis
from django.core.management import call_command
from django.utils import timezone

from apps.alerts.models import Alert
from apps.alerts.selectors import open_alerts
from apps.bus.streams import feed_state_key
from apps.engine.indicators import rsi
from apps.market.models import Bar, ShardCursor
from apps.ops.selectors.nearest import nearness, rsi_series
from apps.ops.selectors.standstill import Why, why_nothing
from apps.ops.selectors.state import read_state
from apps.ops.services.activity import watch_activity
from apps.portfolio.models import TradingSession
from tests.factories import (
    START_MINUTE,
    BarFactory,
    IngestRunFactory,
    SignalRefusalFactory,
    momentum_parameters,
)
from tests.ops.chains import Chains, open_chains

pytestmark = pytest.mark.django_db

NEWEST = START_MINUTE + 200


@pytest.fixture
def chains(redis_client: redis.Redis, tmp_path: Path) -> Chains:
    return open_chains(redis_client, tmp_path)


def asked(*, now_ms: int | None = None) -> Why:
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    found = why_nothing(read_state(now_ms), now_ms)
    assert found is not None
    return found


def ingested(chains: Chains, **counts: int) -> None:
    counted = {"received": 9, "decoded": 0, "published": 0, **counts}
    IngestRunFactory.create(epoch=chains.world.epoch, last_seen_at=timezone.now(), **counted)


def judged(chains: Chains) -> None:
    """Trades arrived, were read and judged."""
    ingested(chains, decoded=9, published=9)
    ShardCursor.objects.filter(epoch=chains.world.epoch).update(processed=9, evaluated=9)


def rising(chains: Chains, to: str) -> None:
    """Two hundred closed minutes at 0.5, of which the last ten rise; turnover 50 in each."""
    last = Decimal(to)
    for minute in range(START_MINUTE + 1, NEWEST + 1):
        close = last if minute == NEWEST else Decimal("0.5") + (minute % 2) * Decimal("0.0001")
        BarFactory.create(
            epoch=chains.world.epoch, instrument=chains.world.instruments["XRPUSDT"], minute=minute, close=close
        )
    ShardCursor.objects.filter(epoch=chains.world.epoch).update(closed_minute=NEWEST, watermark_ms=NEWEST * 60_000)


def no_bars(chains: Chains) -> None:
    judged(chains)
    Bar.objects.all().delete()


def not_warm(chains: Chains) -> None:
    judged(chains)
    ShardCursor.objects.filter(epoch=chains.world.epoch).update(evaluated=0)


def quiet(chains: Chains) -> None:
    judged(chains)
    rising(chains, "0.509")


def holes(chains: Chains) -> None:
    judged(chains)
    SignalRefusalFactory.create(session=chains.world.session, strategy_version=chains.world.version)


def denied(chains: Chains) -> None:
    judged(chains)
    chains.denied()


def unsent(chains: Chains) -> None:
    judged(chains)
    chains.world.approved(chains.world.entry_signal())


def unfilled(chains: Chains) -> None:
    judged(chains)
    chains.world.send(chains.world.approved(chains.world.entry_signal()))


def traded(chains: Chains) -> None:
    judged(chains)
    chains.traded()


@pytest.mark.parametrize(
    ("make", "stage", "words"),
    [
        (lambda _: None, "received", "No trade has arrived in this session."),
        (ingested, "decoded", "9 trades arrived and none could be read."),
        (lambda chains: ingested(chains, decoded=9), "published", "9 trades were read and none published."),
        (lambda chains: ingested(chains, decoded=9, published=9), "processed", "9 trades wait on the stream"),
        (no_bars, "bars", "No minute has closed yet"),
        (not_warm, "evaluated", "Warming up: "),
        (quiet, "signals", "Nearest XRPUSDT at "),
        (holes, "signals", "1 signal refused, for trades of the window may be missing: 1 trades lost on the stream."),
        (denied, "approved", "1 signal, none approved: 1 denied by risk: gross exposure."),
        (unsent, "orders", "1 signal approved and none at the venue: 1 approved, waits to be sent."),
        (unfilled, "trades", "1 order reached the venue and none filled: 1 at the venue, not filled yet."),
        (traded, "", "Nothing stands still: 1 signal of the last 24 h traded."),
    ],
)
def test_the_stage_that_stands_still_is_named_with_its_reason(
    chains: Chains, make: Callable[[Chains], None], stage: str, words: str
) -> None:
    make(chains)
    found = asked()
    assert (found.stage, words in found.sentence) == (stage, True), found.sentence


def test_the_nearest_miss_names_its_conditions_with_numbers_the_furthest_first(chains: Chains) -> None:
    quiet(chains)
    found = asked().sentence
    assert found.startswith("No rule has fired. 60 minutes of symbols in the last hour, none passed: ")
    assert "60 for change" in found
    assert "change +1.80\u202f% of 2.00\u202f%" in found


def test_a_minute_at_which_every_condition_held_is_no_miss(chains: Chains) -> None:
    rising(chains, "0.52")
    found = nearness(chains.world.epoch.pk, momentum_parameters() | {"rsi_min": 0}, NEWEST)
    assert found is not None
    assert found.nearest is not None
    assert (found.judged, found.nearest.minute, found.nearest.missing) == (60, NEWEST, ())


def test_a_rule_with_other_parameters_has_no_nearest_miss(chains: Chains) -> None:
    assert nearness(chains.world.epoch.pk, {"lookback_minutes": 15}, NEWEST) is None


def test_the_plain_rsi_is_that_of_the_engine() -> None:
    closes = [0.5 + (number * 7919 % 101) / 1000 for number in range(60)]
    wanted = rsi(np.array(closes), 14)
    for mine, theirs in zip(rsi_series(closes), wanted, strict=True):
        assert (mine is None) == bool(np.isnan(theirs))
        assert mine is None or mine == pytest.approx(float(theirs), rel=1e-9)


def test_a_feed_that_fell_silent_comes_before_what_happened_earlier(chains: Chains, redis_client: redis.Redis) -> None:
    traded(chains)
    body = {"token": 7, "written_ms": now_ms(), "connections": [], "last_trade_ms": now_ms() - 90_000}
    redis_client.set(feed_state_key(chains.world.epoch.pk), json.dumps(body))
    found = asked()
    assert (found.stage, found.sentence.startswith("No trade has arrived for 90 s.")) == ("received", True)


def test_every_stage_says_when_the_last_passed(chains: Chains) -> None:
    traded(chains)
    rows = {row.stage: row for row in asked().stages}
    assert [row for row in rows.values() if row.count and row.last_ms is None] == []
    assert rows["trades"].count == 1


def test_the_command_tells_the_stage_and_the_endings(chains: Chains, capsys: pytest.CaptureFixture[str]) -> None:
    denied(chains)
    call_command("funnel", "--why", "--json")
    data = json.loads(capsys.readouterr().out)
    assert (data["stage"], data["endings"]) == ("approved", {"denied:EXPOSURE": 1})
    call_command("funnel", "--why")
    text = capsys.readouterr().out
    assert text.startswith("Stands still at approved: 1 signal, none approved")
    assert "denied:EXPOSURE" in text


# --- the alert --------------------------------------------------------------------------------------------------------


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def began(hours: int) -> None:
    TradingSession.objects.update(started_at=timezone.now() - timedelta(hours=hours))


def test_a_day_without_a_trade_alerts_once_and_names_the_stage(chains: Chains) -> None:
    denied(chains)
    began(25)
    alert = watch_activity(now_ms=now_ms())
    assert alert is not None
    assert (alert.kind, alert.severity) == (Alert.Kind.NO_ACTIVITY, Alert.Severity.WARNING)
    assert alert.words.startswith("Nothing has traded for 24 h. Stands still at approved. 1 signal, none approved")
    assert watch_activity(now_ms=now_ms()) is None
    assert Alert.objects.get().count == 1


def test_a_session_younger_than_a_day_is_not_judged(chains: Chains) -> None:
    began(23)
    assert watch_activity(now_ms=now_ms()) is None


def test_fewer_than_five_trades_a_day_are_a_notice_that_nobody_must_act_on(chains: Chains) -> None:
    traded(chains)
    began(25)
    alert = watch_activity(now_ms=now_ms())
    assert alert is not None
    assert (alert.kind, alert.severity) == (Alert.Kind.FEW_TRADES, Alert.Severity.NOTICE)
    assert alert.words.startswith("1 of at least 5 trades within a day.")
    assert open_alerts() == []


def test_a_trade_settles_the_alert_that_there_was_none(chains: Chains) -> None:
    judged(chains)
    began(25)
    assert watch_activity(now_ms=now_ms()) is not None
    chains.traded()
    watch_activity(now_ms=now_ms())
    assert Alert.objects.get(kind=Alert.Kind.NO_ACTIVITY).acknowledged_by == "system"


def test_a_replay_has_no_day_of_its_own(chains: Chains) -> None:
    began(25)
    chains.world.epoch.kind = "replay"
    chains.world.epoch.save()
    assert watch_activity(now_ms=now_ms()) is None
