"""Start the ingest worker: write its configuration, become it."""

from __future__ import annotations

import json
import os
import socket
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.bus.streams import entry_order
from apps.market.models import EpochInstrument, FeedEpoch, ShardCursor
from apps.market.selectors import current_epoch

WARMUP_BARS = 60
HOLDER_CHARACTERS_MAX = 100


class Command(BaseCommand):
    help = "Write the ingest's configuration and become the ingest worker, which waits for the feed's lease."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, help="of /health and /metrics")
        parser.add_argument("--standby", action="store_true", help="leave a free lease to the other ingest")

    def handle(self, *_: Any, **options: Any) -> None:
        epoch = current_epoch()
        if epoch is None:
            raise CommandError("no feed epoch: run prepare_session first", returncode=2)
        name, port_name = (
            ("ingest-standby", "standby_http_port") if options["standby"] else ("ingest", "ingest_http_port")
        )
        port = options["port"] if options["port"] is not None else int(settings.RUNTIME.get(port_name) or 0)
        path = settings.DATA_DIR / "run" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)  # it holds the addresses of Redis and PostgreSQL with their passwords
        path.write_text(json.dumps(self._configuration(epoch, name, port)), encoding="utf-8")
        os.execv(sys.executable, [sys.executable, "-m", "workers.ingest", "--config", str(path)])  # noqa: S606  (no shell)

    def _configuration(self, epoch: FeedEpoch, name: str, port: int) -> dict[str, Any]:
        exchange = settings.RUNTIME.get("exchange") or {}
        cursors = ShardCursor.objects.filter(epoch=epoch)
        members = EpochInstrument.objects.filter(epoch=epoch, followed=True).select_related("instrument")
        return {
            "epoch": epoch.pk,
            "shard_count": epoch.shard_count,
            "lease": {
                "database_url": settings.DATABASE_URL,
                "holder": f"{name} ({socket.gethostname()}, process {os.getpid()})"[:HOLDER_CHARACTERS_MAX],
                "standby": name != "ingest",
            },
            "ws_url": exchange.get("ws_url") or settings.EXCHANGE_WS_URL,
            "rest_url": exchange.get("rest_url") or settings.EXCHANGE_REST_URL,
            "redis_url": settings.REDIS_URL,
            "drain_task": settings.PIPELINE_ROUTES["MarketDataPublished"],
            "http_host": "127.0.0.1",
            "http_port": port,
            "symbols": [
                {
                    "symbol": row.instrument.symbol,
                    "price_decimals": row.instrument.price_decimals,
                    "quantity_decimals": row.instrument.quantity_decimals,
                }
                for row in members.order_by("instrument__symbol")
            ],
            "warmup_bars": WARMUP_BARS,
            "first_entry_ids": {
                str(cursor.shard): max(cursor.seen_through, cursor.replay_from, key=entry_order) for cursor in cursors
            },
        }
