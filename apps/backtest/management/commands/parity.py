"""`manage.py parity`: a session's day done again from its stream: equal, or the first difference with both sides."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from rich.table import Table

from apps.backtest.terminal import console, one_line
from apps.backtest.values import parse_day
from apps.staff import numbers
from apps.staff.commands import OneLineCommand

if TYPE_CHECKING:
    from apps.backtest.models import ParityAudit

NAME = "parity"
DIFFERS = 1


class Command(OneLineCommand):
    help = "Do a session's day again from its stream and compare. Exit code 1 if something came out differently."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--day", required=True, metavar="DATE", help="such as 2026-11-21, UTC, of the market")
        parser.add_argument("--session", type=int, metavar="N", help="the newest session, if not given")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *_: Any, **options: Any) -> None:
        with one_line(NAME):
            day = parse_day(options["day"])
            from apps.backtest.services.parity import audit_day, session_of  # brings numba

            audit = audit_day(session=session_of(options["session"]), day=day, now=timezone.now())
        row = as_json(audit)
        if options["json"]:
            self.stdout.write(json.dumps(row))
        else:
            _show(self.stdout, row)
        if not audit.holds:
            sys.exit(DIFFERS)


def as_json(audit: ParityAudit) -> dict[str, Any]:
    return {
        "session": audit.session_id,
        "day": audit.day.isoformat(),
        "holds": audit.holds,
        "compared": audit.compared,
        "difference": audit.difference or None,
    }


def _show(out: Any, row: dict[str, Any]) -> None:
    compared = ", ".join(f"{numbers.count(count)} {what}" for what, count in row["compared"].items())
    out.write(f"compared: {compared}\n")
    difference = row["difference"]
    if difference is None:
        out.write(f"session {row['session']} on {row['day']}: live did what the replay does\n")
        return
    table = Table("", "recorded", "replayed", title=f"first difference: {difference['what']} {difference['key']}")
    for name in {**difference["recorded"], **difference["replayed"]}:
        table.add_row(name, str(difference["recorded"].get(name, "")), str(difference["replayed"].get(name, "")))
    console(out).print(table)
