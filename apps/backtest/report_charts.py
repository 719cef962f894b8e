"""Charts of a backtest's report as inline SVG, drawn by hand: no script, no style attributes, nothing from elsewhere.

Coordinates are floats: they say where ink goes, never what money is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Final

from apps.backtest.report_data import ENTRY, Candles, Marker, SymbolChart, fitting
from apps.backtest.report_figures import minutes_words
from apps.engine.model import MINUTE_MS
from apps.staff import numbers, times

WIDTH: Final = 960
LEFT: Final = 92
RIGHT: Final = 12
TOP: Final = 10
BOTTOM: Final = 22
POINTS_MAX: Final = 600
CANDLES_MAX: Final = 240
MARKERS_MAX: Final = 400
DAY_MINUTES: Final = 1440
TIME_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7 * 1440, 14 * 1440, 28 * 1440, 91 * 1440)
TIME_LABELS_MAX: Final = 8
VALUE_LABELS: Final = 4

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Plane:
    """Where values lie on the paper: x in minutes, y in the chart's unit."""

    first: float
    last: float
    low: float
    high: float
    height: int

    def x(self, minute: float) -> float:
        span = self.last - self.first
        return LEFT + (WIDTH - LEFT - RIGHT) * ((minute - self.first) / span if span else 0.5)

    def y(self, value: float) -> float:
        span = self.high - self.low
        inner = self.height - TOP - BOTTOM
        return TOP + inner * ((self.high - value) / span if span else 0.5)

    def path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{self.x(minute):.1f} {self.y(value):.1f}" for minute, value in points)


def equity_chart(curve: Sequence[tuple[int, Decimal]], currency: str) -> str:
    """A line of equity, in quote currency."""
    points = thinned([(float(minute), float(equity)) for minute, equity in curve])
    values = [value for _, value in points]
    plane = Plane(points[0][0], points[-1][0], *_padded(min(values), max(values)), height=260)
    lowest, highest = min(equity for _, equity in curve), max(equity for _, equity in curve)
    words = (
        f"Equity from {numbers.amount(curve[0][1], currency)} to {numbers.amount(curve[-1][1], currency)}, "
        f"between {numbers.amount(lowest, currency)} and {numbers.amount(highest, currency)}"
    )
    body = f'<path class="line" d="{plane.path(points)}"/>'
    return _svg(plane, words, _grid(plane, _decimals_for(plane)) + body)


def drawdown_chart(shares: Sequence[tuple[int, float]]) -> str:
    """The share of the highest equity so far that is gone, downwards from zero, in per cent."""
    points = thinned([(float(minute), -100 * share) for minute, share in shares])
    deepest = min(value for _, value in points)
    plane = Plane(points[0][0], points[-1][0], deepest * 1.05 if deepest else -1.0, 0.0, height=160)
    area = plane.path([(points[0][0], 0.0), *points, (points[-1][0], 0.0)])
    words = f"Drawdown, at most {numbers.percent(Decimal(repr(-deepest)) / 100, 2)} of the peak"
    body = f'<path class="fall" d="{area}Z"/>'
    return _svg(plane, words, _grid(plane, _decimals_for(plane), unit=f"{numbers.NARROW_SPACE}%") + body)


def candle_chart(chart: SymbolChart) -> tuple[str, str]:
    """(svg, caption): candles of the narrowest usual width that fits, with the fills on them."""
    candles = fitting(chart.candles, CANDLES_MAX)
    shown = list(chart.markers[:MARKERS_MAX])
    unit = 10.0**-chart.price_decimals
    prices = [float(marker.price) for marker in shown]
    low, high = min([*(candles.low * unit).tolist(), *prices]), max([*(candles.high * unit).tolist(), *prices])
    first, last = float(candles.minute[0]), float(candles.minute[-1] + candles.width)
    inside = [marker.ts_event / MINUTE_MS for marker in shown]
    plane = Plane(min([first, *inside]), max([last, *inside]), *_padded(low, high, share=0.08), height=320)
    entries = sum(marker.kind == ENTRY for marker in chart.markers)
    lowest, highest = (_price(int(ticks), chart) for ticks in (candles.low.min(), candles.high.max()))
    exits = len(chart.markers) - entries
    words = f"{chart.symbol}: prices from {lowest} to {highest}, {entries} entries and {exits} exits"
    grid = _grid(plane, min(_decimals_for(plane), chart.price_decimals))
    body = _bodies(plane, candles, unit) + "".join(_marker(plane, marker) for marker in shown)
    return _svg(plane, words, grid + body), _caption(candles, chart)


def thinned(points: Sequence[Point], count_max: int = POINTS_MAX) -> list[Point]:
    """At most about `count_max` points: of each stretch its first, lowest, highest and last."""
    if len(points) <= count_max:
        return list(points)
    size = math.ceil(4 * len(points) / count_max)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        chosen = {0, len(part) - 1}
        chosen.add(min(range(len(part)), key=lambda index: part[index][1]))
        chosen.add(max(range(len(part)), key=lambda index: part[index][1]))
        kept += [part[index] for index in sorted(chosen)]
    return kept


def value_ticks(low: float, high: float) -> list[float]:
    """Round values between two, one, two or five times a power of ten apart. None where there is no room for them."""
    step = value_step(low, high)
    if not step:
        return []
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def value_step(low: float, high: float) -> float:
    rough = (high - low) / VALUE_LABELS
    if rough <= 0 or not math.isfinite(rough):
        return 0.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def time_ticks(first: float, last: float) -> list[int]:
    """Minutes to label: whole steps of the usual lengths, at most eight."""
    step = next((step for step in TIME_STEPS if (last - first) / step <= TIME_LABELS_MAX), 364 * DAY_MINUTES)
    return list(range(math.ceil(first / step) * step, math.floor(last) + 1, step))


def _padded(low: float, high: float, share: float = 0.04) -> tuple[float, float]:
    room = (high - low) * share or abs(high) * 0.001 or 1.0
    return low - room, high + room


def _decimals_for(plane: Plane) -> int:
    step = value_step(plane.low, plane.high)
    return max(0, -math.floor(math.log10(step) + 1e-9)) if step else 2


def _grid(plane: Plane, decimals: int, unit: str = "") -> str:
    """Lines and labels of both axes."""
    parts = []
    for value in value_ticks(plane.low, plane.high):
        y = plane.y(value)
        text = numbers.rounded(round(Decimal(repr(value)), decimals), decimals) + unit
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for minute in time_ticks(plane.first, plane.last):
        x = plane.x(minute)
        when = times.moment(minute * MINUTE_MS)
        text = f"{when.day} {when:%b %Y}" if minute % DAY_MINUTES == 0 else f"{when:%H:%M}"
        anchor = "start" if x < LEFT + 30 else "end" if x > WIDTH - RIGHT - 30 else "middle"
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{plane.height - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{plane.height - 6}" text-anchor="{anchor}">{text}</text>')
    return "".join(parts)


def _bodies(plane: Plane, candles: Candles, unit: float) -> str:
    """Hollow where the price rose, filled where it fell; one path per kind, whatever the number of candles."""
    half = max((plane.x(candles.width) - plane.x(0)) * 0.35, 0.5)
    wicks: list[str] = []
    rises: list[str] = []
    drops: list[str] = []
    columns = (candles.minute, candles.open, candles.high, candles.low, candles.close)
    for minute, *ticks in zip(*(column.tolist() for column in columns), strict=True):
        x = plane.x(minute + candles.width / 2)
        opened, high, low, closed = (plane.y(value * unit) for value in ticks)
        wicks.append(f"M{x:.1f} {high:.1f}V{low:.1f}")
        top, bottom = min(opened, closed), max(opened, closed)
        body = f"M{x - half:.1f} {top:.1f}H{x + half:.1f}V{bottom:.1f}H{x - half:.1f}Z"
        (drops if ticks[3] < ticks[0] else rises).append(body)
    kinds = (("wick", wicks), ("rise", rises), ("drop", drops))
    return "".join(f'<path class="{kind}" d="{"".join(parts)}"/>' for kind, parts in kinds if parts)


def _marker(plane: Plane, marker: Marker) -> str:
    """An entry is a filled triangle that points up at its price, an exit a hollow one that points down at it."""
    x, y = plane.x(marker.ts_event / MINUTE_MS), plane.y(float(marker.price))
    down = 10 if marker.kind == ENTRY else -10
    kind = "entry" if marker.kind == ENTRY else "exit"
    words = f"{kind} at {numbers.exact(marker.price)}, {times.full(marker.ts_event)}"
    words += f": {marker.words}" if marker.words else ""
    shape = f"M{x:.1f} {y:.1f}L{x - 6:.1f} {y + down:.1f}H{x + 6:.1f}Z"
    return f'<path class="{kind}" d="{shape}"><title>{escape(words)}</title></path>'


def _price(ticks: int, chart: SymbolChart) -> str:
    return numbers.exact(Decimal(ticks).scaleb(-chart.price_decimals))


def _caption(candles: Candles, chart: SymbolChart) -> str:
    text = f"Candles of {minutes_words(candles.width)}, hollow where the price rose. ▲ entry, ▽ exit."
    if len(chart.markers) > MARKERS_MAX:
        text += f" The first {MARKERS_MAX} of {numbers.count(len(chart.markers))} fills are shown."
    return text


def _svg(plane: Plane, words: str, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {plane.height}" role="img" aria-label="{escape(words)}">{body}</svg>'
