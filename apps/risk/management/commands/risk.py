"""`manage.py risk show|halt|reduce|resume|limits`: look at the trading state and the limits, and change them."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from decimal import Decimal
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from apps.engine.risk.words import cents_down, plain
from apps.portfolio.models import Account
from apps.portfolio.selectors import current_session, main_account
from apps.risk.models import TradingState
from apps.risk.report import risk_report
from apps.risk.services import LimitError, change_limits, parse_limits, set_trading_state
from apps.risk.services.limits import RANGES

REFUSED: Final = 2
REASON_MAX: Final = 200
PERSON_MAX: Final = 150
STATES: Final = {"halt": TradingState.HALTED, "reduce": TradingState.REDUCING, "resume": TradingState.ACTIVE}
HELP: Final = {
    "show": "the trading state, what is used of each limit, and who set it",
    "halt": "send nothing any more, exits neither: positions stay unprotected until you resume or reduce",
    "reduce": "open nothing any more; exits go on and protect what is held",
    "resume": "trade again, within the limits",
}


class Command(BaseCommand):
    help = "Show or change what the session may do. Every change is kept with who made it and why."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="show|halt|reduce|resume|limits")
        actions.add_parser("show", help=HELP["show"]).add_argument("--json", action="store_true")
        for name in STATES:
            _ask_why(actions.add_parser(name, help=HELP[name], description=HELP[name]))
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
            self._change_state(account, action, person(options["by"]), reason_given(options["reason"]))
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
        rows = [
            ("equity", f"{_money(report['equity'])} {currency}"),
            ("cash", f"{_money(report['cash'])} {currency}, free {_money(report['free_cash'])}"),
            ("exposure", f"{_money(report['exposure'])} of {_money(report['exposure_limit'])} {currency}"),
            ("open", f"{report['open_positions']} positions, {report['open_orders']} orders"),
        ]
        for name, value in rows:
            self.stdout.write(f"  {name:<10} {value}")
        self._show_limits(report)

    def _show_limits(self, report: dict[str, Any]) -> None:
        why = f"set by {report['limits_set_by']}: {report['limits_reason']}"
        self.stdout.write(f"limits version {report['limits_version']}, {why}")
        for name, value in report["limits"].items():
            self.stdout.write(f"  {name:<24} {value}")

    def _change_state(self, account: Account, action: str, set_by: str, reason: str) -> None:
        to_state = STATES[action]
        done = set_trading_state(account_id=account.pk, to_state=to_state, set_by=set_by, reason=reason)
        if done.change is None:
            self.stdout.write(f"{to_state} already; nothing changed")
            return
        self.stdout.write(f"{done.change.from_state} -> {to_state} by {set_by}: {reason}")
        self.stdout.write(_meaning(to_state, done.open_positions, done.exits_brought_back))

    def _set_limits(self, account: Account, assignments: list[str], set_by: str, reason: str) -> None:
        try:
            changes = parse_limits(assignments)
        except LimitError as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        before, after = change_limits(account_id=account.pk, changes=changes, set_by=set_by, reason=reason)
        self.stdout.write(f"limits version {after.version} by {set_by}: {reason}")
        for name in RANGES:
            old, new = plain(Decimal(getattr(before, name))), plain(Decimal(getattr(after, name)))
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


def _meaning(state: TradingState, positions: int, brought_back: int) -> str:
    held = f"{positions} open position{'' if positions == 1 else 's'}"
    back = f" {brought_back} denied while halted will be raised again." if brought_back else ""
    if state == TradingState.HALTED:
        return f"Nothing is sent any more, exits neither: {held} without stop, target or time limit until you act."
    if state == TradingState.REDUCING:
        return f"Nothing is opened any more; exits go on for {held}.{back}"
    return f"Trading goes on within the limits, with {held}.{back}"


def _money(amount: str) -> str:
    return cents_down(Decimal(amount))
