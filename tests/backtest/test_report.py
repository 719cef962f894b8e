"""The report of a backtest is one well-formed file that asks for nothing, escapes everything and leaves nothing out."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.backtest import report, report_charts
from apps.backtest.report import render
from apps.backtest.report_data import (
    ENTRY,
    Candles,
    Marker,
    ReportData,
    SymbolChart,
    candles_of,
    fitting,
    joined,
    widened,
)
from apps.engine.model import Scale
from apps.engine.performance import measure
from apps.engine.tapes import Tape
from tests.backtest.report_sample import FIRST_MINUTE, WICKED, sample

VOID = {"meta", "link"}
MINUTE_MS = 60_000


@dataclass
class Page(HTMLParser):
    """What a strict reader finds: every tag with its attributes, every text by the tag it stands in."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open_tags[-1] if self.open_tags else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def within(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def read(data: ReportData) -> Page:
    page = Page()
    page.feed(render(data))
    page.close()
    assert page.open_tags == []
    return page


def test_the_file_asks_for_nothing_and_runs_nothing() -> None:
    page = read(sample())
    assert not {"script", "img", "iframe", "object", "form", "a", "use", "image"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not {"src", "style", "xlink:href", "srcset"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "data:,") == "data:,"
    (style,) = page.within("style")
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_this_style_sheet_and_nothing_else() -> None:
    page = read(sample())
    (style,) = page.within("style")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    (policy,) = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def wicked() -> ReportData:
    """Every text a hostile one."""
    data = sample()
    marker = Marker(ENTRY, FIRST_MINUTE * MINUTE_MS, Decimal("0.5"), WICKED)
    return replace(
        data,
        title=WICKED,
        currency=WICKED,
        facts=[(WICKED, WICKED)],
        counts=[(WICKED, 1)],
        trips=[replace(trip, symbol=WICKED, reason=WICKED) for trip in data.trips],
        denied={WICKED: 2},
        charts=[replace(chart, symbol=WICKED, markers=[marker]) for chart in data.charts],
        notes=[WICKED],
    )


def test_every_text_is_escaped() -> None:
    html = render(wicked())
    page = read(wicked())
    assert "<script" not in html
    assert not page.all("script")
    escaped = {tag for tag, text in page.texts if WICKED in text}
    assert {"title", "h1", "h2", "li", "dt", "dd", "td", "caption", "figcaption"} <= escaped
    assert sum(WICKED in (attributes.get("aria-label") or "") for attributes in page.all("svg")) == 3


def test_every_round_trip_is_a_row_with_its_own_figures() -> None:
    data = sample()
    html = render(data)
    body = html[html.index("<h2>Round trips</h2>") :]
    rows = re.findall(r"<tr>(<td.*?)</tr>", body[: body.index("</tbody>")])
    assert len(rows) == len(data.trips) == 12
    for row, trip in zip(rows, data.trips, strict=True):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
        assert cells[0] == trip.symbol
        assert Decimal(cells[8].replace("\u2212", "-")) == trip.net
        assert cells[9] == trip.reason.replace("_", " ")


def test_too_many_round_trips_are_cut_and_counted() -> None:
    data = sample()
    page = read(replace(data, trips=list(data.trips) * 100))
    assert any("The first 1\u202f000 of 1\u202f200." in text for text in page.within("caption"))
    assert render(replace(data, trips=list(data.trips) * 100)).count("<tr><td>XRPUSDT</td>") == report.TRIPS_MAX


def test_denied_decisions_stand_by_frequency_with_their_counts() -> None:
    page = read(sample())
    assert [(tag["value"], tag["max"]) for tag in page.all("meter")] == [("11", "11"), ("3", "11")]
    assert "14 in all; the most frequent reason makes up 79\u202f%." in page.within("caption")


def test_entries_and_exits_are_drawn_where_they_happened() -> None:
    data = sample()
    page = read(data)
    shapes = [attributes.get("class") for attributes in page.all("path")]
    assert (shapes.count("entry"), shapes.count("exit")) == (12, 12)
    words = page.within("title")[1:]
    assert words[0].startswith("entry at 0.5, 2026-03-02 00:03:00.412 UTC: change 2.1")
    assert len(words) == 24


def test_traded_symbols_come_first_and_those_without_room_are_named() -> None:
    data = sample()
    quiet = data.charts[0]
    many = [replace(quiet, symbol=f"Q{number}USDT") for number in range(report.CHARTS_MAX)] + [data.charts[1]]
    headings = read(replace(data, charts=many)).within("h2")
    assert headings[4] == "XRPUSDT"
    assert headings.count("Symbols without a chart") == 1
    assert f"Q{report.CHARTS_MAX - 1}USDT" in read(replace(data, charts=many)).within("p")


def test_what_is_not_defined_is_said_and_not_shown_as_zero() -> None:
    data = sample(trips=0)
    nothing = replace(
        data,
        performance=measure([], [], period_minutes=1),
        curve=[], trips=[], denied={}, charts=[SymbolChart("AAAUSDT", 2, joined([]))], notes=[], facts=[], counts=[],
    )  # fmt: skip
    page = read(nothing)
    assert "not defined: no round trip was closed" in page.within("td")
    assert page.within("td").count("—") >= 8
    assert not page.all("svg")
    assert "No position was opened and closed." in page.within("p")
    assert "No decision was denied." in page.within("p")


@pytest.mark.parametrize("minutes", [1, 2, 61, 10_000])
def test_a_run_of_any_length_can_be_drawn(minutes: int) -> None:
    page = read(sample(minutes=minutes))
    for attributes in page.all("path"):
        assert "nan" not in str(attributes["d"])
        assert "inf" not in str(attributes["d"])
    assert len(render(sample(minutes=minutes))) < 150_000


def test_a_flat_run_can_be_drawn() -> None:
    data = sample()
    flat = [(minute, Decimal(100)) for minute, _ in data.curve]
    page = read(replace(data, curve=flat, performance=measure(flat, [], period_minutes=1)))
    assert any("at most 0.00" in str(attributes["aria-label"]) for attributes in page.all("svg"))


def test_a_short_run_is_called_short_beside_its_yearly_figures() -> None:
    assert any(
        "899 returns of 1 min: 14 h 59 min say little about a year" in text for text in read(sample()).within("td")
    )


def numbers_in(path: str) -> Iterator[tuple[float, float]]:
    for pair in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path):
        yield float(pair[0]), float(pair[1])


def test_lines_stay_on_the_paper_and_keep_their_extremes() -> None:
    data = sample(minutes=5_000)
    page = read(data)
    (line,) = [str(attributes["d"]) for attributes in page.all("path") if attributes["class"] == "line"]
    points = list(numbers_in(line))
    assert len(points) <= report_charts.POINTS_MAX + 4
    assert all(
        report_charts.LEFT <= x <= report_charts.WIDTH - report_charts.RIGHT and report_charts.TOP <= y <= 260
        for x, y in points
    )
    kept = report_charts.thinned([(float(minute), float(equity)) for minute, equity in data.curve])
    values = [value for _, value in kept]
    assert (min(values), max(values)) == tuple(float(f(e for _, e in data.curve)) for f in (min, max))
    assert [minute for minute, _ in kept] == sorted(minute for minute, _ in kept)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (-0.3, 0.3, [-0.2, 0, 0.2]), (98, 137, [100, 110, 120, 130]), (5, 5, [])],
)
def test_axes_are_labelled_at_round_values(low: float, high: float, expected: list[float]) -> None:
    assert report_charts.value_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0, 8, list(range(9))), (3, 200, [30, 60, 90, 120, 150, 180]), (10, 2_000, [360, 720, 1080, 1440, 1800])],
)
def test_times_are_labelled_at_whole_steps(first: int, last: int, expected: list[int]) -> None:
    assert report_charts.time_ticks(first, last) == expected


# --- candles ----------------------------------------------------------------------------------------------------------

trades = st.lists(st.tuples(st.integers(1, 30 * MINUTE_MS), st.integers(1, 1000)), max_size=60).map(sorted)


def tape_of(rows: list[tuple[int, int]]) -> Tape:
    ts, price = (np.array([row[place] for row in rows], np.int64) for place in (0, 1))
    ones = np.ones(len(rows), np.int64)
    return Tape("AAAUSDT", Scale(2, 2), ts, price, ones, ones.astype(np.int8), [""] * len(rows))


def rows_of(candles: Candles) -> list[tuple[int, ...]]:
    columns = [getattr(candles, f.name).tolist() for f in fields(Candles) if f.name != "width"]
    return list(zip(*columns, strict=True))


def plain(rows: list[tuple[int, int]], width: int) -> list[tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for ts, price in rows:
        found.setdefault(ts // MINUTE_MS // width * width, []).append(price)
    return [(minute, part[0], max(part), min(part), part[-1]) for minute, part in found.items()]


@settings(deadline=None)
@given(trades, st.lists(st.integers(0, 60), max_size=4), st.sampled_from([1, 5, 15]))
def test_candles_of_any_slices_equal_those_of_plain_python(
    rows: list[tuple[int, int]], cuts: list[int], width: int
) -> None:
    tape = tape_of(rows)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [candles_of(tape.cut(first, last)) for first, last in pairwise(edges)]
    assert rows_of(joined(parts)) == rows_of(candles_of(tape)) == plain(rows, 1)
    assert rows_of(widened(joined(parts), width)) == plain(rows, width)


@settings(deadline=None)
@given(st.sets(st.integers(0, 400_000), min_size=1, max_size=50), st.integers(60, 300))
def test_fitting_candles_are_never_more_than_asked(minutes: set[int], count_max: int) -> None:
    minute = np.array(sorted(minutes), np.int64)
    found = fitting(Candles(minute, minute, minute, minute, minute), count_max)
    span = (int(found.minute[-1]) - int(found.minute[0])) // found.width + 1
    assert len(found) <= span <= count_max
