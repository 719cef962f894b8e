"""A day on which somebody sold everything: done again from the stream it comes out equal, step by step."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F

from apps.backtest.services.parity import audit_day
from apps.execution.models import Trade, VenueTrade
from apps.execution.services import match_orders, submit_order
from apps.execution.venues.quotes import Reader
from apps.portfolio.models import Position, TradingSession
from apps.risk.models import RiskDecision, TradingState
from apps.risk.services import assess, install_risk, set_trading_state
from apps.risk.services.flattening import flatten
from apps.signals.models import SessionStrategy, Signal
from apps.signals.services import drain
from tests import factories
from tests.engine.market_stream import PARAMETERS, START_MS
from tests.signals.shards import ShardWorld, open_shards
from tests.signals.test_exits import quoted_market
from tests.worlds import fresh, sound

SEED = 4
EAGER = {
    **PARAMETERS, "threshold_pct": 0.5, "rsi_min": 30, "cooldown_minutes": 1,
    "stop_loss_pct": "20", "take_profit_pct": "40", "max_holding_minutes": 600,
}  # fmt: skip
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(tools: drain.Tools) -> ShardWorld:
    """One shard and a strategy that buys often and holds long."""
    opened = open_shards(tools, shard_count=1)
    version = factories.StrategyVersionFactory.create(parameters=EAGER, engine_hash=settings.ENGINE_HASH)
    SessionStrategy.objects.update(version=version)
    TradingSession.objects.update(config={"paper": {"latency_ms": 150, "base_bps": "1", "impact_bps": "10"}})
    install_risk(account=opened.account, set_by="tester", reason="a test begins")
    return opened


def live(world: ShardWorld, entries: list[Any]) -> None:
    """Publish them; then drain, decide, send and match until nothing moves any more."""
    world.publish(entries)
    for _ in range(20):
        world.drain_all()
        undecided = Signal.objects.filter(decisions=None).order_by("ts_event", "id")
        for signal in undecided:
            decision = assess(signal_id=signal.pk, now_ms=signal.ts_init + 100, feed=fresh, path=sound)
            for intent in decision.intents.all() if decision else ():
                submit_order(intent_id=intent.pk, now_ms=int(intent.created_at.timestamp() * 1000), feed=fresh)
        reader = Reader(world.tools.reader, world.tools.segments, world.epoch.pk, 0)
        if not match_orders(epoch=world.epoch.pk, shard=0, reader=reader) and not undecided.exists():
            return
    raise AssertionError("the road does not come to rest")


def audited(world: ShardWorld) -> Any:
    at = datetime.fromtimestamp(START_MS / 1000, UTC)
    return audit_day(session=TradingSession.objects.get(), day=at.date(), now=at, segments=world.tools.segments)


def open_positions() -> int:
    return Position.objects.filter(status=Position.Status.OPEN).count()


def test_a_day_that_contains_a_flatten_comes_out_equal(world: ShardWorld) -> None:
    _, entries = quoted_market(SEED)
    third = len(entries) // 3
    live(world, entries[:third])
    held = open_positions()
    assert held
    done = flatten(account_id=world.account.pk, set_by="mara", reason="odd", now_ms=START_MS)
    assert len(done.raised) == held
    live(world, entries[third : 2 * third])
    assert not open_positions()
    bought = Trade.objects.filter(side="BUY").count()
    set_trading_state(account_id=world.account.pk, to_state=TradingState.ACTIVE, set_by="mara", reason="calm again")
    live(world, entries[2 * third :])
    assert Trade.objects.filter(side="BUY").count() > bought

    flattened = Signal.objects.filter(exit_reason=Signal.ExitReason.FLATTEN)
    sold = Trade.objects.filter(order__intent__decision__signal__in=flattened)
    assert flattened.count() == sold.count() == held
    audit = audited(world)
    assert audit.holds, audit.difference
    assert audit.compared["decisions"] == RiskDecision.objects.count()
    assert audit.compared["fills"] == Trade.objects.count()
    assert audit.compared["states"] == 2
    assert audit.compared["results"] == 1

    trade = sold.latest("id")
    sold.filter(pk=trade.pk).update(price=F("price") + Decimal("0.0001"))
    audit = audited(world)
    assert (audit.holds, audit.difference["what"], audit.difference["sequence"]) == (False, "fill", trade.sequence)
    assert VenueTrade.objects.count() == Trade.objects.count()
