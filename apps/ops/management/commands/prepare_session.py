"""Make or continue the trading session that the stack will run."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.engine.tiers import LADDER
from apps.market.rest import RestError
from apps.market.services.feeds import FeedRefused
from apps.market.services.screener import RuleRefused
from apps.ops.services.sessions import FIRST_TIERS, SessionRefused, Wanted, prepare


class Command(BaseCommand):
    help = "Make or continue the trading session: instruments, feed epoch, account, strategy, limits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--mode", choices=list(FIRST_TIERS), required=True)
        parser.add_argument("--tier", choices=[str(tier) for tier in LADDER], help="what fits the mode, if not given")
        parser.add_argument("--replay-file", action="append", default=[], type=Path)
        parser.add_argument("--rest-url", default=settings.RUNTIME.get("exchange", {}).get("rest_url"))
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--new-session", action="store_true", help="end the running session and begin another")
        parser.add_argument(
            "--venue", choices=["paper", "exchange"], help="where a new session trades; exchange: the local one only"
        )
        parser.add_argument("--ws-url", default=settings.RUNTIME.get("exchange", {}).get("ws_url", ""))
        parser.add_argument("--name", default="", help="of a new session")
        parser.add_argument("--days", type=int, help="a new session ends by itself after so many days")

    def handle(self, *_: Any, **options: Any) -> None:
        wanted = Wanted(
            mode=options["mode"],
            tier=options["tier"] or FIRST_TIERS[options["mode"]],
            rest_url=options["rest_url"] or settings.EXCHANGE_REST_URL,
            shard_count=settings.SHARD_COUNT,
            engine_hash=settings.ENGINE_HASH,
            live_symbols=settings.LIVE_SYMBOLS,
            live_screener=settings.LIVE_SCREENER,
            seed=options["seed"],
            replay_files=tuple(options["replay_file"]),
            new_session=options["new_session"],
            venue=options["venue"],
            ws_url=options["ws_url"],
            name=options["name"],
            days=options["days"],
        )
        try:
            made = prepare(wanted)
        except (SessionRefused, FeedRefused, RuleRefused, RestError, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
        self.stdout.write(
            json.dumps(
                {
                    "session": made.session.pk,
                    "name": made.session.name,
                    "epoch": made.session.epoch_id,
                    "new_epoch": made.epoch_is_new,
                    "new_session": made.session_is_new,
                }
            )
        )
