"""From a simulation to what its report is made of. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from apps.backtest.figures import counts_of, denied_of, refused_of
from apps.backtest.report_data import ENTRY, EXIT, Marker, ReportData, SymbolChart
from apps.backtest.simulating import Simulated
from apps.backtest.values import Request, shown_instant
from apps.engine.portfolio import Fill, Side
from apps.engine.results import Result
from apps.engine.risk.values import Reason
from apps.engine.risk.words import CHECK_NAMES

CHARTS_MAX: Final = 24
COUNT_WORDS: Final = {"denied": "denied decisions", "approved": "approved decisions"}


def report_of(
    *, title: str, asked: Request, parameters: Mapping[str, Any], facts: Mapping[str, Any], done: Simulated
) -> ReportData:
    """A report. `facts` identify the run: who asked, with which code, from which data."""
    result = done.result
    return ReportData(
        title=title,
        currency=done.currency,
        facts=[*_asked(asked), *((name, str(value)) for name, value in facts.items()), *_parameters(parameters)],
        counts=[(COUNT_WORDS.get(name, name.replace("_", " ")), count) for name, count in counts_of(result).items()],
        performance=done.performance,
        curve=result.equity,
        trips=result.round_trips,
        denied={words_of(code): count for code, count in denied_of(result).items()},
        charts=charts_of(done),
        notes=notes_of(result),
    )


def words_of(code: str) -> str:
    """A reason code in the words of the checks."""
    return CHECK_NAMES[Reason(code)] if code in Reason.__members__ else code.lower()


def _asked(asked: Request) -> list[tuple[str, str]]:
    span = " to ".join(shown_instant(ms) or "the end of the data" for ms in (asked.first_ms, asked.last_ms))
    return [
        ("strategy", asked.strategy + (f", version {asked.version}" if asked.version else "")),
        ("from", span if asked.first_ms or asked.last_ms else "all of the data"),
        ("symbols", ", ".join(asked.symbols) or "all of the data"),
        ("capital", format(asked.capital, "f")),
        ("seed", str(asked.seed)),
    ]


def _parameters(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in parameters.items()]


def notes_of(result: Result) -> list[str]:
    """What a reader must know before he believes a figure."""
    notes = [
        f"{count} signals were not raised, because trades of their window may be missing: {reason}."
        for reason, count in refused_of(result).items()
    ]
    if result.open_positions or result.open_orders:
        notes.append(
            f"{result.open_positions} positions and {result.open_orders} orders were open at the end. They are part of "
            "the equity at the last price, and of no round trip."
        )
    return notes


def charts_of(done: Simulated) -> list[SymbolChart]:
    """The symbols with the most fills, as many as a report can show."""
    result = done.result
    fills = Counter(end.order.symbol for end in result.fills)
    chosen = sorted(done.candles, key=lambda symbol: (-fills[symbol], symbol))[:CHARTS_MAX]
    markers = _markers(result)
    return [
        SymbolChart(symbol, done.price_decimals[symbol], done.candles[symbol], markers.get(symbol, []))
        for symbol in chosen
    ]


def _markers(result: Result) -> dict[str, list[Marker]]:
    reasons = {signal.key: signal.reason for signal in result.signals}
    found: dict[str, list[Marker]] = {}
    for end in result.fills:
        fill = end.outcome
        assert isinstance(fill, Fill)
        kind = ENTRY if fill.side is Side.BUY else EXIT
        words = reasons.get(end.order.trigger_key, "").replace("_", " ") or "signal"
        found.setdefault(end.order.symbol, []).append(Marker(kind, fill.ts_event, fill.price, words))
    return found
