"""The report of a backtest: one HTML file that needs nothing else, not even a script.

Its own content security policy allows nothing but the style sheet inside it. Every text is escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from hashlib import sha256
from html import escape
from typing import Final

from apps.backtest import report_charts
from apps.backtest.report_data import ReportData, SymbolChart
from apps.backtest.report_figures import figure_rows
from apps.backtest.report_style import STYLE
from apps.engine.performance import RoundTrip, drawdowns
from apps.staff import numbers, times

TRIPS_MAX: Final = 1_000
CHARTS_MAX: Final = 24
TRIP_COLUMNS: Final = (
    ("Symbol", ""), ("Opened", ""), ("Closed", ""), ("Held", "number"), ("Bought for", "number"),
    ("Sold for", "number"), ("Gross", "number"), ("Fees", "number"), ("Net", "number"), ("Closed by", "words"),
)  # fmt: skip


def render(data: ReportData) -> str:
    """The whole file as text, to be stored as UTF-8."""
    digest = b64encode(sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    body = "\n".join(part for part in _sections(data) if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(data.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(data.title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _sections(data: ReportData) -> Iterator[str]:
    yield _section("Read this first", _list(data.notes)) if data.notes else ""
    yield _section("From trades to fills", _road(data.counts))
    yield _section("Figures", _figures(data))
    yield _section("Equity", _curve(data))
    yield from _charts(data.charts)
    yield _section("Round trips", _trips(data.trips, data.currency))
    yield _section("Denied decisions", _denied(data))
    yield _section("What was run", _pairs(data.facts))


def _section(heading: str, content: str) -> str:
    return f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>"


def _list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _road(counts: Sequence[tuple[str, int]]) -> str:
    items = (f"<li><b>{numbers.count(count)}</b> {escape(name)}</li>" for name, count in counts)
    return f'<ol class="road">{"".join(items)}</ol>'


def _pairs(facts: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts) + "</dl>"


def _figures(data: ReportData) -> str:
    rows = (
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{escape(value)}</td>'
        f'<td class="words second">{escape(words)}</td></tr>'
        for name, value, words in figure_rows(data.performance, data.currency)
    )
    return _wide("Figures", f"<table><tbody>{''.join(rows)}</tbody></table>")


def _curve(data: ReportData) -> str:
    if not data.curve:
        return "<p>No minute was simulated, so there is no equity to draw.</p>"
    return _figure(
        report_charts.equity_chart(data.curve, data.currency),
        f"Equity at the close of each minute, {data.currency}. Times are UTC.",
    ) + _figure(report_charts.drawdown_chart(drawdowns(data.curve)), "Drawdown from the highest equity so far.")


def _charts(charts: Sequence[SymbolChart]) -> Iterator[str]:
    """Symbols with fills come first, each group in the order given."""
    drawable = sorted((chart for chart in charts if len(chart.candles)), key=lambda chart: not chart.markers)
    for chart in drawable[:CHARTS_MAX]:
        yield _section(chart.symbol, _figure(*report_charts.candle_chart(chart)))
    left_out = [chart.symbol for chart in drawable[CHARTS_MAX:]]
    if left_out:
        yield _section("Symbols without a chart", f"<p>{escape(', '.join(left_out))}</p>")


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{_wide(caption, svg)}<figcaption>{escape(caption)}</figcaption></figure>"


def _wide(words: str, content: str) -> str:
    """What may be wider than the screen scrolls by itself, also with the keyboard."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(words)}">{content}</div>'


def _trips(trips: Sequence[RoundTrip], currency: str) -> str:
    if not trips:
        return "<p>No position was opened and closed.</p>"
    heads = "".join(_cell("th", escape(name), kind, ' scope="col"') for name, kind in TRIP_COLUMNS)
    rows = "".join(f"<tr>{_trip(trip)}</tr>" for trip in trips[:TRIPS_MAX])
    caption = f"Money in {currency}, times in UTC."
    if len(trips) > TRIPS_MAX:
        caption += f" The first {numbers.count(TRIPS_MAX)} of {numbers.count(len(trips))}."
    table = f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return _wide("Round trips", table)


def _trip(trip: RoundTrip) -> str:
    values = (
        trip.symbol,
        times.full(trip.opened_ts_event).removesuffix(" UTC"),
        times.full(trip.closed_ts_event).removesuffix(" UTC"),
        times.duration(trip.closed_ts_event - trip.opened_ts_event),
        numbers.rounded(trip.entry_notional, 2),
        numbers.rounded(trip.exit_notional, 2),
        numbers.rounded(trip.gross, 4, signed=True),
        numbers.rounded(trip.fees, 4),
        numbers.rounded(trip.net, 4, signed=True),
        trip.reason.replace("_", " "),
    )
    cells = zip(values, TRIP_COLUMNS, strict=True)
    return "".join(_cell("td", escape(value), kind) for value, (_, kind) in cells)


def _cell(tag: str, content: str, kind: str, attributes: str = "") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return f"<{tag}{attributes}{of_kind}>{content}</{tag}>"


def _denied(data: ReportData) -> str:
    if not data.denied:
        return "<p>No decision was denied.</p>"
    most = max(data.denied.values())
    rows = "".join(
        f'<tr><td class="words">{escape(reason)}</td><td class="number">{numbers.count(count)}</td>'
        f'<td><meter min="0" max="{most}" value="{count}">{count}</meter></td></tr>'
        for reason, count in sorted(data.denied.items(), key=lambda item: (-item[1], item[0]))
    )
    head = '<tr><th scope="col" class="words">Reason</th><th scope="col" class="number">Decisions</th><td></td></tr>'
    share = numbers.percent(Decimal(most) / sum(data.denied.values()), 0)
    caption = f"{numbers.count(sum(data.denied.values()))} in all; the most frequent reason makes up {share}."
    table = f"<table><caption>{escape(caption)}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return _wide("Denied decisions", table)
