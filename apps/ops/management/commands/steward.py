"""Run the steward until it is told to stop."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.bus import clients
from apps.engine.timeouts import SCHEMA_LOOK_SECONDS
from apps.ops.schema import differing_schema
from apps.ops.steward.chores import Duties
from apps.ops.steward.loop import Chore, Loop


class Command(BaseCommand):
    help = "Keep the road moving: lost wake-ups, waiting events, stuck orders, the ingest's report, equity, trimming."

    def handle(self, *_: Any, **__: Any) -> None:
        duties = Duties(reader=clients.reader(settings.REDIS_URL), writer=clients.writer(settings.REDIS_URL))
        loop = Loop([*duties.chores(), Chore("look at the schema", SCHEMA_LOOK_SECONDS, refuse_other_schema)])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.stop())
        loop.run()


def refuse_other_schema() -> None:
    """Raises CommandError, which ends this process, if the schema is not the one of its code."""
    if words := differing_schema():
        raise CommandError(words)
