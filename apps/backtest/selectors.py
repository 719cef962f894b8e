"""Reads of backtest runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from apps.backtest.models import BacktestRun
from apps.staff import numbers

FRACTION_ENDINGS: Final = ("_fraction", "_rate", "drawdown", "exposure_time")
FIGURE_DECIMALS: Final = 4


def report_path(run: BacktestRun) -> Path | None:
    """The report's file; None if the run has none, if it is gone, or if the name leads out of the reports' folder."""
    folder: Path = settings.REPORTS_DIR
    path = folder / run.report
    inside = bool(run.report) and path.resolve().parent == folder.resolve()
    return path if inside and path.is_file() else None


def figure_rows(run: BacktestRun) -> list[tuple[str, str]]:
    """(words, value) of every figure that the run stored, in their order; groups give their name to their figures."""
    return list(_rows(run.figures, ""))


def _rows(figures: Mapping[str, Any], group: str) -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        words = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _rows(value, words)
        elif not isinstance(value, list):
            yield f"{group}: {words}" if group == "denied" else words, shown_figure(name, value)


def shown_figure(name: str, value: Any) -> str:
    """A figure as people read it: counts whole, fractions as percent, unknown as a dash and never as zero."""
    if value is None:
        return numbers.UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return numbers.count(value)
    try:
        figure = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    if not figure.is_finite():
        return str(value)
    if name.endswith(FRACTION_ENDINGS):
        return numbers.percent(figure, 2, signed=False)
    return numbers.rounded(figure, FIGURE_DECIMALS)
