"""`manage.py risk show|halt|reduce|resume|flatten|limits`: look at trading states and limits, and change them."""

from __future__ import annotations

import getpass
import json
import time
from argparse import ArgumentParser
from decimal import Decimal
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from apps.engine.risk.words import cents_down
from apps.portfolio.models import Account
from apps.portfolio.selectors import current_session, main_account
from apps.risk.models import Scope, TradingState
from apps.risk.report import risk_report
from apps.risk.services import LimitError, change_limits, parse_limits, refuse_limits, set_trading_state
from apps.risk.services.flattening import flatten
from apps.risk.services.limits import NAMES, limit_text
from apps.risk.services.refusals import refuse_state
from apps.risk.services.states import StateRefused
from apps.risk.words import meaning, sold_words

REFUSED: Final = 2
REASON_MAX: Final = 200
PERSON_MAX: Final = 150
STATES: Final = {"halt": TradingState.HALTED, "reduce": TradingState.REDUCING, "resume": TradingState.ACTIVE}
HELP: Final = {
    "show": "every trading state that is not ACTIVE, the open trips, and what is used of each limit",
    "halt": "send nothing any more, exits neither: positions stay unprotected until you resume or reduce",
    "reduce": "open nothing any more; exits go on and protect what is held",
    "resume": "trade again, within the limits; refused while the cause of a trip persists",
    "flatten": "open nothing any more and sell every open position; refused while halted, because exits stop too",
}


class Command(BaseCommand):
    help = "Show or change what the session may do. Every change is kept with who made it and why."
    requires_system_checks = ()  # they take half a second, and none may stand between a person and a halt

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="show|halt|reduce|resume|flatten|limits")
        actions.add_parser("show", help=HELP["show"]).add_argument("--json", action="store_true")
        for name in STATES:
            parser = actions.add_parser(name, help=HELP[name], description=HELP[name])
            about = parser.add_mutually_exclusive_group()
            about.add_argument("--strategy", default="", help="only what this strategy opened and would open")
            about.add_argument("--symbol", default="", type=str.upper, help="only this symbol")
            _ask_why(parser)
        _ask_why(actions.add_parser("flatten", help=HELP["flatten"], description=HELP["flatten"]))
        limits = actions.add_parser("limits", help="show the limits, or set some of them as a new version")
        changes = limits.add_subparsers(dest="change", metavar="set")
        setting = changes.add_parser("set", help="name=value ..., fractions of equity unless the name says otherwise")
        setting.add_argument("assignments", nargs="+", metavar="name=value")
        _ask_why(setting)

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        account = _account()
        if action == "show":
            self._show(account, as_json=options["json"])
        elif action in STATES:
            self._change_state(account, action, options)
        elif action == "flatten":
            self._flatten(account, person(options["by"]), reason_given(options["reason"]))
        elif options["change"] == "set":
            self._set_limits(account, options["assignments"], person(options["by"]), reason_given(options["reason"]))
        else:
            self._show_limits(risk_report(account))

    def _show(self, account: Account, *, as_json: bool) -> None:
        report = risk_report(account)
        if as_json:
            self.stdout.write(json.dumps(report, indent=2))
            return
        currency = report["currency"]
        by = f" by {report['state_set_by']}: {report['state_reason']}" if report["state_set_by"] else ""
        self.stdout.write(f"{report['trading_state']} since {report['state_since'][:16].replace('T', ' ')} UTC{by}")
        self._show_scopes(report)
        rows = [
            ("equity", f"{_money(report['equity'])} {currency}"),
            ("cash", f"{_money(report['cash'])} {currency}, free {_money(report['free_cash'])}"),
            ("exposure", f"{_money(report['exposure'])} of {_money(report['exposure_limit'])} {currency}"),
            ("open", f"{report['open_positions']} positions, {report['open_orders']} orders"),
        ]
        for name, value in rows:
            self.stdout.write(f"  {name:<10} {value}")
        self._show_limits(report)

    def _show_scopes(self, report: dict[str, Any]) -> None:
        for row in report["scopes"]:
            self.stdout.write(f"{row['scope']} {row['subject']}: {row['trading_state']} {row['words']}")
        for trip in report["trips"]:
            about = f" for {trip['subject']}" if trip["subject"] else ""
            at = trip["at"][:16].replace("T", " ")
            self.stdout.write(f"trip {trip['cause']}{about}, {trip['to_state']} since {at} UTC: {trip['reason']}")
            self.stdout.write(f"  way back: {trip['way_back']}")

    def _show_limits(self, report: dict[str, Any]) -> None:
        why = f"set by {report['limits_set_by']}: {report['limits_reason']}"
        self.stdout.write(f"limits version {report['limits_version']}, {why}")
        for name, value in report["limits"].items():
            self.stdout.write(f"  {name:<24} {value}")

    def _change_state(self, account: Account, action: str, options: dict[str, Any]) -> None:
        to_state, set_by, reason = STATES[action], person(options["by"]), reason_given(options["reason"])
        scope, subject = _scope(options)
        try:
            done = set_trading_state(
                account_id=account.pk, to_state=to_state, set_by=set_by, reason=reason, scope=scope, subject=subject
            )
        except StateRefused as refused:
            raise _refused(account, to_state, refused, set_by, reason, (scope, subject)) from refused
        about = f"{subject}: " if subject else ""
        if done.change is None:
            self.stdout.write(f"{about}{to_state} already; nothing changed")
            return
        self.stdout.write(f"{about}{done.change.from_state} -> {to_state} by {set_by}: {reason}")
        self.stdout.write(meaning(to_state, done))

    def _flatten(self, account: Account, set_by: str, reason: str) -> None:
        try:
            done = flatten(account_id=account.pk, set_by=set_by, reason=reason, now_ms=time.time_ns() // 1_000_000)
        except StateRefused as refused:
            raise _refused(account, "flatten", refused, set_by, reason, (Scope.ACCOUNT, "")) from refused
        self.stdout.write(sold_words(done))

    def _set_limits(self, account: Account, assignments: list[str], set_by: str, reason: str) -> None:
        try:
            changes = parse_limits(assignments)
            before, after = change_limits(account_id=account.pk, changes=changes, set_by=set_by, reason=reason)
        except LimitError as error:
            refuse_limits(account=account, asked=assignments, set_by=set_by, reason=reason, why=str(error))
            raise CommandError(str(error), returncode=REFUSED) from error
        self.stdout.write(f"limits version {after.version} by {set_by}: {reason}")
        for name in NAMES:
            old, new = limit_text(before, name), limit_text(after, name)
            if old != new:
                self.stdout.write(f"  {name:<24} {old} -> {new}")


def _ask_why(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, help="one line, kept with the change")
    parser.add_argument("--by", default="", help="who decides this (default: your user name)")


def _account() -> Account:
    session = current_session()
    account = main_account(session) if session else None
    if account is None:
        raise CommandError("no session is running: start one with `make demo` or `make up`", returncode=REFUSED)
    return account


def person(name: str) -> str:
    try:
        person = name.strip() or getpass.getuser()
    except (KeyError, OSError) as error:
        raise CommandError("your user has no name here: say who decides with --by", returncode=REFUSED) from error
    if len(person) > PERSON_MAX:
        raise CommandError(f"--by must have at most {PERSON_MAX} characters", returncode=REFUSED)
    return person


def reason_given(text: str) -> str:
    reason = " ".join(text.split())
    if not reason or len(reason) > REASON_MAX:
        raise CommandError(f"--reason must have 1 to {REASON_MAX} characters", returncode=REFUSED)
    return reason


def _refused(
    account: Account, asked: str, refused: StateRefused, set_by: str, reason: str, about: tuple[Scope, str]
) -> CommandError:
    """Keep the refusal, and say it in one line."""
    refuse_state(
        account=account, asked=asked, set_by=set_by, reason=reason, why=str(refused), scope=about[0], subject=about[1]
    )  # fmt: skip
    return CommandError(f"refused: {refused}", returncode=REFUSED)


def _scope(options: dict[str, Any]) -> tuple[Scope, str]:
    if options["strategy"]:
        return Scope.STRATEGY, options["strategy"]
    return (Scope.SYMBOL, options["symbol"]) if options["symbol"] else (Scope.ACCOUNT, "")


def _money(amount: str) -> str:
    return cents_down(Decimal(amount))
