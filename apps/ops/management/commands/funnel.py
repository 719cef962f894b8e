"""`manage.py funnel`: how many of what went how far down the road."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table

from apps.ops.selectors.funnel import STAGES, of_state
from apps.ops.selectors.standstill import Why, why_nothing
from apps.ops.selectors.state import read_state
from apps.staff import numbers, times

NO_SESSION = "cdb: no session is open; `make demo` or `manage.py stack up` starts one"


class Command(BaseCommand):
    help = "Count what was received, decoded, published, processed, evaluated, signalled, decided, ordered and traded."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one object with a count per stage")
        parser.add_argument("--why", action="store_true", help="at which stage the flow stopped, and why")

    def handle(self, *_: Any, **options: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        state = read_state(now_ms)
        if state.session is None:
            print(NO_SESSION, file=sys.stderr)
            sys.exit(1)
        if options["why"]:
            why = why_nothing(state, now_ms)
            assert why is not None, "a session is open"
            print(json.dumps(why.as_json())) if options["json"] else _show_why(why)
            return
        counts = of_state(state, now_ms)
        if options["json"]:
            print(json.dumps(counts))
        else:
            _show(counts)


def _show(counts: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("count", justify="right")
    for stage in STAGES:
        table.add_row(stage, numbers.count(counts[stage]))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"feed {_age(counts['feed_age_s'])}, newest trade {_age(counts['last_trade_age_s'])}, {counts['as_of']}"
    )


def _show_why(why: Why) -> None:
    console = Console(highlight=False)
    console.print(why.line, style="bold", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "count", "last"):
        table.add_column(column, justify="right" if column == "count" else "left")
    for row in why.stages:
        last = numbers.UNKNOWN if row.last_ms is None else f"{times.duration(why.as_of_ms - row.last_ms)} ago"
        table.add_row(row.stage, numbers.count(row.count), last)
    for code, number in why.endings.items():
        table.add_row(f"  {code}", numbers.count(number), "")
    console.print(table)


def _age(seconds: float | None) -> str:
    return "of unknown age" if seconds is None else f"{times.duration(int(seconds * 1000))} old"
