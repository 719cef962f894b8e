"""`manage.py backtest`: what a strategy would have done with recorded trades, by the code that trades."""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentParser
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from apps.backtest import selectors
from apps.backtest.models import BacktestRun, RunState
from apps.backtest.services import runs
from apps.backtest.terminal import bar, console, one_line, person, refuse
from apps.backtest.values import DEFAULT_CAPITAL, BacktestRefused, Request, parse_request
from apps.staff import numbers
from apps.staff.commands import OneLineCommand

NAME = "backtest"
CANCELLED = 130  # as a shell says of a program that was interrupted


class Command(OneLineCommand):
    help = "Simulate a strategy on recorded trades. The run is kept, with all that it was made of."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data(parser)
        add_strategy(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object")
        parser.add_argument("--report", metavar="FILE.html", help="keep the report there, too")

    def handle(self, *_: Any, **options: Any) -> None:
        with one_line(NAME):
            report = _report_file(options["report"])
            run = _simulate(request_of(options), quiet=options["json"])
            if run.state == RunState.CANCELLED:
                refuse(NAME, f"run {run.pk} was cancelled", CANCELLED)
            if run.state != RunState.DONE:
                raise BacktestRefused(run.words)
            _hand_over(run, report)
        if options["json"]:
            self.stdout.write(json.dumps(as_json(run)))
        else:
            _show(console(self.stdout), run, report)


def add_data(parser: ArgumentParser) -> None:
    """Which trades."""
    parser.add_argument("--trades", nargs="+", default=[], metavar="PATH", help="recorded files, .csv or .csv.gz")
    parser.add_argument("--from", dest="first", default="", metavar="DATE", help="2026-11-21 or 2026-11-21T06:40, UTC")
    parser.add_argument("--to", dest="last", default="", metavar="DATE", help="the same; a day is included")
    parser.add_argument("--symbols", default="", metavar="A,B", help="all of the files if none is named")
    parser.add_argument("--archive", default="", metavar="KEY", help="which archive, if several hold that")


def add_strategy(parser: ArgumentParser) -> None:
    """With which rule and how much money."""
    parser.add_argument("--strategy", default="momentum", metavar="NAME[:VERSION]", help="default: momentum")
    parser.add_argument(
        "--set", dest="assignments", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="parameters"
    )
    parser.add_argument("--capital", default=DEFAULT_CAPITAL, help=f"quote currency, default {DEFAULT_CAPITAL}")
    parser.add_argument("--seed", default="0", help="of the points that a sweep draws; nothing in a run is random")


def request_of(options: dict[str, Any], *, assignments: list[str] | None = None) -> Request:
    """What the options ask. Files are named by their whole path, so that they can be read again."""
    return parse_request(
        strategy=options["strategy"],
        trades=[str(Path(path).absolute()) for path in options["trades"]],
        first=options["first"],
        last=options["last"],
        symbols=options["symbols"],
        assignments=options["assignments"] if assignments is None else assignments,
        capital=options["capital"],
        seed=options["seed"],
        archive=options["archive"],
    )


def _report_file(name: str | None) -> Path | None:
    """Known to be writable before anything is computed."""
    if not name:
        return None
    path = Path(name)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise BacktestRefused(f"--report {name}: name a file in a folder that exists")
    return path


def _simulate(asked: Request, *, quiet: bool) -> BacktestRun:
    from apps.backtest.services.judging import judge_of  # brings numba, for which `--help` need not wait
    from apps.backtest.services.running import carry_out

    judge_of(asked.strategy, asked.version, asked.changes)  # a wrong parameter is no run
    run = runs.begin_here(request=asked, by=person(), now=timezone.now())
    with bar(quiet=quiet) as progress:
        task = progress.add_task("reading", total=1_000)
        try:
            carry_out(
                run=run,
                clock=timezone.now,
                progress=lambda trades, done: progress.update(
                    task, completed=done, description=f"{numbers.count(trades)} trades"
                ),
            )
        except KeyboardInterrupt:
            runs.finish_cancelled(run=run, now=timezone.now())
    return run


def _hand_over(run: BacktestRun, wanted: Path | None) -> None:
    if wanted is None:
        return
    written = selectors.report_path(run)
    if written is None:
        raise BacktestRefused(f"run {run.pk} is done, but its report could not be written in {settings.REPORTS_DIR}")
    try:
        shutil.copyfile(written, wanted)
    except OSError as error:
        raise BacktestRefused(f"--report {wanted}: {error.strerror}; it lies in {written}") from error


def as_json(run: BacktestRun) -> dict[str, Any]:
    """The whole run for machines. Money is exact text."""
    return {
        "run": run.pk,
        "inputs": run.inputs,
        "engine_hash": run.engine_hash,
        "parameters": run.parameters,
        "data": run.data,
        "decision_hash": run.decision_hash,
        "result": numbers.plain(run.result or Decimal(0)),
        "final_equity": numbers.plain(run.final_equity or Decimal(0)),
        **run.figures,
    }


def _show(out: Console, run: BacktestRun, report: Path | None) -> None:
    out.print(f"backtest {run.pk}: {run.title}", style="bold", markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_row("result", numbers.rounded(run.result, 2, signed=True))
    table.add_row("equity at the end", numbers.rounded(run.final_equity, 2))
    for words, value in selectors.figure_rows(run):
        table.add_row(words, value)
    out.print(table)
    out.print(f"decisions {run.decision_hash}", markup=False)
    out.print(f"report {report or selectors.report_path(run) or numbers.UNKNOWN}", markup=False)
