"""The fault matrix: no row is missing, its table adds up, its checks find damage; two rows and a seed hold every time.

The whole of it is `make faults`.
"""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.matrix import ROWS, Result
from tests.faults.matrix_checks import Observer
from tests.faults.matrix_report import BEGIN, END, write_report
from tests.faults.matrix_road import Road
from tests.faults.matrix_seeds import perform
from tests.faults.processes import wait_until

EVERYDAY = ("P3", "D6")
SEED = 3
BUSY_SECONDS = 400  # nothing here depends on how fast the machine is
# What somebody may do to the rows behind our back -> the words of the check that finds it.
DAMAGES = {
    "UPDATE risk_riskstate SET exposure = exposure + 1": "I7",
    "ALTER TABLE portfolio_ledgerentry DISABLE TRIGGER USER;"
    "UPDATE portfolio_ledgerentry SET amount = amount + 1 WHERE id = (SELECT min(id) FROM portfolio_ledgerentry)": "I6",
    "UPDATE market_shardcursor SET seen_through = '1-0', replay_from = '1-0' WHERE shard = 0": "I1",
    "UPDATE risk_riskdecision SET verdict = 'denied' WHERE id IN (SELECT decision_id FROM risk_orderintent)": "I4",
}


def test_every_row_of_the_matrix_is_there() -> None:
    wanted = [f"{kind}{n}" for kind, last in (("P", 14), ("R", 9), ("D", 9)) for n in range(1, last + 1)]
    assert sorted(ROWS) == sorted(wanted)
    assert len({row.work for row in ROWS.values()}) == len(wanted)


def test_results_add_up_in_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    held = asdict(Result("P4", 1, 20.0, 3.26, ""))
    broken = asdict(Result("P4", 2, 20.0, None, "Unmet: a|b"))
    for results in ([held], [held, broken], []):
        write_report(ROWS, results, page)
    lines = page.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    row = ROWS["P4"]
    assert f"| P4 | {row.fault} | 3 | 2 | 3.3 | {row.within_seconds:g} | Unmet: a/b (seed 2) |" in lines
    assert len([line for line in lines if line.startswith("| ")]) == 1 + len(ROWS)


def test_a_page_without_its_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="needs the marks"):
        write_report(ROWS, [], page)
    assert page.read_text() == "nothing\n"


@pytest.mark.alone
@pytest.mark.timeout(900)
def test_some_rows_hold_and_every_damage_is_found(tmp_path: Path) -> None:
    with Road(tmp_path, SEED) as road:
        road.start()
        observer = Observer()
        for name in EVERYDAY:
            ROWS[name].work(road, random.Random(SEED))
            assert road.recovered() >= 0
        assert perform(road, SEED, observer, within_seconds=BUSY_SECONDS).failure == ""
        wait_until("an order is approved", lambda: road.one("SELECT count(*) FROM risk_orderintent"), seconds=90)
        assert observer.faults(road) == []
        for name in ("trade", "steward", "drain-0", "ingest"):
            road.stop_service(name)
        assert observer.faults(road) == []
        for damage, code in DAMAGES.items():
            road.sql(damage)
            assert any(fault.startswith(code) for fault in observer.faults(road)), damage
