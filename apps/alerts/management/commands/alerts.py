"""`manage.py alerts list|acknowledge`: what somebody has to look at, and saying that somebody did."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import CommandError

from apps.alerts.models import Alert
from apps.alerts.selectors import open_alerts
from apps.alerts.services import AlertRefused, acknowledge
from apps.staff import times
from apps.staff.commands import REFUSED, OneLineCommand

HELP: Final = {"list": "the open alerts, critical ones first", "acknowledge": "say that you have looked at one"}


class Command(OneLineCommand):
    help = "Show open alerts, or acknowledge one with a reason."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(HELP))
        listing = actions.add_parser("list", help=HELP["list"], description=HELP["list"])
        listing.add_argument("--json", action="store_true")
        doing = actions.add_parser("acknowledge", help=HELP["acknowledge"], description=HELP["acknowledge"])
        doing.add_argument("alert", type=int, help="its number")
        doing.add_argument("--reason", required=True, help="one line, kept with it")
        doing.add_argument("--by", default="", help="who has looked (default: your user name)")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["action"] == "list":
            rows = open_alerts()
            found = json.dumps([_as_json(row) for row in rows], indent=2)
            lines = "\n".join(_line(row) for row in rows) or "no alert is open"
            self.stdout.write(found if options["json"] else lines)
            return
        try:
            row = acknowledge(alert_id=options["alert"], by=_person(options["by"]), reason=options["reason"])
        except AlertRefused as refused:
            raise CommandError(str(refused), returncode=REFUSED) from refused
        self.stdout.write(f"{row} is acknowledged by {row.acknowledged_by}: {row.reason}")


def _line(row: Alert) -> str:
    since = times.full(times.to_ms(row.raised_at))
    often = f" ({row.count} times)" if row.count > 1 else ""
    return f"{row.pk:>6}  {row.severity:<8}  {row.kind:<18}  since {since}{often}: {row.words}"


def _as_json(row: Alert) -> dict[str, Any]:
    return {
        "alert": row.pk, "kind": row.kind, "severity": row.severity, "subject": row.subject, "words": row.words,
        "session": row.session_id, "count": row.count, "raised_at": row.raised_at.isoformat(),
        "last_at": row.last_at.isoformat(),
    }  # fmt: skip


def _person(name: str) -> str:
    try:
        return name.strip() or getpass.getuser()
    except (KeyError, OSError) as error:
        raise CommandError("your user has no name here: say who with --by", returncode=REFUSED) from error
