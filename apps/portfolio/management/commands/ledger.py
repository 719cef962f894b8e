"""`manage.py ledger show|balances|correct`: the ledger of an account, and legs that put right what was wrong."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from django.core.management.base import CommandError

from apps.engine.portfolio import Leg, LegKind
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account, Correction, LedgerEntry, TradingSession
from apps.portfolio.selectors import current_session, ledger_balances, main_account
from apps.portfolio.services import CorrectionRefused, lock_account, post_correction, reversal_legs, save_account
from apps.staff import numbers, times
from apps.staff.commands import REFUSED, OneLineCommand, person

SHOWN: Final = 40
HELP: Final = {
    "show": "the newest legs, or all legs of one reference, and why there is a correction",
    "balances": "what the account owns by currency, and what was paid as fees",
    "correct": "append legs that sum to zero in each currency, or take a reference back; a second person approves",
}
NO_ACCOUNT: Final = (
    "no session is running: name one with --session (`manage.py session list` shows them), "
    "or start one with `make demo` or `make up`"
)


class Command(OneLineCommand):
    help = "Look at the ledger and correct it. Nothing in it is ever changed or deleted: corrections are further legs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="show|balances|correct")
        made = {name: actions.add_parser(name, help=words, description=words) for name, words in HELP.items()}
        for action in made.values():
            action.add_argument("--session", type=int, help="of this session (default: the running one)")
        for name in ("show", "balances"):
            made[name].add_argument("--json", action="store_true")
        made["show"].add_argument("--reference", default="", help="such as trade:paper:17 or correction:1")
        made["show"].add_argument("--limit", type=int, default=SHOWN, help=f"legs at most (default {SHOWN})")
        correct = made["correct"]
        correct.add_argument(
            "--leg", action="append", default=[], type=_leg, metavar="KIND:CURRENCY:AMOUNT",
            help="such as cash:USDT:-1.5; kinds are cash, asset, fee, venue, capital",
        )  # fmt: skip
        correct.add_argument("--reverse", default="", metavar="REFERENCE", help="take this reference back instead")
        correct.add_argument("--reason", required=True, help="one line, kept with the correction")
        correct.add_argument("--by", default="", help="who decides this (default: your user name)")
        correct.add_argument("--approved-by", required=True, help="somebody else")

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        account = account_named(options["session"])
        if action == "correct":
            self._correct(account, options)
        elif action == "balances":
            self._balances(account, as_json=options["json"])
        else:
            self._show(account, options)

    def _correct(self, account: Account, options: dict[str, Any]) -> None:
        legs, reverse = options["leg"], options["reverse"]
        if bool(legs) == bool(reverse):
            raise CommandError("say either --leg (two or more) or --reverse", returncode=REFUSED)
        try:
            row = _post(account.pk, legs, reverse, options["reason"], person(options["by"]), options["approved_by"])
        except CorrectionRefused as refused:
            raise CommandError(str(refused), returncode=REFUSED) from refused
        self.stdout.write(f"{row.reference} by {row.made_by}, approved by {row.approved_by}: {row.reason}")
        for line in _lines(LedgerEntry.objects.filter(account=account, reference=row.reference).order_by("leg")):
            self.stdout.write(line)

    def _balances(self, account: Account, *, as_json: bool) -> None:
        owned = ledger_balances(account)
        if as_json:
            rows = {currency: numbers.plain(amount) for currency, amount in owned.items()}
            self.stdout.write(json.dumps({"account": str(account), "currency": account.currency, "balances": rows}))
            return
        for currency, amount in owned.items():
            note = "cash" if currency == account.currency else "owed" if amount < 0 else "held"
            self.stdout.write(f"  {currency:<10} {numbers.exact(amount, decimals=2):>28}  {note}")

    def _show(self, account: Account, options: dict[str, Any]) -> None:
        rows = LedgerEntry.objects.filter(account=account).order_by("-id")
        if options["reference"]:
            rows = rows.filter(reference=options["reference"])
            if not rows.exists():
                words = f"the ledger of {account} has no {options['reference']}"
                raise CommandError(words, returncode=REFUSED)
        shown = list(rows[: max(options["limit"], 1)])[::-1]
        if options["json"]:
            self.stdout.write(json.dumps([_json(row) for row in shown], indent=2))
            return
        for line in _lines(shown):
            self.stdout.write(line)
        names = {row.reference for row in shown}
        for found in Correction.objects.filter(account=account).order_by("number"):
            if found.reference in names:
                back = f", takes back {found.reverses}" if found.reverses else ""
                self.stdout.write(
                    f"{found.reference} by {found.made_by}, approved by {found.approved_by}{back}: {found.reason}"
                )


def _post(account_id: int, legs: Sequence[Leg], reverse: str, reason: str, by: str, approved_by: str) -> Correction:
    def write() -> Correction:
        account = lock_account(account_id)
        moved = reversal_legs(account, reverse) if reverse else legs
        row = post_correction(
            account=account, legs=moved, reason=reason, by=by, approved_by=approved_by, reverses=reverse
        )
        save_account(account)
        return row

    return retry_tx(write)


def _leg(text: str) -> Leg:
    parts = text.split(":")
    try:
        kind, currency, amount = parts
        return Leg(LegKind(kind), currency.upper(), Decimal(amount))
    except (ValueError, InvalidOperation) as error:
        raise ArgumentTypeError(f"{text!r} is no leg such as cash:USDT:-1.5") from error


def account_named(number: int | None) -> Account:
    """The main account of a session, or of the running one. Raises `CommandError`."""
    session = current_session() if number is None else TradingSession.objects.filter(pk=number).first()
    if session is None and number is not None:
        raise CommandError(f"there is no session {number}: `manage.py session list` shows them", returncode=REFUSED)
    account = main_account(session) if session else None
    if account is None:
        raise CommandError(NO_ACCOUNT, returncode=REFUSED)
    return account


def _lines(rows: Iterable[LedgerEntry]) -> list[str]:
    return [
        f"  {times.full(row.ts_event)}  {row.reference:<28} {row.kind:<8} "
        f"{numbers.exact(row.amount, decimals=2, signed=True):>28} {row.currency}"
        for row in rows
    ]


def _json(row: LedgerEntry) -> dict[str, Any]:
    return {
        "id": row.pk,
        "reference": row.reference,
        "leg": row.leg,
        "kind": row.kind,
        "currency": row.currency,
        "amount": numbers.plain(row.amount),
        "ts_event": row.ts_event,
    }
