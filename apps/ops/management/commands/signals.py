"""`manage.py signals`: every signal of the session, with the decision on it."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import QuerySet
from rich.console import Console
from rich.table import Table

from apps.ops.management.commands.funnel import NO_SESSION
from apps.portfolio.selectors import current_session
from apps.signals.models import Signal
from apps.staff import numbers, times

COLUMNS = ("ts_event", "kind", "symbol", "price", "change", "rsi", "decision", "reasons")
WIDTH_MIN = 120


class Command(BaseCommand):
    help = "List the session's signals in event order, entries and exits, with the decision on each."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="a list of objects")

    def handle(self, *_: Any, **options: Any) -> None:
        session = current_session()
        if session is None:
            print(NO_SESSION, file=sys.stderr)
            sys.exit(1)
        rows = [row(signal) for signal in of_session(session.pk)]
        if options["json"]:
            print(json.dumps(rows))
        else:
            _show(rows)


def of_session(session_id: int) -> QuerySet[Signal]:
    signals = Signal.objects.filter(session_id=session_id).select_related("instrument").prefetch_related("decisions")
    return signals.order_by("ts_event", "instrument__symbol", "id")


def row(signal: Signal) -> dict[str, Any]:
    """One signal. The price is text with the tick's decimals; the indicators are what the rule computed."""
    decision = next(iter(signal.decisions.all()), None)
    return {
        "kind": signal.kind,
        "symbol": signal.instrument.symbol,
        "ts_event": signal.ts_event,
        "trade_id": signal.trade_id,
        "price": f"{signal.price:.{signal.instrument.price_decimals}f}",
        "change": signal.change,
        "rsi": signal.rsi,
        "turnover": signal.turnover,
        "decision": None if decision is None else decision.verdict,
        "reasons": [] if decision is None else decision.reasons,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column.replace("_", " "), no_wrap=True)
    for found in rows:
        table.add_row(*(_text(column, found[column]) for column in COLUMNS))
    Console(highlight=False, width=max(WIDTH_MIN, Console().width)).print(table)


def _text(column: str, value: Any) -> str:
    if value is None:
        return numbers.UNKNOWN
    if column == "ts_event":
        return times.full(value)
    if column == "change":
        return numbers.percent(Decimal(repr(value)), 2, signed=True)
    if column == "rsi":
        return numbers.rounded(Decimal(repr(value)), 1)
    return ", ".join(value) if column == "reasons" else str(value)
