"""A drain that was warm when a session ended goes on with the market and raises nothing for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings

from apps.market.models import ShardCursor
from apps.portfolio.models import TradingSession
from apps.signals.models import SessionStrategy
from apps.signals.services import exits, state
from tests import factories
from tests.worlds import World, open_world

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db(transaction=True)  # compiling takes longer than a transaction may idle


def judged(world: World) -> SessionStrategy:
    """The world's session runs a strategy of the engine that is here."""
    version = factories.StrategyVersionFactory.create(engine_hash=settings.ENGINE_HASH)
    return SessionStrategy.objects.create(session=world.session, version=version)


def test_a_warm_drain_raises_nothing_more_for_a_session_that_has_ended(tmp_path: Path) -> None:
    world = open_world()
    binding = judged(world)
    factories.PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    cursor = ShardCursor.objects.get(epoch=world.epoch, shard=world.shard())
    warm = state.load(cursor=cursor, segments=tmp_path, engine_hash=settings.ENGINE_HASH)
    assert len(exits.refresh(warm) or {}) == 1
    assert warm.bindings == [binding]
    assert exits.refresh(warm) is None
    TradingSession.objects.update(ended_at=NOW)
    assert exits.refresh(warm) == {}
    assert (warm.bindings, warm.portfolio_epochs) == ([], {})
    assert exits.refresh(warm) is None


def test_other_sessions_of_the_same_feed_go_on(tmp_path: Path) -> None:
    world = open_world()
    judged(world)
    other = factories.TradingSessionFactory.create(epoch=world.epoch)
    factories.AccountFactory.create(session=other)
    kept = SessionStrategy.objects.create(session=other, version=SessionStrategy.objects.get().version)
    cursor = ShardCursor.objects.get(epoch=world.epoch, shard=world.shard())
    warm = state.load(cursor=cursor, segments=tmp_path, engine_hash=settings.ENGINE_HASH)
    exits.refresh(warm)
    TradingSession.objects.filter(pk=world.session.pk).update(ended_at=NOW)
    exits.refresh(warm)
    assert warm.bindings == [kept]
