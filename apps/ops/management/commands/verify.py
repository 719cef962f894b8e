"""Prove the running session against its invariants."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from rich.console import Console
from rich.table import Table

from apps.engine.instrument_specs import RecordingError
from apps.engine.recording import Recording
from apps.ops.verify import again_checks, chain_checks, money_checks, recordings, stream_checks
from apps.ops.verify.derived import derive
from apps.ops.verify.result import Check
from apps.portfolio.models import TradingSession
from apps.portfolio.selectors import current_session
from apps.signals.models import SessionStrategy

STATEMENT_TIMEOUT_MS = 300_000


class Command(BaseCommand):
    help = "Check the invariants of the current session against what is stored. Exit code 1 if one does not hold."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")
        parser.add_argument(
            "--replay", action="append", default=[], metavar="FILE", help="compare trades with this recording"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        names = [name for group in options["replay"] for name in group.split(",")]
        try:
            recording = recordings.read([Path(name) for name in names]) if names else None
        except (RecordingError, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
        with transaction.atomic():
            with connection.cursor() as cursor:  # one snapshot for every check, also while the stack runs
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
                # Between two questions everything is derived again, which may take longer than a task may rest.
                cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = {STATEMENT_TIMEOUT_MS}")
            session = current_session()
            if session is None:
                raise CommandError("there is no session to verify: start one with `make demo`", returncode=1)
            checks = run_checks(session, recording)
        rows = [check.row() for check in checks]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
        else:
            self._table(rows)
        if not all(check.ok for check in checks):
            sys.exit(1)

    def _table(self, rows: list[dict[str, object]]) -> None:
        table = Table("invariant", "holds", "compared", "detail")
        for row in rows:
            table.add_row(str(row["id"]), "yes" if row["ok"] else "NO", f"{row['compared']:,}", str(row["detail"]))
        Console().print(table)


def run_checks(session: TradingSession, recording: Recording | None) -> list[Check]:
    bindings = list(
        SessionStrategy.objects.filter(session=session).select_related("version__strategy", "session").order_by("id")
    )
    now_ms = time.time_ns() // 1_000_000
    shards = derive(epoch_id=session.epoch_id, segments=settings.SEGMENTS_DIR, bindings=bindings)
    return [
        stream_checks.check_cursors(shards),
        stream_checks.check_trades(shards, recording),
        stream_checks.check_derivation(shards, session),
        money_checks.check_decisions(session),
        money_checks.check_money(session),
        money_checks.check_exposure(session),
        chain_checks.check_chain(session, now_ms),
        again_checks.check_again(session),
        chain_checks.check_endings(session, now_ms),
    ]
