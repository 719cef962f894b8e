"""Start the ingest worker: take a token, write its configuration, become it."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.market.models import FeedEpoch, ShardCursor
from apps.market.selectors import current_epoch, epoch_instruments
from apps.market.services.feeds import begin_ingest_run

WARMUP_BARS = 60


class Command(BaseCommand):
    help = "Take a fencing token, write the ingest's configuration and become the ingest worker."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=int(settings.RUNTIME.get("ingest_http_port", 0)))

    def handle(self, *_: Any, **options: Any) -> None:
        epoch = current_epoch()
        if epoch is None:
            raise CommandError("no feed epoch: run prepare_session first", returncode=2)
        token = begin_ingest_run(epoch=epoch).token
        path = settings.DATA_DIR / "run" / f"ingest-{token}.json"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in path.parent.glob("ingest-*.json"):
            old.unlink()
        path.touch(mode=0o600)  # it holds the address of Redis with its password
        path.write_text(json.dumps(self._configuration(epoch, token, options["port"])), encoding="utf-8")
        os.execv(sys.executable, [sys.executable, "-m", "workers.ingest", "--config", str(path)])  # noqa: S606  (no shell)

    def _configuration(self, epoch: FeedEpoch, token: int, port: int) -> dict[str, Any]:
        exchange = settings.RUNTIME.get("exchange") or {}
        cursors = ShardCursor.objects.filter(epoch=epoch)
        return {
            "epoch": epoch.pk,
            "shard_count": epoch.shard_count,
            "token": token,
            "ws_url": exchange.get("ws_url") or settings.EXCHANGE_WS_URL,
            "rest_url": exchange.get("rest_url") or settings.EXCHANGE_REST_URL,
            "redis_url": settings.REDIS_URL,
            "drain_task": settings.PIPELINE_ROUTES["MarketDataPublished"],
            "http_host": "127.0.0.1",
            "http_port": port,
            "symbols": [
                {
                    "symbol": row.symbol,
                    "price_decimals": row.price_decimals,
                    "quantity_decimals": row.quantity_decimals,
                }
                for row in epoch_instruments(epoch_id=epoch.pk)
            ],
            "warmup_bars": WARMUP_BARS,
            "first_entry_ids": {
                str(cursor.shard): max(cursor.seen_through, cursor.replay_from, key=_order) for cursor in cursors
            },
        }


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition("-")
    return int(ms), int(sequence or 0)
