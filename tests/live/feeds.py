"""What an ingest would write about itself, and a market whose ledger has every kind of minute."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import redis
from django.utils import timezone

from apps.bus.streams import feed_state_key
from apps.market.models import Bar, Coverage, FeedEpoch, ShardCursor
from tests import factories

DEALS = "spot@public.aggre.deals.v3.api.pb@100ms@"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def connection(number: int = 1, *, age_ms: int = 100, **fields: Any) -> dict[str, Any]:
    """A connection that streams XRPUSDT and last heard of the exchange `age_ms` ago."""
    at = now_ms()
    return {
        "name": f"connection {number}",
        "state": "STREAMING",
        "reason": None,
        "since_ms": at - 3_600_000,
        "opened_ms": at - 3_600_000,
        "last_frame_ms": at - age_ms,
        "last_pong_ms": at - age_ms,
        "symbols": ["XRPUSDT"],
        "subscriptions": 30,
        "bytes_in": 48_211_000,
        "rotations": 2,
        **fields,
    }


def write_report(client: redis.Redis, epoch_id: int, *connections: dict[str, Any], **fields: Any) -> None:
    at = now_ms()
    body = {
        "token": 10**9,
        "written_ms": at,
        "connections": list(connections) or [connection()],
        "last_trade_ms": at - 400,
        "standby": True,
        "ring": {"trades": 0, "oldest_ms": None, "overflowed": 0},
        "repairs": {"waiting": 2, "filled": 118, "failed": 1},
        "budget": {"taken": 1234, "waited_seconds": 2.5, "blocked_seconds": 0.0, "alone": False, "per_10_seconds": 150},
        **fields,
    }
    client.set(feed_state_key(epoch_id), json.dumps(body), px=60_000)


def refused(*symbols: str) -> dict[str, str]:
    return {DEALS + symbol: "Not Subscribed successfully! Reason: Blocked!" for symbol in symbols}


def make_minutes(epoch: FeedEpoch, symbols: list[str], minutes: int, *, last: int) -> None:
    """Bars of every symbol for the `minutes` up to `last`; the second has UNPROVEN and BACKFILLED ones among them.

    The first half of the first symbol's minutes has been compared with klines.
    """
    bars: list[Bar] = []
    for number, symbol in enumerate(symbols):
        instrument = factories.InstrumentFactory.create(source=epoch.source, symbol=symbol)
        swept = last - minutes // 2 if number == 0 else None
        if not epoch.members.filter(instrument=instrument).update(swept_minute=swept):
            factories.EpochInstrumentFactory.create(epoch=epoch, instrument=instrument, swept_minute=swept)
        bars += [
            factories.BarFactory.build(epoch=epoch, instrument=instrument, minute=minute, volume=1, turnover=1)
            for minute in range(last - minutes + 1, last + 1)
        ]
        if number == 1:
            _hole(epoch, instrument, last)
    Bar.objects.bulk_create(bars, batch_size=5_000)
    ShardCursor.objects.filter(epoch=epoch).update(closed_minute=last, watermark_ms=(last + 1) * 60_000)


def _hole(epoch: FeedEpoch, instrument: Any, last: int) -> None:
    """Two UNPROVEN minutes of one gap, an hour and a half before the end, and ten BACKFILLED ones before that."""
    first = last - 90
    gap = factories.GapFactory.create(epoch=epoch, instrument=instrument, first_minute=first, last_minute=first + 1)
    due = timezone.now() + timedelta(seconds=45)
    for minute in (first, first + 1):
        factories.CoverageFactory.create(
            epoch=epoch, instrument=instrument, minute=minute, gap=gap, reason="no_pong", attempts=3,
            next_attempt_at=due, detail="failed: volume 99.5 here, 100 there",
        )  # fmt: skip
    for minute in range(first - 60, first - 50):
        factories.CoverageFactory.create(
            epoch=epoch,
            instrument=instrument,
            minute=minute,
            status=Coverage.Status.BACKFILLED,
            reason="network_error",
        )
