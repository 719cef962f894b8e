"""`manage.py explain ORDER|SIGNAL|TRADE`: why it was placed, or why it was not, from the trades to the ledger."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from apps.ops.explain.asking import NoSubject, explain
from apps.ops.explain.parts import Explanation, as_json
from apps.ops.explain.subjects import FORMS
from apps.ops.explain.words import Section, sections
from apps.staff.commands import REFUSED, OneLineCommand

LABEL_WIDTH = 44


class Command(OneLineCommand):
    help = "Tell the whole way of an order, a trade or a signal. Exit code 2 if the name is of nothing or ambiguous."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help=FORMS)
        parser.add_argument("--json", action="store_true", help="the same as data")
        parser.add_argument("--verify", action="store_true", help="work every number out again; code 1 if one differs")

    def handle(self, *_: Any, name: str, **options: Any) -> None:
        try:
            found = explain(name, now_ms=time.time_ns() // 1_000_000, verify=options["verify"])
        except NoSubject as error:
            print(f"cdb: explain: {error}", file=sys.stderr)
            sys.exit(REFUSED)
        if options["json"]:
            print(json.dumps(as_json(found)))
        else:
            show(found)
        if found.missing or any(not row.equal for row in found.proof or ()):
            sys.exit(1)


def show(found: Explanation) -> None:
    console = Console(highlight=False)
    console.print(found.headline, style="bold", markup=False, soft_wrap=True)
    console.print(f"{found.subject}: {found.ending_words}", markup=False, soft_wrap=True)
    for words in found.missing:
        console.print(
            f"link missing: {words}; `manage.py verify` reports it", style="bold", markup=False, soft_wrap=True
        )
    for section in sections(found):
        _print(console, section)


def _print(console: Console, section: Section) -> None:
    console.print(f"\n{section.title}", style="bold", markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(max_width=LABEL_WIDTH)
    table.add_column(overflow="fold")
    for line in section.lines:
        table.add_row(Text(f"  {line.label}"), Text(line.text, style="bold" if line.failed else ""))
    console.print(table)
