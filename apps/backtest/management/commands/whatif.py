"""`manage.py whatif`: a day that was, with other parameters: what would have been decided and earned."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from apps.backtest.comparing import Outcome, in_words
from apps.backtest.terminal import bar, console, one_line
from apps.backtest.values import parse_assignments, parse_day
from apps.staff import numbers
from apps.staff.commands import OneLineCommand

if TYPE_CHECKING:
    from apps.backtest.services.whatif import WhatIf

NAME = "whatif"
SHOWN_MAX = 20
DIFFERS = 1


class Command(OneLineCommand):
    help = "Run a session's day again with other parameters. Without --set it must equal history; exit code 1 if not."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--day", required=True, metavar="DATE", help="such as 2026-11-21, UTC")
        parser.add_argument(
            "--set", dest="assignments", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="parameters"
        )
        parser.add_argument("--session", type=int, metavar="N", help="the newest that decided that day, if not given")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *_: Any, **options: Any) -> None:
        with one_line(NAME):
            day, changes = parse_day(options["day"]), parse_assignments(options["assignments"])
            from apps.backtest.services.whatif import what_if  # brings numba, for which `--help` need not wait

            with bar(quiet=options["json"]) as progress:
                task = progress.add_task("reading", total=None)

                def go_on(trades: int, _reached_ms: int) -> bool:
                    progress.update(task, description=f"{numbers.count(trades)} trades")
                    return True

                found = what_if(day=day, changes=changes, session_id=options["session"], go_on=go_on)
        assert found is not None
        if options["json"]:
            self.stdout.write(json.dumps(found.as_json()))
        else:
            _show(console(self.stdout), found)
        if not changes and not found.comparison.identical:
            sys.exit(DIFFERS)


def _show(out: Console, found: WhatIf) -> None:
    changes = ", ".join(f"{name}={value}" for name, value in found.changes.items()) or "nothing changed"
    out.print(f"{found.day}, session {found.session_id}: {changes}", style="bold", markup=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("", "was", "would be"):
        table.add_column(heading, justify="right" if heading else "left")
    for words, was, would in _rows(found.was, found.would):
        table.add_row(words, was, would)
    out.print(table)
    comparison = found.comparison
    counts = (len(comparison.added), len(comparison.removed), len(comparison.changed), comparison.same)
    out.print("decisions: {} added, {} removed, {} changed, {} the same".format(*counts), markup=False)
    lines = [f"+ {in_words(row)}" for row in comparison.added]
    lines += [f"- {in_words(row)}" for row in comparison.removed]
    lines += [f"~ {in_words(row.was)}\n  {in_words(row.would)}" for row in comparison.changed]
    for line in lines[:SHOWN_MAX]:
        out.print(line, markup=False)
    if len(lines) > SHOWN_MAX:
        out.print(f"and {len(lines) - SHOWN_MAX} more: --json has all of them", markup=False)
    for words in found.failed:
        out.print(f"A strategy failed and judged nothing from there on: {words}", style="bold", markup=False)
    out.print(_verdict(found), markup=False)


def _rows(was: Outcome, would: Outcome) -> list[tuple[str, str, str]]:
    return [
        ("round trips closed", numbers.count(was.round_trips), numbers.count(would.round_trips)),
        ("of these won", numbers.count(was.wins), numbers.count(would.wins)),
        ("fees", numbers.rounded(was.fees, 2), numbers.rounded(would.fees, 2)),
        ("net", numbers.rounded(was.net, 2, signed=True), numbers.rounded(would.net, 2, signed=True)),
    ]


def _verdict(found: WhatIf) -> str:
    if found.changes:
        return f"difference in the net result: {numbers.rounded(found.difference, 2, signed=True)}"
    if found.comparison.identical:
        return f"equal to history in all {found.comparison.compared} decisions"
    return f"NOT equal to history, first difference: {found.comparison.first_difference}"
