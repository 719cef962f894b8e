"""`manage.py status`: must I act? The sentence of the state strip, and the numbers it was written from."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, InterfaceError
from rich.console import Console

from apps.ops.selectors.state import State, read_state
from apps.ops.sentence import Severity
from apps.staff import times


class Command(BaseCommand):
    help = "Say in one sentence whether a person must act. Exit code 0 if not, 1 if so, 2 if nothing is known."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--line", action="store_true", help="the sentence alone")
        form.add_argument("--json", action="store_true", help="the sentence and its parts")

    def handle(self, *_: Any, **options: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        try:
            state = read_state(now_ms)
        except (DatabaseError, InterfaceError) as error:
            raise SystemExit(_say_unknown(error)) from error
        if options["json"]:
            print(json.dumps(as_json(state)))
        elif options["line"]:
            print(state.sentence.line)
        else:
            _show(state)
        if state.sentence.severity is not Severity.NORMAL:
            sys.exit(1)


def _say_unknown(error: Exception) -> int:
    print(f"PostgreSQL does not answer, so nothing is known: {str(error).splitlines()[0]}", file=sys.stderr)
    return 2


def as_json(state: State) -> dict[str, Any]:
    sentence = state.sentence
    return {
        "line": sentence.line,
        "severity": str(sentence.severity),
        "situation": sentence.situation,
        "more": sentence.more,
        "as_of": times.iso(state.snapshot.now_ms),
        "parts": {part.name: {"text": part.text, "abnormal": part.abnormal} for part in sentence.parts},
        "symbols": {feed.symbol: feed.age_ms for feed in state.snapshot.feeds},
    }


def _show(state: State) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(state.sentence.line, style="bold", markup=False)
    console.print(
        " · ".join(("▲ " if part.abnormal else "") + part.text for part in state.sentence.parts), markup=False
    )
