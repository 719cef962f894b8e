"""A sweep on several processes gives what one gives, chooses before the cut and proves after it."""

from __future__ import annotations

import json
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from apps.backtest.parallel import Ground, Trial, figures_of_trial, run_trials, shared, tape_at
from apps.backtest.services.judging import default_limits, judge_of
from apps.backtest.services.sources import open_source
from apps.backtest.slicing import whole_tapes
from apps.backtest.values import DEFAULT_CAPITAL, parse_capital, parse_request

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]  # the first of them compiles the kernels

TRIED = ("--set", "threshold_pct=0.8..1.6/3", "--set", "rsi_min=20,40")


def sweep(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    call_command("sweep", *map(str, words), "--json", "--processes", "1")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_every_point_is_tried_and_the_best_are_proved(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sweep(capsys, "--trades", recording, *TRIED)
    points = found["points"]
    assert len(points) == 6
    results = [float(point["inside"]["result"]) for point in points]
    assert results == sorted(results, reverse=True)
    assert len(set(results)) > 1, "points that all give the same have shown nothing"
    assert all(point["outside"] is not None for point in points)
    assert found["from"] < found["cut"] < found["to"]


def test_what_comes_after_the_cut_chooses_nothing(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The part before the cut alone gives the same figures: nothing behind the cut was looked at."""
    whole = sweep(capsys, "--trades", recording, *TRIED)
    cut = whole["cut"][:19]
    asked = parse_request(strategy="momentum", trades=[str(recording)], last=cut)
    source = open_source(asked)
    tapes = whole_tapes(source.parts())
    for point in whole["points"]:
        judge = judge_of("momentum", None, point["set"])
        ground = Ground(source.specs, "momentum", 0, parse_capital(DEFAULT_CAPITAL), default_limits())
        assert figures_of_trial(tapes, ground, Trial(0, judge.parameters)) == point["inside"]


def test_several_processes_give_what_one_gives(recording: Path) -> None:
    source = open_source(parse_request(strategy="momentum", trades=[str(recording)]))
    tapes = whole_tapes(source.parts())
    ground = Ground(source.specs, "momentum", 0, parse_capital(DEFAULT_CAPITAL), default_limits())
    parameters = [judge_of("momentum", None, {"threshold_pct": str(value)}).parameters for value in (1, 2)]
    trials = [Trial(number, one) for number, one in enumerate(parameters)]
    alone = dict(run_trials(tapes, ground, trials, processes=1))
    together = dict(run_trials(tapes, ground, trials, processes=2))
    assert together == alone
    assert alone[0] != alone[1]


def test_a_tape_in_shared_memory_is_the_tape_and_the_memory_is_given_back(recording: Path) -> None:
    tapes = whole_tapes(open_source(parse_request(strategy="momentum", trades=[str(recording)])).parts())
    with shared(tapes) as handles:
        for handle in handles:
            block = SharedMemory(handle.name)
            there, here = tape_at(handle, block), tapes[handle.symbol]
            for name in ("ts", "price", "quantity", "side"):
                assert getattr(there, name).tolist() == getattr(here, name).tolist()
            assert [there.trade_id[row] for row in range(len(there))] == [
                here.trade_id[row] for row in range(len(here))
            ]
            del there
            block.close()
    for handle in handles:
        with pytest.raises(FileNotFoundError):
            SharedMemory(handle.name)


def test_the_report_holds_the_table_and_the_map(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.html"
    call_command("sweep", "--trades", str(recording), *TRIED, "--processes", "1", "--report", str(path))
    told, html = capsys.readouterr().out, path.read_text()
    assert html.count("<rect") == 6
    assert "<script" not in html
    assert "threshold_pct" in html
    for words in ("6 combinations", "after the cut", "before the cut, by threshold_pct", "1.2"):
        assert words in told


WRONG: list[tuple[list[str], str]] = [
    ([], "name what to try"),
    (["--set", "threshold_pct=1..3"], "a grid needs to know how many values"),
    (["--set", "threshold_pct=0..3/4"], "threshold_pct=0 is not from 0.01 to 100 (per cent)"),
    (["--set", "threshold=1,2"], "momentum has no parameter threshold"),
    (["--set", "rsi_min=40,50", "--split", "1.5"], "--split 1.5 is not from 0.1 to 0.9"),
    (["--set", "rsi_min=40,50", "--rank", "luck"], "--rank luck: one of result, "),
    (["--set", "rsi_min=40,50", "--random", "0"], "--random 0: from 1 to 10000 combinations"),
    (["--set", "rsi_min=40,50", "--processes", "0"], "--processes must be at least 1"),
    (["--set", "rsi_min=40,50", "--seed", "x"], "seed 'x' is not a whole number"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_tried_is_one_line(
    recording: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("sweep", "--trades", str(recording), *words)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("cdb: sweep: ")
    assert line in told
    assert told.count("\n") == 1
