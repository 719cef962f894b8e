"""`manage.py reconcile [approve|dismiss ID --reason WHY]`: compare our books with the venue's, now."""

from __future__ import annotations

import getpass
import json
import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any, Final

from django.core.management.base import CommandError
from rich.console import Console
from rich.table import Table

from apps.engine.risk.words import plain
from apps.execution.models import ReconcileDifference, ReconcileRun
from apps.execution.selectors import open_differences
from apps.execution.services.reconciling import DifferenceRefused, approve, dismiss, reconcile
from apps.execution.venues.base import VenueUnclear
from apps.portfolio.selectors import current_session, main_account
from apps.staff.commands import REFUSED, OneLineCommand

SCOPES: Final = [scope.value for scope in ReconcileRun.Scope]
COLUMNS: Final = ("id", "kind", "subject", "ours", "venue", "correction", "size", "state")


class Command(OneLineCommand):
    help = (
        "Compare orders, fills and balances with the venue's, correct what is small, show what differs. "
        "Exit code 0: equal, 1: something differs or nothing could be compared, 2: wrong input."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--scope", choices=SCOPES, default="all", help="how much is compared (all)")
        parser.add_argument("--json", action="store_true")
        actions = parser.add_subparsers(dest="action", metavar="[approve|dismiss]")
        for name, words in (("approve", "correct an open difference as proposed"), ("dismiss", "let one stand")):
            deciding = actions.add_parser(name, help=words, description=words)
            deciding.add_argument("id", type=int)
            deciding.add_argument("--reason", required=True, help="one line, kept with it")
            deciding.add_argument("--by", default="", help="who decides this (default: your user name)")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["action"]:
            self._decide(options)
            return
        session = current_session()
        account = main_account(session) if session else None
        if account is None:
            raise CommandError("no session is running: start one with `make demo` or `make up`", returncode=REFUSED)
        run = reconcile(
            account_id=account.pk,
            scope=options["scope"],
            clock=lambda: time.time_ns() // 1_000_000,
            wait=time.sleep,
        )
        rows = list(run.found.all()) + [row for row in open_differences(account.pk) if row.run_id != run.pk]
        self._show(run, rows, as_json=options["json"])
        if run.outcome != ReconcileRun.Outcome.CLEAN:
            sys.exit(1)

    def _show(self, run: ReconcileRun, rows: list[ReconcileDifference], *, as_json: bool) -> None:
        if as_json:
            facts = {name: getattr(run, name) for name in ("scope", "outcome", "compared", "corrected", "detail")}
            self.stdout.write(json.dumps({"run": run.pk, **facts, "differences": [_row(row) for row in rows]}))
            return
        compared = ", ".join(f"{count} {what}" for what, count in run.compared.items()) or "0"
        detail = f" ({run.detail})" if run.detail else ""
        self.stdout.write(f"{run.get_outcome_display().lower()}: compared {compared}{detail}")
        if rows:
            table = Table(*COLUMNS, box=None)
            for row in rows:
                table.add_row(*(str(value) for value in _row(row).values()))
            Console(file=self.stdout, width=200).print(table)  # type: ignore[arg-type]  # it writes like a file

    def _decide(self, options: dict[str, Any]) -> None:
        by = options["by"].strip() or getpass.getuser()
        now = datetime.now(UTC)
        decide = {"approve": approve, "dismiss": dismiss}[options["action"]]
        try:
            row = decide(difference_id=options["id"], by=by, reason=options["reason"].strip(), now=now)
        except (DifferenceRefused, VenueUnclear) as refused:
            raise CommandError(str(refused), returncode=REFUSED) from refused
        self.stdout.write(f"{row}: {row.get_state_display()} by {by}: {row.reason}")


def _row(row: ReconcileDifference) -> dict[str, Any]:
    size = "unknown" if row.size is None else plain(row.size)
    return {
        "id": row.pk,
        "kind": row.kind,
        "subject": row.subject,
        "ours": row.ours,
        "venue": row.venue,
        "correction": row.correction,
        "size": size,
        "state": row.state,
    }
