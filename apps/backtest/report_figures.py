"""Performance figures as rows of words: name, value, and what it means or why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from apps.engine.performance import Drawdown, Performance
from apps.staff import numbers, times

Row = tuple[str, str, str]

SHORT_MINUTES: Final = 90 * 1440


def minutes_words(minutes: int) -> str:
    """`1 min`, `15 min`, `4 h`, `1 d`."""
    if minutes % 1440 == 0:
        return f"{minutes // 1440} d"
    return times.duration(minutes * times.MINUTE_MS) if minutes > 1 else "1 min"


def figure_rows(found: Performance, currency: str) -> Iterator[Row]:
    """Every figure in the order in which they are read."""
    yield "Result after fees", numbers.amount(found.net, currency, signed=True), "of closed round trips"
    yield "Result before fees", numbers.amount(found.gross, currency, signed=True), ""
    yield "Fees", numbers.amount(found.fees, currency), ""
    yield _share("Total return", found.total_return, "last equity over first, open positions included", signed=True)
    yield "Round trips", numbers.count(found.round_trips), f"{numbers.count(found.won)} won"
    yield _share("Win rate", found.win_rate, "won after fees", why_not="no round trip was closed")
    yield _plain("Profit factor", found.profit_factor, "gains over losses", why_not="no round trip lost")
    expectancy = numbers.amount(found.expectancy, currency, decimals=4, signed=True)
    yield "Expectancy", expectancy, "mean result of a round trip after fees"
    yield from _curve_rows(found, currency)
    yield "Turnover", numbers.amount(found.turnover, currency), "bought and sold"
    yield _plain("Turnover ratio", found.turnover_ratio, "turnover over mean equity")
    yield _share("Exposure time", found.exposure, "time with at least one position")


def _curve_rows(found: Performance, currency: str) -> Iterator[Row]:
    worst = found.max_drawdown
    if worst is None:
        yield "Maximum drawdown", numbers.UNKNOWN, "no equity to fall from"
    else:
        amount = numbers.amount(worst.amount, currency)
        yield "Maximum drawdown", numbers.percent(Decimal(repr(worst.share)), 2), f"{amount}{_span(worst)}"
    basis = _basis(found)
    yield _plain("Sharpe", found.sharpe, basis, why_not="returns are too few or do not differ")
    yield _plain("Sortino", found.sortino, basis, why_not="returns are too few or none is below zero")
    yield _plain("Calmar", found.calmar, basis, why_not="returns are too few, nothing fell, or the run is too short")


def _basis(found: Performance) -> str:
    """What a figure per year rests on; a short run is named as such, for its figures are extrapolated."""
    text = f"per year, from {numbers.count(found.returns)} returns of {minutes_words(found.period_minutes)}"
    minutes = found.returns * found.period_minutes
    return f"{text}: {minutes_words(minutes)} say little about a year" if minutes < SHORT_MINUTES else text


def _span(worst: Drawdown) -> str:
    if not worst.share:
        return ""
    text = f", from {times.minute_text(worst.peak)} to {times.minute_text(worst.trough)}"
    if worst.recovered is None:
        return f"{text}, not recovered"
    return f"{text}, recovered {times.minute_text(worst.recovered)}"


def _plain(name: str, value: float | None, words: str, *, why_not: str = "") -> Row:
    if value is None:
        return name, numbers.UNKNOWN, f"not defined: {why_not}" if why_not else "not defined"
    return name, numbers.rounded(Decimal(repr(value)), 2), words


def _share(name: str, value: float | None, words: str, *, why_not: str = "", signed: bool = False) -> Row:
    if value is None:
        return name, numbers.UNKNOWN, f"not defined: {why_not}" if why_not else "not defined"
    return name, numbers.percent(Decimal(repr(value)), 2, signed=signed), words
