"""The table of the fault matrix in docs/reliability.md, kept between two marks and renewed by `make faults WRITE=1`.

Counts add up over runs; what is shown of a row beside them is its newest failure and the longest recovery.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.faults.matrix_rows import Row
from tests.faults.processes import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "reliability.md"
BEGIN: Final = "<!-- rows: written by make faults WRITE=1 -->"
END: Final = "<!-- end of rows -->"
HEAD: Final = (
    "| row | fault | runs | held | recovered within, s | asked, s | last failure |\n|---|---|---|---|---|---|---|\n"
)
_LINE: Final = re.compile(
    r"^\| (\w+) \| .*? \| (\d+) \| (\d+) \| ([\d.]*) \| [\d.]+ \| (.*?) \|$", re.MULTILINE
)  # fmt: skip


def write_report(rows: Mapping[str, Row], results: Sequence[Mapping[str, Any]], page: Path = PAGE) -> None:
    """Add results to the table. Raises ValueError if the page has lost its marks."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page.name} needs the marks {BEGIN} and {END}, once each")
    head, _, rest = text.partition(BEGIN)
    table, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{HEAD}{_merged(rows, table, results)}{END}{tail}", encoding="utf-8")


@dataclass
class _Known:
    """What the table says of one row so far."""

    runs: int = 0
    held: int = 0
    recovered: str = ""
    failure: str = ""

    def add(self, result: Mapping[str, Any]) -> None:
        self.runs += 1
        self.held += not result["failure"]
        seconds = result["recovered_seconds"]
        if seconds is not None:
            self.recovered = f"{max(seconds, float(self.recovered or 0)):.1f}"
        if result["failure"]:
            self.failure = f"{result['failure'].replace('|', '/')[:160]} (seed {result['seed']})"


def _merged(rows: Mapping[str, Row], table: str, results: Sequence[Mapping[str, Any]]) -> str:
    known = {found[1]: _Known(int(found[2]), int(found[3]), found[4], found[5]) for found in _LINE.finditer(table)}
    for result in results:
        if result["row"] in rows:
            known.setdefault(result["row"], _Known()).add(result)
    lines = []
    for name, row in rows.items():
        now = known.get(name, _Known())
        figures = f"{now.runs} | {now.held} | {now.recovered} | {row.within_seconds:g} | {now.failure}"
        lines.append(f"| {name} | {row.fault} | {figures} |\n")
    return "".join(lines)
