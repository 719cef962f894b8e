"""`manage.py signals`: every signal of the session, with the decision on it."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import QuerySet
from rich.console import Console
from rich.table import Table

from apps.ops.management.commands.funnel import NO_SESSION
from apps.portfolio.selectors import current_session
from apps.signals.models import Signal
from apps.staff import times

COLUMNS = ("ts_event", "kind", "symbol", "trade_id", "price", "change", "rsi", "decision", "reasons")


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
        table.add_column(column.replace("_", " "))
    for found in rows:
        shown = {**found, "ts_event": times.full(found["ts_event"]), "reasons": ", ".join(found["reasons"])}
        table.add_row(*("" if shown[column] is None else str(shown[column]) for column in COLUMNS))
    Console(highlight=False).print(table)
