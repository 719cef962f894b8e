"""`manage.py recover redis|rollback|database`: make a running stack whole again after a loss, one command each."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any, Final

from django.conf import settings
from django.core.management.base import CommandError

from apps.bus import clients
from apps.ops.services.starting import StartFailed, Tools, begin_incarnation, start_trading
from apps.staff.commands import OneLineCommand

WHAT: Final = {
    "redis": "Redis is empty: it was emptied, or its file was lost",
    "rollback": "Redis is older than it was: an old file, or a replica that was behind, took its place",
    "database": "PostgreSQL is older than it was: it was restored from a backup, by other means than `stack restore`",
}


class Command(OneLineCommand):
    help = (
        "After a loss: hold trading, rebuild Redis from PostgreSQL and segments, drain, reconcile, prove, resume. "
        "Exit code 0: trading goes on as before; 1: a step failed, trading is HALTED, and the reason is said."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        losses = parser.add_subparsers(dest="loss", required=True, metavar="|".join(WHAT))
        for name, words in WHAT.items():
            losses.add_parser(name, help=words, description=words).add_argument("--json", action="store_true")

    def handle(self, *_: Any, loss: str, json: bool, **__: Any) -> None:
        if loss == "database":
            self._say(f"incarnation {begin_incarnation('restored by other means')} of the database", quiet=json)
        tools = Tools(
            reader=clients.reader(settings.REDIS_URL),
            writer=clients.writer(settings.REDIS_URL),
            segments=settings.SEGMENTS_DIR,
            engine_hash=settings.ENGINE_HASH,
            clock=lambda: time.time_ns() // 1_000_000,
            elapsed=lambda: time.time_ns() / 1_000_000_000,
            wait=time.sleep,
        )
        try:
            row = start_trading(tools=tools, cause=loss)
        except StartFailed as failed:
            raise CommandError(f"trading stays HALTED: {failed}", returncode=1) from failed
        if json:
            self.stdout.write(_as_json(row.steps, row.reason))
            return
        for step in row.steps:
            self.stdout.write(f"  {step['name']:<12} {step['seconds']:6.2f} s  {step['detail']}")
        self.stdout.write(row.reason or "trading goes on")

    def _say(self, words: str, *, quiet: bool) -> None:
        if not quiet:
            self.stdout.write(words)


def _as_json(steps: list[dict[str, Any]], reason: str) -> str:
    return json.dumps({"ok": True, "reason": reason, "steps": steps})
