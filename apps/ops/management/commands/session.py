"""`manage.py session start|stop|report|list`: blocks of paper trading, from their configuration to their report."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser
from typing import Any, Final

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections
from django.utils import timezone

from apps.engine.tiers import LADDER
from apps.ops.selectors.session_figures import figures_of
from apps.ops.services.session_ends import EndRefused, Open, end_session, open_of, wind_down
from apps.ops.session_words import lines_of
from apps.ops.stack.manager import REPOSITORY
from apps.ops.stack.runtime import block_fault
from apps.portfolio.models import SessionReport, TradingSession
from apps.portfolio.selectors import current_session, main_account
from apps.risk.services import StateRefused
from apps.risk.services.flattening import flatten
from apps.staff.commands import REFUSED, OneLineCommand, person

NO_SESSION: Final = (
    "no session is running, so nothing is traded: `manage.py stack restart --new-session` begins one, "
    "`make demo` or `make up` if nothing is started"
)
CHOICES: Final = (
    "say --when-flat (open nothing more, end with the last of them), --flatten (sell them now, then end), "
    "or --leave-open (nobody protects them any more)"
)
REASON_MAX: Final = 200
HELP: Final = {
    "start": "end the running session and begin another: everything is restarted, with a feed epoch of its own",
    "stop": "end the running session and freeze its report; refused while something is open unless you say what of it",
    "report": "the figures of a session: frozen if it has ended, of now if it runs",
    "list": "all sessions, newest first",
}


class Command(OneLineCommand):
    help = "Begin, end and report trading sessions. A session that has ended trades no more and keeps its figures."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="start|stop|report|list")
        start = actions.add_parser("start", help=HELP["start"], description=HELP["start"])
        start.add_argument("--name", default="", help="else its time and market")
        start.add_argument("--days", type=int, help="it ends by itself after so many days, with its last position")
        start.add_argument("--tier", type=str.upper, choices=[str(tier) for tier in LADDER])
        start.add_argument("--leave-open", action="store_true", help="even if the session before has something open")
        stop = actions.add_parser("stop", help=HELP["stop"], description=HELP["stop"])
        how = stop.add_mutually_exclusive_group()
        how.add_argument("--when-flat", action="store_true", help="open nothing more; end with the last position")
        how.add_argument("--flatten", action="store_true", help="sell every position now, then end")
        how.add_argument("--leave-open", action="store_true", help="end now; what is open stays open, unprotected")
        for action in (start, stop):
            action.add_argument("--reason", default="", help="one line, kept with the end of the session")
            action.add_argument("--by", default="", help="who decides this (default: your user name)")
        report = actions.add_parser("report", help=HELP["report"], description=HELP["report"])
        report.add_argument("session", nargs="?", type=int, help="its number (default: the newest)")
        report.add_argument("--json", action="store_true")
        actions.add_parser("list", help=HELP["list"], description=HELP["list"]).add_argument(
            "--json", action="store_true"
        )

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        if action == "start":
            self._start(options)
        elif action == "stop":
            self._stop(options)
        elif action == "report":
            self._report(options)
        else:
            self._list(as_json=options["json"])

    # --- start and stop -----------------------------------------------------------------------------------------------

    def _start(self, options: dict[str, Any]) -> None:
        """End what runs, then let `stack restart` do the rest in place of this process, which holds connections."""
        if fault := block_fault(options["name"], options["days"]):
            raise CommandError(fault, returncode=REFUSED)
        session = current_session()
        if session is not None:
            _refuse_open(open_of(session), leave_open=options["leave_open"])
            why = options["reason"] or f"{options['name'] or 'another session'} begins"
            self._end(session, {**options, "reason": why, "leave_open": options["leave_open"]})
        arguments = ["restart", "--new-session"]
        arguments += ["--name", options["name"]] if options["name"] else []
        arguments += ["--days", str(options["days"])] if options["days"] is not None else []
        arguments += ["--tier", options["tier"]] if options["tier"] else []
        self.restart(arguments)

    def restart(self, arguments: list[str]) -> None:
        """Replace this process by `manage.py stack ...`, which stops and starts everything. Does not return."""
        connections.close_all()
        sys.stdout.flush()
        manage = str(REPOSITORY / "manage.py")
        environment = {**os.environ, "CDB_DATA_DIR": str(settings.DATA_DIR)}
        os.execve(sys.executable, [sys.executable, manage, "stack", *arguments], environment)  # noqa: S606

    def _stop(self, options: dict[str, Any]) -> None:
        session = _running()
        left = open_of(session)
        if options["flatten"]:
            self._flatten(session, options)
        if (options["when_flat"] or options["flatten"]) and left:
            by, why = person(options["by"]), _reason(options["reason"]) or "stopped by hand"
            wind_down(session=session, by=by, reason=f"{session} winds down: {why}", now=timezone.now())
            self.stdout.write(f"{session} opens nothing any more and ends with the last of {left.words}")
            return
        _refuse_open(left, leave_open=options["leave_open"])
        self._end(session, options)

    def _flatten(self, session: TradingSession, options: dict[str, Any]) -> None:
        account = main_account(session)
        if account is None:
            return
        why, now_ms = _reason(options["reason"]) or "the session stops", time.time_ns() // 1_000_000
        try:
            done = flatten(account_id=account.pk, set_by=person(options["by"]), reason=why, now_ms=now_ms)
        except StateRefused as refused:
            raise CommandError(str(refused), returncode=REFUSED) from refused
        self.stdout.write(f"{len(done.raised)} exits raised, {done.on_the_way} on their way already")

    def _end(self, session: TradingSession, options: dict[str, Any]) -> None:
        by, why = person(options["by"]), _reason(options["reason"]) or "stopped by hand"
        try:
            report = end_session(
                session_id=session.pk, by=by, reason=why, now=timezone.now(), leave_open=options["leave_open"]
            )
        except (EndRefused, StateRefused) as refused:
            raise CommandError(str(refused), returncode=REFUSED) from refused
        for line in lines_of(report.figures, frozen=True):
            self.stdout.write(line)

    # --- report and list ----------------------------------------------------------------------------------------------

    def _report(self, options: dict[str, Any]) -> None:
        session = _session(options["session"])
        report = SessionReport.objects.filter(session=session).first()
        figures = figures_of(session, timezone.now()) if report is None else report.figures
        if options["json"]:
            self.stdout.write(json.dumps({"frozen": report is not None, **figures}, indent=2))
            return
        for line in lines_of(figures, frozen=session.ended_at is not None):
            self.stdout.write(line)

    def _list(self, *, as_json: bool) -> None:
        rows = [_row(row) for row in TradingSession.objects.select_related("epoch", "report").order_by("-id")]
        if as_json:
            self.stdout.write(json.dumps(rows, indent=2))
            return
        if not rows:
            self.stdout.write(NO_SESSION)
        for row in rows:
            state = "runs" if row["ended_at"] is None else f"ended {row['ended_at'][:16].replace('T', ' ')} UTC"
            net = f", net {row['net']}" if row["net"] is not None else ""
            self.stdout.write(f"{row['session']:>4}  {row['name']}  {row['tier']}  {row['market']}  {state}{net}")


def _refuse_open(left: Open, *, leave_open: bool) -> None:
    if left and not leave_open:
        raise CommandError(f"the session has {left.words}: {CHOICES}", returncode=REFUSED)


def _running() -> TradingSession:
    session = current_session()
    if session is None:
        raise CommandError(NO_SESSION, returncode=REFUSED)
    return session


def _session(number: int | None) -> TradingSession:
    rows = TradingSession.objects.select_related("epoch").order_by("-id")
    found = rows.first() if number is None else rows.filter(pk=number).first()
    if found is None:
        raise CommandError(NO_SESSION if number is None else f"there is no session {number}", returncode=REFUSED)
    return found


def _row(session: TradingSession) -> dict[str, Any]:
    report = getattr(session, "report", None)
    return {
        "session": session.pk,
        "name": session.name,
        "tier": session.tier,
        "market": session.epoch.kind,
        "started_at": session.started_at.isoformat(),
        "ends_at": None if session.ends_at is None else session.ends_at.isoformat(),
        "ended_at": None if session.ended_at is None else session.ended_at.isoformat(),
        "net": None if report is None else report.figures.get("net"),
    }


def _reason(text: str) -> str:
    reason = " ".join(text.split())
    if len(reason) > REASON_MAX:
        raise CommandError(f"--reason must have at most {REASON_MAX} characters", returncode=REFUSED)
    return reason
