"""An exchange that refuses every subscription: a real ingest asks it, and every place that people look at says so."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import redis
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import expect

from apps.bus import streams
from apps.market.models import FeedConnection, FeedTransition
from apps.ops.steward.chores import Duties
from tests.admin.rows import Road, make_road
from tests.factories import EpochInstrumentFactory, InstrumentFactory
from tests.ingest.processes import Exchange, Ingest, configuration, wait_until
from tests.live.conftest import Window

pytestmark = pytest.mark.django_db(transaction=True)

WITHIN_SECONDS: Final = 10


@pytest.fixture
def road(transactional_db: None, redis_client: redis.Redis) -> Road:
    road = make_road()
    for symbol in ("BTCUSDT", "XRPUSDT"):
        instrument = InstrumentFactory.create(source=road.session.epoch.source, symbol=symbol)
        EpochInstrumentFactory.create(epoch=road.session.epoch, instrument=instrument)
    return road


@pytest.fixture
def ingest(road: Road, tmp_path: Path) -> Iterator[Ingest]:
    script = tmp_path / "refuse.json"
    script.write_text(json.dumps([{"at_s": 0, "do": "refuse"}]))
    exchange = Exchange([], 1.0, tmp_path, options=["--script", str(script)])
    epoch = {"epoch": road.session.epoch_id, "shard_count": road.session.epoch.shard_count}
    config = configuration(exchange.ws_url, exchange.rest_url, settings.REDIS_URL, **epoch)
    ingest = Ingest(config, tmp_path)
    yield ingest
    ingest.end(signal.SIGKILL)
    exchange.end()


def test_blocked_is_seen_in_health_metrics_admin_and_on_both_pages_within_ten_seconds(
    ingest: Ingest, road: Road, redis_client: redis.Redis, window: Window, admin_client: Client
) -> None:
    wait_until(lambda: redis_client.get(streams.feed_state_key(road.session.epoch_id)), "the ingest reports", 60)
    began = time.monotonic()
    seen: dict[str, float] = {}
    duties = Duties(redis_client, redis_client)
    places: dict[str, Callable[[], bool]] = {
        "health": lambda: "is BLOCKED; BTCUSDT: " in admin_client.get("/health").content.decode(),
        "metric": lambda: 'cdb_feed_connections{state="BLOCKED"} 1.0' in admin_client.get("/metrics").content.decode(),
        "admin": lambda: (
            "BLOCKED" in admin_client.get(reverse("admin:market_feedconnection_changelist")).content.decode()
        ),
    }
    window.open(reverse("live:feed"))

    def everywhere() -> bool:
        duties.note_feed()
        duties.keep_transitions()
        for name, shows in places.items():
            if name not in seen and shows():
                seen[name] = time.monotonic() - began
        return len(seen) == len(places)

    wait_until(everywhere, f"BLOCKED everywhere, so far in {seen}", 30)
    assert max(seen.values()) < WITHIN_SECONDS, seen
    row = window.page.locator("#cdb-feed_connections tr[data-connection]").first
    expect(row).to_contain_text("BLOCKED")
    expect(row).to_contain_text("next attempt in")
    expect(window.page.locator("#cdb-sentence")).to_contain_text('BLOCKED: every subscription is refused ("Blocked!")')
    window.open(reverse("live:board"))
    expect(window.page.locator("#cdb-feed")).to_contain_text("BLOCKED")
    window.check("blocked")
    assert admin_client.get("/health").status_code == 503
    assert FeedConnection.objects.filter(state="BLOCKED", refused__contains={}).exists()
    assert FeedTransition.objects.filter(to_state="BLOCKED", category="blocked").count() == 1
