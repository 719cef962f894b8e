"""`manage.py sweep`: many parameters on one part of the time, the best of them proved on the rest."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from apps.backtest.heat_map import HeatMap, heat_map, page, shade
from apps.backtest.management.commands.backtest import add_data, add_strategy, request_of
from apps.backtest.selectors import shown_figure
from apps.backtest.sweeping import drawn, grid, parse_axes, parse_split
from apps.backtest.terminal import bar, console, one_line
from apps.backtest.values import BacktestRefused, parse_seed
from apps.staff import numbers, times
from apps.staff.commands import OneLineCommand

if TYPE_CHECKING:
    from apps.backtest.services.sweep import Swept

NAME = "sweep"
ROWS_MAX: Final = 20
COLUMNS: Final = ("result", "round_trips", "win_rate", "max_drawdown")


class Command(OneLineCommand):
    help = "Try parameters on all cores: chosen before a cut in time, proved after it. --set gives the values to try."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data(parser)
        add_strategy(parser)
        parser.add_argument("--random", type=int, metavar="N", help="draw N combinations instead of trying all")
        parser.add_argument("--split", default="0.7", help="part of the time to choose on, default 0.7")
        parser.add_argument("--rank", default="result", help="figure to choose by, default result")
        parser.add_argument("--processes", type=int, metavar="N", help="default: as many as there are cores")
        parser.add_argument("--json", action="store_true", help="one JSON object")
        parser.add_argument("--report", metavar="FILE.html", help="table and heat map as one file")

    def handle(self, *_: Any, **options: Any) -> None:
        with one_line(NAME):
            found = _sweep(options)
            picture = heat_map(found.axes, found.points, found.figure)
            if options["report"]:
                _write(Path(options["report"]), found, picture)
        if options["json"]:
            self.stdout.write(json.dumps(found.as_json()))
        else:
            _show(console(self.stdout), found, picture)


def _sweep(options: dict[str, Any]) -> Swept:
    axes, split = parse_axes(options["assignments"]), parse_split(options["split"])
    if options["processes"] is not None and options["processes"] < 1:
        raise BacktestRefused("--processes must be at least 1")
    seed = parse_seed(options["seed"])
    points = grid(axes) if options["random"] is None else drawn(axes, count=options["random"], seed=seed)
    asked = request_of(options, assignments=[])
    from apps.backtest.services.sweep import sweep  # brings numba, for which `--help` need not wait

    with bar(quiet=options["json"], counted=True) as progress:
        task = progress.add_task("simulations", total=None)
        return sweep(
            asked=asked,
            axes=axes,
            points=points,
            split=split,
            figure=options["rank"],
            processes=options["processes"],
            told=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _table(found: Swept) -> list[list[str]]:
    """Headings and rows: the values that were tried, the figures before the cut, the result after it."""
    figures = list(dict.fromkeys([found.figure, *COLUMNS]))
    names = [axis.name for axis in found.axes]
    rows = [[*names, *(name.replace("_", " ") for name in figures), "after the cut", "round trips after"]]
    for point in found.points:
        outside = point.outside or {}
        rows.append(
            [
                *(point.changes[name] for name in names),
                *(_shown(name, point.inside.get(name)) for name in figures),
                _shown("result", outside.get("result")),
                _shown("round_trips", outside.get("round_trips")),
            ]
        )
    return rows


def _shown(name: str, value: Any) -> str:
    return numbers.rounded(Decimal(value), 2, signed=True) if name == "result" and value else shown_figure(name, value)


def _show(out: Console, found: Swept, picture: HeatMap | None) -> None:
    out.print(_title(found), style="bold", markup=False)
    head, *rows = _table(found)
    table = Table(box=None, pad_edge=False)
    for heading in head:
        table.add_column(heading, justify="right")
    for row in rows[:ROWS_MAX]:
        table.add_row(*row)
    out.print(table)
    if len(rows) > ROWS_MAX:
        out.print(f"and {len(rows) - ROWS_MAX} more: --json has all of them", markup=False)
    if picture is not None:
        out.print(_picture(picture))
    out.print(
        "Points were chosen before the cut, and only the first was chosen without knowing what came after it.",
        markup=False,
    )


def _picture(picture: HeatMap) -> Table:
    table = Table(box=None, title=f"{picture.figure} before the cut, by {picture.column_name}", title_justify="left")
    table.add_column(picture.row_name, justify="right")
    for name in picture.columns:
        table.add_column(name, justify="right")
    for name, values in zip(picture.rows, picture.values, strict=True):
        fields = [Text(numbers.rounded(value, 2), _ground(picture, value)) for value in values]
        table.add_row(name, *fields)
    return table


def _ground(picture: HeatMap, value: Decimal | None) -> Style:
    colour, strength = shade(value, picture.largest)
    red, green, blue = (int(255 - (255 - int(part)) * strength) for part in colour.split(","))
    return Style(color="black", bgcolor=f"rgb({red},{green},{blue})") if strength else Style()


def _title(found: Swept) -> str:
    cut, end = (times.full(ms) for ms in (found.cut_ms, found.last_ms))
    return f"{len(found.points)} combinations, chosen from {times.full(found.first_ms)} to {cut}, proved until {end}"


def _write(path: Path, found: Swept, picture: HeatMap | None) -> None:
    facts = {
        "strategy": found.asked.strategy + (f", version {found.asked.version}" if found.asked.version else ""),
        "ranked by": found.figure,
        "trades": ", ".join(found.asked.trades) or f"archive {found.asked.archive}",
        "capital": f"{found.asked.capital:f} {found.currency}",
        "seed": str(found.asked.seed),
    }
    try:
        path.write_text(page(_title(found), facts, picture, _table(found)), "utf-8")
    except OSError as error:
        raise BacktestRefused(f"--report {path}: {error.strerror}") from error
