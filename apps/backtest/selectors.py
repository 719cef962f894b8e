"""Reads of backtest runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from apps.backtest.models import BacktestRun, ParityAudit
from apps.staff import numbers

FRACTIONS: Final = frozenset({"win_rate", "max_drawdown", "exposure", "total_return"})
FIGURE_DECIMALS: Final = 4
ORDER: Final = (
    "counts", "performance", "denied", "refused",
    "trades", "signals", "refused_signals", "approved", "fills", "expired", "round_trips", "won", "open_positions",
    "open_orders",
    "gross", "fees", "net", "turnover", "win_rate", "profit_factor", "expectancy", "total_return", "max_drawdown",
    "max_drawdown_amount", "max_drawdown_minutes", "exposure", "turnover_ratio", "sharpe", "sortino", "calmar",
    "period_minutes", "returns",
)  # fmt: skip


def report_path(run: BacktestRun) -> Path | None:
    """The report's file; None if the run has none, if it is gone, or if the name leads out of the reports' folder."""
    folder: Path = settings.REPORTS_DIR
    path = folder / run.report
    inside = bool(run.report) and path.resolve().parent == folder.resolve()
    return path if inside and path.is_file() else None


def figure_rows(run: BacktestRun) -> list[tuple[str, str]]:
    """(words, value) of every figure that the run stored, in their order; groups give their name to their figures."""
    return list(_rows(in_order(run.figures), ""))


def in_order(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures in the order in which they are read; the database keeps none. Unknown names follow in their own."""
    known = {name: place for place, name in enumerate(ORDER)}
    names = sorted(figures, key=lambda name: (known.get(name, len(known)), name))
    return {name: in_order(value) if isinstance(value := figures[name], Mapping) else value for name in names}


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
    if name in FRACTIONS:
        return numbers.percent(figure, 2)
    return numbers.rounded(figure, FIGURE_DECIMALS)


def difference_rows(audit: ParityAudit) -> list[tuple[str, str, str]]:
    """(name, recorded, replayed) of the first difference; none if the day came out equal."""
    told = audit.difference
    if not told:
        return []
    recorded, replayed = told["recorded"], told["replayed"]
    return [(name, str(recorded.get(name, "")), str(replayed.get(name, ""))) for name in {**recorded, **replayed}]
