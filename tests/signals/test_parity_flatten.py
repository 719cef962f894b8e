"""A day on which somebody sold everything: done again from the stream it comes out equal, step by step."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F

from apps.backtest.services.parity import audit_day
from apps.execution.models import Trade, VenueTrade
from apps.portfolio.models import Position, TradingSession
from apps.risk.models import RiskDecision, TradingState
from apps.risk.services import set_trading_state
from apps.risk.services.flattening import flatten
from apps.signals.models import Signal
from apps.signals.services import drain
from tests.engine.market_stream import START_MS
from tests.signals.shards import ShardWorld
from tests.signals.test_exits import quoted_market
from tests.signals.trading import eager_world, live

SEED = 4
pytestmark = pytest.mark.django_db(transaction=True)


def audited(world: ShardWorld) -> Any:
    at = datetime.fromtimestamp(START_MS / 1000, UTC)
    return audit_day(session=TradingSession.objects.get(), day=at.date(), now=at, segments=world.tools.segments)


def open_positions() -> int:
    return Position.objects.filter(status=Position.Status.OPEN).count()


def test_a_day_that_contains_a_flatten_comes_out_equal(tools: drain.Tools) -> None:
    world = eager_world(tools)
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
