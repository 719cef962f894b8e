"""A sweep as a picture: one field per pair of values of two parameters, the best of the others in it. Pure.

Fields are told apart by number first and by shade second, so that the map can be read without colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any, Final

from apps.backtest.report_style import STYLE
from apps.backtest.sweeping import Axis, Tried
from apps.staff import numbers

CELL_WIDTH: Final = 76
CELL_HEIGHT: Final = 30
LEFT: Final = 120
TOP: Final = 40
FIELDS_MAX: Final = 2_500
GAIN: Final = "31,102,176"
LOSS: Final = "176,92,31"


@dataclass(frozen=True, slots=True)
class HeatMap:
    """`values[row][column]` for `rows` of one parameter and `columns` of another; None where nothing was tried."""

    figure: str
    row_name: str
    column_name: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[Decimal | None]]

    @property
    def largest(self) -> Decimal:
        """The largest value without its sign; 1 if there is none, so that it can divide."""
        known = [abs(value) for row in self.values for value in row if value is not None]
        return max(known, default=Decimal(0)) or Decimal(1)


def heat_map(axes: Sequence[Axis], points: Sequence[Tried], figure: str) -> HeatMap | None:
    """The map of the first two parameters that were tried with several values; None if there are none to map."""
    several = [axis for axis in axes if len({point.changes[axis.name] for point in points}) > 1]
    if not several:
        return None
    columns, rows = several[0], several[1] if len(several) > 1 else None
    found: dict[tuple[str, str], Decimal] = {}
    for point in points:
        value = _known(point.inside.get(figure))
        place = (point.changes[rows.name] if rows else "", point.changes[columns.name])
        if value is not None and (place not in found or value > found[place]):
            found[place] = value
    row_names = _values(rows, points) if rows else [""]
    column_names = _values(columns, points)
    if len(row_names) * len(column_names) > FIELDS_MAX:
        return None
    values = [[found.get((row, column)) for column in column_names] for row in row_names]
    return HeatMap(figure, rows.name if rows else "", columns.name, row_names, column_names, values)


def _values(axis: Axis, points: Sequence[Tried]) -> list[str]:
    return sorted({point.changes[axis.name] for point in points}, key=_order)


def _order(text: str) -> tuple[Decimal, str]:
    return _known(text) or Decimal(0), text


def _known(value: Any) -> Decimal | None:
    if value is None:
        return None
    try:
        figure = Decimal(str(value))
    except ArithmeticError:
        return None
    return figure if figure.is_finite() else None


def shade(value: Decimal | None, largest: Decimal) -> tuple[str, float]:
    """(colour as r,g,b, strength from 0 to 1) of a field."""
    if value is None:
        return LOSS, 0.0
    return (GAIN if value >= 0 else LOSS), 0.75 * float(abs(value) / largest)


def as_svg(found: HeatMap) -> str:
    """The map as an SVG element."""
    width, height = LEFT + CELL_WIDTH * len(found.columns), TOP + CELL_HEIGHT * len(found.rows) + 4
    parts = [f'<text x="{LEFT}" y="14">{escape(found.column_name)}</text>']
    parts += [
        f'<text x="{LEFT + CELL_WIDTH * n + 6}" y="{TOP - 8}">{escape(name)}</text>'
        for n, name in enumerate(found.columns)
    ]
    for m, (name, values) in enumerate(zip(found.rows, found.values, strict=True)):
        y = TOP + CELL_HEIGHT * m
        label = f"{found.row_name} {name}" if found.row_name else found.figure
        parts.append(f'<text x="0" y="{y + 19}">{escape(label)}</text>')
        for n, value in enumerate(values):
            colour, strength = shade(value, found.largest)
            x = LEFT + CELL_WIDTH * n
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL_WIDTH - 2}" height="{CELL_HEIGHT - 2}" '
                f'fill="rgb({colour})" fill-opacity="{strength:.3f}" class="grid"/>'
                f'<text x="{x + 6}" y="{y + 19}">{escape(numbers.rounded(value, 2))}</text>'
            )
    words = escape(f"{found.figure} by {found.column_name}" + (f" and {found.row_name}" if found.row_name else ""))
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def page(title: str, facts: Mapping[str, str], found: HeatMap | None, table: Sequence[Sequence[str]]) -> str:
    """The whole report of a sweep as one HTML file. `table` begins with its headings."""
    head, *rows = table
    cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    headings = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    what = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    drawn = f'<section><h2>Before the cut</h2><div class="wide">{as_svg(found)}</div></section>' if found else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f"{drawn}\n<section><h2>Points, best before the cut first</h2>"
        f'<div class="wide"><table><thead><tr>{headings}</tr></thead><tbody>{cells}</tbody></table></div></section>\n'
        f"<section><h2>What was run</h2><dl>{what}</dl></section>\n</main>\n</body>\n</html>\n"
    )
