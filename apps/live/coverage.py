"""The picture of the coverage ledger: a row per symbol, time to the right, drawn on the server as SVG.

Each kind differs by pattern and lightness, not by hue alone. What is PROVEN is one path for all symbols, so that 300 of
them stay small; every cell that is not has a title of its own with its minutes and the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

from django.template.loader import render_to_string

from apps.market import coverage
from apps.market.coverage import BACKFILLED, CHECKED, NOTHING, PROVISIONAL, UNPROVEN, Cell, Picture, Row
from apps.staff import numbers, times

CELL_WIDTH: Final = 10
ROW_HEIGHT: Final = 16
BAR_HEIGHT: Final = 11
LABEL_WIDTH: Final = 112
AXIS_HEIGHT: Final = 20
AXIS_MARGIN: Final = 24
AXIS_MARKS_MAX: Final = 8
LISTED_MAX: Final = 50
KEEP_MS: Final = 5_000
LEGEND: Final = (
    (CHECKED, "PROVEN, checked against klines"),
    (PROVISIONAL, "PROVEN, not checked yet"),
    (BACKFILLED, "BACKFILLED"),
    (UNPROVEN, "UNPROVEN"),
    (NOTHING, "no minute"),
)


def html(session: Any, now_ms: int, minutes: int, bucket: int, *, keep: bool) -> str:
    """The section. With `keep` a picture up to KEEP_MS old is good enough: minutes close once a minute."""
    if session is None:
        return _drawn(None, minutes, bucket)
    if keep:
        return _kept(session.epoch_id, minutes, bucket, now_ms // KEEP_MS)
    return _drawn(session.epoch_id, minutes, bucket)


@lru_cache(maxsize=4)
def _kept(epoch_id: int, minutes: int, bucket: int, _turn: int) -> str:
    return _drawn(epoch_id, minutes, bucket)


def _drawn(epoch_id: int | None, minutes: int, bucket: int) -> str:
    last = None if epoch_id is None else coverage.newest_minute(epoch_id=epoch_id)
    if epoch_id is None or last is None:
        return render_to_string("live/sections/feed_coverage.html", {"session": epoch_id, "rows": []})
    picture = coverage.picture(epoch_id=epoch_id, last_minute=last, minutes=minutes, bucket=bucket)
    return render_to_string("live/sections/feed_coverage.html", {"session": epoch_id, **context(picture)})


def context(picture: Picture) -> dict[str, Any]:
    """What the template draws: positions are pixels."""
    cells = len(picture.rows[0].cells) if picture.rows else 0
    listed = [row for row in picture.rows if any(cell.kind in (BACKFILLED, UNPROVEN) for cell in row.cells)]
    return {
        "rows": [_label(index, row) for index, row in enumerate(picture.rows)],
        "more": picture.more,
        "paths": {kind: _path(picture, kind) for kind in (CHECKED, PROVISIONAL)},
        "marks": list(_marks(picture)),
        "axis": _axis(picture, cells),
        "width": LABEL_WIDTH + cells * CELL_WIDTH + AXIS_MARGIN,
        "height": AXIS_HEIGHT + len(picture.rows) * ROW_HEIGHT,
        "bar_height": BAR_HEIGHT,
        "legend": LEGEND,
        "words": _words(picture, cells),
        "listed": [_listed(row) for row in listed[:LISTED_MAX]],
        "unlisted": max(len(listed) - LISTED_MAX, 0),
        "whole": len(picture.rows) - len(listed),
    }


def _label(index: int, row: Row) -> dict[str, Any]:
    return {"symbol": row.symbol, "y": AXIS_HEIGHT + index * ROW_HEIGHT + BAR_HEIGHT, "followed": row.followed}


def _runs(row: Row) -> Iterator[tuple[str, int, int]]:
    """(kind, first cell, number of cells) of neighbouring cells of one kind."""
    at = 0
    for kind, cells in groupby(cell.kind for cell in row.cells):
        length = len(list(cells))
        yield kind, at, length
        at += length


def _path(picture: Picture, kind: str) -> str:
    """One path for every run of this kind in every row."""
    return "".join(
        f"M{LABEL_WIDTH + at * CELL_WIDTH},{AXIS_HEIGHT + index * ROW_HEIGHT}h{length * CELL_WIDTH - 1}"
        f"v{BAR_HEIGHT}h{1 - length * CELL_WIDTH}z"
        for index, row in enumerate(picture.rows)
        for found, at, length in _runs(row)
        if found == kind
    )


def _marks(picture: Picture) -> Iterator[dict[str, Any]]:
    """A box with a title for each run of cells that are not PROVEN and have the same reason."""
    for index, row in enumerate(picture.rows):
        at = 0
        for (kind, reason), cells in groupby(row.cells, key=lambda cell: (cell.kind, cell.reason)):
            run = list(cells)
            if kind in (BACKFILLED, UNPROVEN):
                first = picture.first_minute + at * picture.bucket
                yield {
                    "kind": kind,
                    "x": LABEL_WIDTH + at * CELL_WIDTH,
                    "y": AXIS_HEIGHT + index * ROW_HEIGHT,
                    "width": len(run) * CELL_WIDTH - 1,
                    "title": f"{row.symbol} {_span(first, len(run) * picture.bucket)}: {_counts(run)} ({reason})",
                }
            at += len(run)


def _span(first: int, minutes: int) -> str:
    start, end = times.moment(first * times.MINUTE_MS), times.moment((first + minutes) * times.MINUTE_MS)
    return f"{start:%H:%M}–{end:%H:%M} UTC"


def _counts(cells: list[Cell] | tuple[Cell, ...]) -> str:
    parts = (
        (sum(cell.unproven for cell in cells), "UNPROVEN"),
        (sum(cell.backfilled for cell in cells), "BACKFILLED"),
        (sum(cell.proven for cell in cells), "PROVEN"),
    )
    return ", ".join(f"{numbers.count(n)} {word}" for n, word in parts if n) or "no minute"


def _listed(row: Row) -> dict[str, Any]:
    unproven = [cell for cell in row.cells if cell.unproven]
    return {
        "instrument": row.instrument_id,
        "symbol": row.symbol,
        "proven": numbers.count(sum(cell.proven for cell in row.cells)),
        "backfilled": numbers.count(sum(cell.backfilled for cell in row.cells)),
        "unproven": numbers.count(sum(cell.unproven for cell in row.cells)),
        "abnormal": bool(unproven),
        "reason": unproven[-1].reason if unproven else next(c.reason for c in row.cells[::-1] if c.backfilled),
    }


def _axis(picture: Picture, cells: int) -> list[dict[str, Any]]:
    """Whole hours, or every third in a long picture."""
    step = 60
    while cells * picture.bucket > AXIS_MARKS_MAX * step:
        step *= 3
    return [
        {"x": LABEL_WIDTH + n * CELL_WIDTH, "text": f"{times.moment(minute * times.MINUTE_MS):%H:%M}"}
        for n in range(cells)
        for minute in [picture.first_minute + n * picture.bucket]
        if minute % step == 0
    ]


def _words(picture: Picture, cells: int) -> str:
    """The picture in one sentence, for whoever does not see it."""
    start = times.minute_text(picture.first_minute)
    total = _counts([cell for row in picture.rows for cell in row.cells])
    symbols = f"{len(picture.rows)} symbol{'' if len(picture.rows) == 1 else 's'}"
    return (
        f"Coverage of {symbols} over {times.duration(cells * picture.bucket * times.MINUTE_MS)} since {start}: {total}."
    )
