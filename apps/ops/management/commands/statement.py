"""`manage.py statement --day D`: what an account had, what moved it, what it has, line by line to the sum."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any, Final

from django.core.management.base import CommandError

from apps.ops.selectors.results import Result, Sum, grouped
from apps.ops.selectors.statement import NoStatement, Statement, statement_of
from apps.portfolio.management.commands.ledger import account_named
from apps.staff import numbers, times
from apps.staff.commands import REFUSED, OneLineCommand


class Command(OneLineCommand):
    help = "The statement of a trading day. Exit code 1 if a sum is not what its lines add up to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--day", type=_day, required=True, help="2026-11-21, in the limits' time zone")
        parser.add_argument("--session", type=int, help="of this session (default: the running one)")
        parser.add_argument("--json", action="store_true")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            found = statement_of(account=account_named(options["session"]), day=options["day"])
        except NoStatement as refused:
            raise CommandError(str(refused), returncode=REFUSED) from refused
        if options["json"]:
            self.stdout.write(json.dumps(as_json(found), indent=2))
        else:
            for line in lines_of(found):
                self.stdout.write(line)
        if not found.adds_up:
            sys.exit(1)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-11-21") from error


# --- for machines -----------------------------------------------------------------------------------------------------


def as_json(found: Statement) -> dict[str, Any]:
    """Money as exact text, shares of nothing; a value without a price is null."""
    cash, equity = found.cash, found.equity
    return {
        "account": str(found.account),
        "session": found.account.session_id,
        "currency": found.account.currency,
        "day": found.day.isoformat(),
        "zone": found.zone,
        "begin": times.iso(found.begin_ms),
        "end": times.iso(found.end_ms),
        "over": found.over,
        "trades": found.trades,
        "cash": {name: _text(getattr(cash, name)) for name in CASH_LINES},
        "equity": {name: _text(getattr(equity, name)) for name in EQUITY_LINES},
        "fees_by_currency": {name: _text(amount) for name, amount in found.fees_by_currency.items()},
        "corrections": found.corrections,
        "holdings": {coin: _text(amount) for coin, amount in found.holdings.items()},
        "by_symbol": {name: _sum_json(row) for name, row in grouped(found.results, symbol_of).items()},
        "by_strategy": {name: _sum_json(row) for name, row in grouped(found.results, strategy_of).items()},
        "positions": [_result_json(row) for row in found.results],
        "unmarked": list(found.unmarked),
        "unvalued": {coin: _text(amount) for coin, amount in found.unvalued.items()},
        "adds_up": found.adds_up,
    }


CASH_LINES: Final = ("opening", "deposits", "corrections", "bought", "sold", "fees", "other", "closing")
EQUITY_LINES: Final = ("opening", "deposits", "corrections", "realized", "unrealized", "fees", "coins", "closing")


def _sum_json(row: Sum) -> dict[str, Any]:
    amounts = {name: _text(getattr(row, name)) for name in ("realized", "unrealized", "fees")}
    return {"positions": row.positions, **amounts}


def _result_json(row: Result) -> dict[str, Any]:
    return {
        "position": row.position,
        "symbol": row.symbol,
        "strategy": row.strategy,
        "realized": _text(row.realized),
        "unrealized": _text(row.unrealized),
        "fees": _text(row.fees),
        "unvalued": {coin: _text(amount) for coin, amount in row.unvalued.items()},
    }


def symbol_of(row: Result) -> str:
    return row.symbol


def strategy_of(row: Result) -> str:
    return row.strategy


def _text(value: Decimal | None) -> str | None:
    return None if value is None else numbers.plain(value)


# --- for people -------------------------------------------------------------------------------------------------------


def lines_of(found: Statement) -> Iterator[str]:
    """Signs as they count: what went out has a minus, so each column adds up as it stands."""
    currency, cash, equity = found.account.currency, found.cash, found.equity
    span = "the whole day" if found.over else f"through {times.full(found.end_ms)}: the day is not over"
    yield f"{found.account}, {found.day} ({found.zone}), {span}"
    yield f"cash, {currency}"
    yield from _column(
        ("opening", cash.opening), ("deposits", cash.deposits), ("corrections", cash.corrections),
        ("bought", -cash.bought), ("sold", cash.sold), ("fees", -cash.fees), ("other", cash.other),
        ("closing", cash.closing),
    )  # fmt: skip
    yield f"equity, {currency}"
    yield from _column(
        ("opening", equity.opening), ("deposits", equity.deposits), ("corrections", equity.corrections),
        ("realised", equity.realized), ("unrealised", equity.unrealized), ("fees", -equity.fees),
        ("other coins", equity.coins), ("closing", equity.closing),
    )  # fmt: skip
    yield f"trades {found.trades}, corrections {', '.join(found.corrections) or 'none'}"
    fees = ", ".join(f"{numbers.exact(amount)} {coin}" for coin, amount in found.fees_by_currency.items())
    yield f"fees paid: {fees or 'none'}"
    for name, row in grouped(found.results, symbol_of).items():
        yield f"  {name:<14} {_sum_words(row)}"
    for name, row in grouped(found.results, strategy_of).items():
        yield f"  by {name:<11} {_sum_words(row)}"
    yield from _warnings(found)


def _warnings(found: Statement) -> Iterator[str]:
    if found.unmarked:
        yield f"no price is known of {', '.join(found.unmarked)}: what depends on it is not stated"
    if found.unvalued:
        coins = ", ".join(f"{numbers.exact(amount)} {coin}" for coin, amount in found.unvalued.items())
        yield f"not valued: {coins} (no price is known)"
    if not found.adds_up:
        yield "THE LINES DO NOT ADD UP: run `manage.py verify`"


def _column(*rows: tuple[str, Decimal | None]) -> Iterator[str]:
    for label, amount in rows:
        if amount or label in ("opening", "closing"):
            yield f"  {label:<12} {numbers.exact(amount, decimals=2):>24}"


def _sum_words(row: Sum) -> str:
    realized = numbers.exact(row.realized, decimals=2, signed=True)
    unrealized = numbers.exact(row.unrealized, decimals=2, signed=True)
    return f"realised {realized}, unrealised {unrealized}, fees {numbers.exact(row.fees, decimals=2)}"
