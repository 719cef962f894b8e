"""A shard on whose stream a strategy trades: from entries to fills, through the services, one by one."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from apps.execution.services import match_orders, submit_order
from apps.execution.venues.quotes import Reader
from apps.portfolio.models import TradingSession
from apps.risk.services import assess, install_risk
from apps.signals.models import SessionStrategy, Signal
from apps.signals.services import drain
from tests import factories
from tests.engine.market_stream import PARAMETERS
from tests.signals.shards import ShardWorld, open_shards
from tests.worlds import fresh, sound

EAGER = {
    **PARAMETERS, "threshold_pct": 0.5, "rsi_min": 30, "cooldown_minutes": 1,
    "stop_loss_pct": "20", "take_profit_pct": "40", "max_holding_minutes": 600,
}  # fmt: skip


def eager_world(tools: drain.Tools) -> ShardWorld:
    """One shard and a strategy that buys often and holds long."""
    world = open_shards(tools, shard_count=1)
    version = factories.StrategyVersionFactory.create(parameters=EAGER, engine_hash=settings.ENGINE_HASH)
    SessionStrategy.objects.update(version=version)
    TradingSession.objects.update(config={"paper": {"latency_ms": 150, "base_bps": "1", "impact_bps": "10"}})
    install_risk(account=world.account, set_by="tester", reason="a test begins")
    return world


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
