"""What beat sends each minute: the comparison with klines and the choice of symbols of the running feed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from django.conf import settings

from apps.engine import timeouts
from apps.market.models import EpochInstrument, ScreenerRule
from apps.ops import tasks
from cdb_project.celery import app
from tests import factories
from tests.factories import START_MINUTE
from tests.market.answers import Scripted, scripted
from tests.market.ledger import member
from tests.market.test_screener import info, row
from tests.market.test_sweep import reached, told

pytestmark = pytest.mark.django_db


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis) -> Iterator[Scripted]:
    with scripted(klines=told("1"), exchangeInfo=info(row("XRPUSDT"), row("ADAUSDT"))) as server:
        monkeypatch.setitem(settings.RUNTIME, "exchange", {"rest_url": server.url})
        yield server


@pytest.mark.parametrize("task", [tasks.sweep_klines, tasks.choose_symbols])
def test_without_a_feed_there_is_nothing_to_do(exchange: Scripted, task: object) -> None:
    task()  # type: ignore[operator]
    assert exchange.asked == []


def test_the_running_feeds_minutes_are_compared(exchange: Scripted) -> None:
    epoch = factories.FeedEpochFactory.create(shard_count=1)
    xrp = member(epoch, "XRPUSDT")
    factories.BarFactory.create(epoch=epoch, instrument=xrp.instrument, minute=START_MINUTE, volume=1)
    reached(epoch, 1)
    tasks.sweep_klines()
    assert EpochInstrument.objects.get().swept_minute == START_MINUTE


def test_a_live_feeds_symbols_are_chosen(exchange: Scripted) -> None:
    epoch = factories.FeedEpochFactory.create(kind="live")
    member(epoch, "XRPUSDT")
    ScreenerRule.objects.create(mode="fixed", quote_asset="USDT", always=["ADAUSDT"], author="t", reason="t")
    tasks.choose_symbols()
    tasks.choose_symbols()
    assert [one.instrument.symbol for one in EpochInstrument.objects.filter(followed=True)] == ["ADAUSDT"]
    assert len(exchange.asked) == 1  # the pause of the rule is not over


def test_both_are_sent_each_minute_and_expire_before_the_next() -> None:
    for name in ("ops.sweep_klines", "ops.choose_symbols"):
        entry = app.conf.beat_schedule[name]
        assert (entry["schedule"], entry["options"]) == (60, {"expires": 60})


def test_a_comparison_ends_within_its_tasks_time() -> None:
    last_call = timeouts.REST_CONNECT_SECONDS + timeouts.REST_READ_SECONDS
    assert tasks.SWEEP_SECONDS + last_call < timeouts.CELERY_SOFT_LIMIT_SECONDS
