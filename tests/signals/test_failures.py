"""A strategy that raises in a drain: stored, alerted, disabled in all shards, put back by a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction

from apps.alerts.models import Alert
from apps.backtest.services.parity import audit_day
from apps.backtest.services.stream_again import read_again
from apps.bus.feed import FeedAge
from apps.engine.strategies import STRATEGIES
from apps.market.models import ShardCursor
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import TradingSession
from apps.risk.services import assess
from apps.signals.models import ParameterSchedule, SessionStrategy, Signal, SignalRefusal, StrategyFailure
from apps.signals.services import drain
from apps.signals.services.failures import disable, disable_failed, enable
from apps.signals.services.schedules import ScheduleRefused, change_version, is_enabled, minute_touched
from apps.signals.services.state import specs_of
from apps.signals.tasks import disable_strategy
from tests import factories
from tests.engine.market_stream import PARAMETERS, START_MS
from tests.engine.test_failing_strategy import MODULE
from tests.signals.shards import EXITS, SYMBOLS, ShardWorld, market, open_shards
from tests.worlds import sound

pytestmark = pytest.mark.django_db(transaction=True)

BUSY_SEED = 4
EAGER = {**PARAMETERS, **EXITS, "threshold_pct": 1.0, "rsi_min": 30, "cooldown_minutes": 1}


@pytest.fixture
def world(tools: drain.Tools, monkeypatch: pytest.MonkeyPatch) -> ShardWorld:
    """Two strategies on two shards; the second one raises at its 40th trade of a symbol."""
    monkeypatch.setitem(STRATEGIES, "failing", MODULE)
    MODULE.kernel.load()
    opened = open_shards(tools)
    strategy = factories.StrategyFactory.create(name="failing")
    version = factories.StrategyVersionFactory.create(
        strategy=strategy, parameters={"trades": 40, "bars": 0, **EXITS}, engine_hash=settings.ENGINE_HASH
    )
    factories.SessionStrategyFactory.create(session=opened.session, version=version)
    return opened


def failing() -> SessionStrategy:
    return SessionStrategy.objects.select_related("session", "version__strategy").get(version__strategy__name="failing")


def drain_first(world: ShardWorld) -> None:
    """Everything that waits for one shard; the other one has not begun."""
    while drain.drain_shard(epoch=world.epoch.pk, shard=0, tools=world.tools).more:
        pass


def told(binding: SessionStrategy) -> list[tuple[Any, ...]]:
    """Every signal of a strategy's versions, as the stream orders them."""
    rows = Signal.objects.filter(strategy_version__strategy=binding.version.strategy, kind=Signal.Kind.ENTRY)
    return sorted(rows.values_list("ts_event", "instrument__symbol", "trade_id", "strategy_version_id"))


def half(world: ShardWorld) -> list[Any]:
    """Publish the first half of the market, let both shards drain it, carry out what they rang for; the other half."""
    entries = market(BUSY_SEED)
    world.publish(entries[: len(entries) // 2])
    world.drain_all()
    for event in OutboxEvent.objects.filter(event_type="StrategyFailed").order_by("id"):
        disable_strategy(**event.payload)
    return entries[len(entries) // 2 :]


def test_a_failure_is_stored_with_its_trade_its_alert_and_its_wake_up(world: ShardWorld) -> None:
    world.publish(market(BUSY_SEED))
    drain_first(world)
    (row,) = StrategyFailure.objects.all()
    assert (row.session, row.base_id, row.strategy_version_id, row.shard, row.schedule) == (
        world.session, failing().version_id, failing().version_id, 0, None,
    )  # fmt: skip
    assert row.symbol in SYMBOLS
    assert row.words == "ZeroDivisionError: division by zero"
    mine = [ts for ts, symbol, *_ in told(failing()) if symbol == row.symbol]
    assert len(mine) == 39
    assert row.ts_event > max(mine) > START_MS
    alert = Alert.objects.get()
    assert (alert.kind, alert.severity, alert.count) == (Alert.Kind.STRATEGY_FAILED, Alert.Severity.WARNING, 1)
    assert alert.subject == f"failing in session {world.session.pk}"
    assert f"failed on {row.symbol} and is disabled, the others go on (ZeroDivisionError" in alert.words
    assert OutboxEvent.objects.get(event_type="StrategyFailed").payload == {"failure_id": row.pk}


def test_what_rolls_back_tells_nothing_of_a_failure(world: ShardWorld) -> None:
    world.publish(market(BUSY_SEED))
    with transaction.atomic():
        while drain.drain_once(epoch=world.epoch.pk, shard=0, tools=world.tools).more:
            pass
        assert StrategyFailure.objects.count() == 1
        transaction.set_rollback(True)
    assert not StrategyFailure.objects.exists()
    assert not Alert.objects.exists()
    drain_first(world)
    assert StrategyFailure.objects.count() == 1


def test_it_is_disabled_in_every_shard_from_the_next_minute_and_the_other_strategy_goes_on(world: ShardWorld) -> None:
    entries = market(BUSY_SEED)
    world.publish(entries[: len(entries) // 2])
    drain_first(world)
    failure = StrategyFailure.objects.get()
    row = disable_failed(failure_id=failure.pk)
    assert row is not None
    assert not is_enabled(failing())
    assert (row.enabled, row.set_by, row.version_id) == (False, "system", failing().version_id)
    assert row.from_minute == max(minute_touched(events) for _, events in entries[: len(entries) // 2]) + 1
    world.publish(entries[len(entries) // 2 :])
    world.drain_all()
    assert all(ts // 60_000 < row.from_minute for ts, *_ in told(failing()))
    assert {symbol for _, symbol, *_ in told(failing())} == set(SYMBOLS)
    calm = open_shards(world.tools)
    calm.publish(entries)
    calm.drain_all()
    others = Signal.objects.filter(strategy_version__strategy__name="momentum", kind=Signal.Kind.ENTRY)
    of = {
        opened: sorted(others.filter(session=opened).values_list("ts_event", "instrument__symbol", "trade_id"))
        for opened in (world.session, calm.session)
    }
    assert of[world.session] == of[calm.session] != []


def test_a_second_shard_counts_the_alert_up_and_every_late_or_doubled_message_is_harmless(world: ShardWorld) -> None:
    world.publish(market(BUSY_SEED))
    world.drain_all()  # the second shard fails by itself before anything is disabled
    first, second = StrategyFailure.objects.order_by("id")
    assert {first.shard, second.shard} == {0, 1}
    assert Alert.objects.get().count == 2
    rows = {disable_failed(failure_id=failure.pk) for failure in (second, first, first)}
    assert len(rows) == ParameterSchedule.objects.count() == 1
    assert StrategyFailure.objects.filter(schedule__in=rows).count() == 2
    enable(binding_id=failing().pk, set_by="mara", reason="again")
    disable_failed(failure_id=first.pk)
    assert is_enabled(failing())


def test_it_stays_disabled_when_processes_start_again_and_is_named_once(world: ShardWorld) -> None:
    rest = half(world)
    before = told(failing())
    for n in range(0, len(rest), 60):
        drain.forget()
        world.publish(rest[n : n + 60])
        world.drain_all()
    off = ParameterSchedule.objects.get().from_minute
    assert [row for row in told(failing()) if row[0] // 60_000 >= off] == []
    assert len(told(failing())) == len(before)
    assert Alert.objects.get().count == StrategyFailure.objects.count()


def test_a_version_is_changed_under_a_disabled_strategy_without_enabling_it(world: ShardWorld) -> None:
    half(world)
    working = factories.StrategyVersionFactory.create(
        strategy=failing().version.strategy, parameters={"trades": -1, "bars": 0, **EXITS},
        engine_hash=settings.ENGINE_HASH,
    )  # fmt: skip
    with transaction.atomic():
        row = change_version(binding=failing(), version=working, set_by="mara", reason="one that works")
    assert not row.enabled
    assert not is_enabled(failing())


def enabled_again(world: ShardWorld) -> tuple[ParameterSchedule, SessionStrategy]:
    """A failure in the first half; in the second one a person lets a version judge that works."""
    rest = half(world)
    working = factories.StrategyVersionFactory.create(
        strategy=failing().version.strategy, parameters={"trades": -1, "bars": 0, **EXITS},
        engine_hash=settings.ENGINE_HASH,
    )  # fmt: skip
    world.publish(rest[: len(rest) // 2])
    world.drain_all()
    with transaction.atomic():
        change_version(binding=failing(), version=working, set_by="mara", reason="one that works")
    row = enable(binding_id=failing().pk, set_by="mara", reason="tried on a copy")
    world.publish(rest[len(rest) // 2 :])
    world.drain_all()
    return row, failing()


def test_enabled_again_it_judges_anew_in_every_shard_and_its_alert_is_settled(world: ShardWorld) -> None:
    row, binding = enabled_again(world)
    back = [found for found in told(binding) if found[3] == row.version_id]
    assert min(ts for ts, *_ in back) // 60_000 >= row.from_minute
    assert {symbol for _, symbol, *_ in back} == set(SYMBOLS)
    alert = Alert.objects.get()
    assert (alert.acknowledged_by, alert.reason) == ("mara", "enabled again: tried on a copy")
    with pytest.raises(ScheduleRefused, match="failing is enabled already"):
        enable(binding_id=binding.pk, set_by="mara", reason="once more")


def test_a_replay_that_knows_the_schedule_raises_the_same_signals(world: ShardWorld) -> None:
    enabled_again(world)
    bindings = list(SessionStrategy.objects.select_related("version__strategy", "session").order_by("id"))
    ends = dict(ShardCursor.objects.filter(epoch=world.epoch).values_list("shard", "seen_through"))
    again = read_again(epoch_id=world.epoch.pk, segments=world.tools.segments, specs=specs_of(bindings), ends=ends)
    names = ("ts_event", "instrument__symbol", "trade_id", "strategy_version_id")
    stored = sorted([*Signal.objects.values_list(*names), *SignalRefusal.objects.values_list(*names)])
    derived = [row for row in again.signals if row.kind == "entry"]
    assert sorted((row.ts_event, row.symbol, row.trade_id, row.version_id) for row in derived) == stored
    assert len({version for *_, version in stored}) == 3


def audited(world: ShardWorld) -> Any:
    """Decide on a few of the session's signals and audit their day."""
    day = datetime.fromtimestamp(START_MS / 1000, UTC).date()
    now = datetime.fromtimestamp(START_MS / 1000, UTC)
    return audit_day(session=TradingSession.objects.get(), day=day, now=now, segments=world.tools.segments)


def test_the_parity_of_a_session_with_a_failure_holds_and_a_difference_alerts_once(world: ShardWorld) -> None:
    factories.RiskStateFactory.create(account=world.account)
    factories.RiskLimitsFactory.create(account=world.account, version=1)
    enabled_again(world)
    for signal in Signal.objects.order_by("id")[:: max(Signal.objects.count() // 12, 1)]:
        assess(signal_id=signal.pk, now_ms=signal.ts_init + 100, feed=lambda *_: FeedAge(100), path=sound)
    held = audited(world)
    assert held.holds, held.difference
    assert held.compared["decisions"] > 8
    gone = Signal.objects.filter(decisions=None, strategy_version=failing().version).earliest("ts_event")
    key = gone.trigger_key
    gone.delete()
    for count in (1, 2):
        assert audited(world).difference["key"] == key
        alert = Alert.objects.get(kind=Alert.Kind.PARITY_DIFFERENCE)
        assert (alert.count, alert.severity, alert.session) == (count, Alert.Severity.CRITICAL, world.session)
        assert key in alert.words


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_a_person_stops_and_enables_a_strategy_on_the_command_line(
    world: ShardWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("strategy", "disable", "failing", reason="strange entries", author="mara")
    assert "nobody judges by failing v" in capsys.readouterr().out
    world.publish(market(BUSY_SEED))
    world.drain_all()
    assert told(failing()) == []
    with pytest.raises(CommandError, match="failing is disabled already"):
        call_command("strategy", "disable", "failing", reason="again", author="mara")
    call_command("strategy", "enable", "failing", reason="it was the feed", author="mara")
    assert "judges again from" in capsys.readouterr().out
    assert ParameterSchedule.objects.latest("id").reason == "it was the feed"
    assert is_enabled(failing())


def test_a_session_that_has_ended_is_neither_disabled_nor_enabled(world: ShardWorld) -> None:
    world.publish(market(BUSY_SEED))
    drain_first(world)
    TradingSession.objects.update(ended_at=datetime.now(UTC))
    assert disable_failed(failure_id=StrategyFailure.objects.get().pk) is None
    with pytest.raises(ScheduleRefused, match="has ended"):
        disable(binding_id=failing().pk, set_by="mara", reason="late")
