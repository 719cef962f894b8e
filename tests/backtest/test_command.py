"""`manage.py backtest` and the task behind the admin: the same run, the same answer, and one line for what is wrong."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from apps.backtest.models import BacktestRun, RunState
from apps.backtest.services import running, runs
from apps.backtest.tasks import run_backtest
from apps.backtest.values import parse_request
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]  # the first of them compiles the kernels

SET = ("--set", "threshold_pct=1.0", "cooldown_minutes=5", "--set", "rsi_min=20")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    call_command("backtest", *map(str, words), "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        call_command("backtest", *map(str, words))
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("cdb: backtest: ")
    return line.removeprefix("cdb: backtest: ").strip()


def test_a_run_is_kept_with_what_it_was_made_of_and_what_it_gave(
    recording: Path, reports: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = run(capsys, "--trades", recording, *SET, "--report", tmp_path / "mine.html")
    row = BacktestRun.objects.get()
    assert row.state == RunState.DONE
    assert row.engine_hash == settings.ENGINE_HASH
    assert row.inputs["set"] == {"threshold_pct": "1.0", "cooldown_minutes": "5", "rsi_min": "20"}
    assert row.parameters["threshold_pct"] == 1.0
    assert found["decision_hash"] == row.decision_hash
    counts = found["counts"]
    assert counts["trades"] == row.trades == count_rows(recording)
    assert counts["round_trips"] >= 2, "a run without round trips has shown nothing"
    assert counts["signals"] == counts["approved"] + counts["denied"]
    assert counts["fills"] == 2 * counts["round_trips"] + counts["open_positions"]
    assert Decimal(found["final_equity"]) == 100_000 + Decimal(found["result"])
    assert (tmp_path / "mine.html").read_text() == (reports / row.report).read_text()
    assert row.decision_hash in (tmp_path / "mine.html").read_text()


def count_rows(path: Path) -> int:
    with gzip.open(path, "rt") as lines:
        return sum(1 for _ in lines) - 1


def test_the_task_gives_what_the_command_gave_and_again_the_same(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(capsys, "--trades", recording, *SET)
    first = BacktestRun.objects.get()
    asked = parse_request(strategy="momentum", trades=[str(recording)], assignments=[w for w in SET if "=" in w])
    again = runs.request_run(request=asked, by="mara", again_of=first)
    run_backtest(run_id=again.pk)
    again.refresh_from_db()
    assert again.state == RunState.DONE
    assert (again.decision_hash, again.result) == (found["decision_hash"], first.result)
    run_backtest(run_id=again.pk)  # a bell that rings twice
    assert BacktestRun.objects.filter(pk=again.pk, ended_at=again.ended_at).exists()


def test_other_parameters_other_times_and_fewer_symbols_change_the_answer(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(capsys, "--trades", recording, *SET)
    hashes = {
        whole["decision_hash"],
        run(capsys, "--trades", recording, *SET, "--set", "stop_loss_pct=1")["decision_hash"],
        run(capsys, "--trades", recording, *SET, "--symbols", "AAAUSDT")["decision_hash"],
        run(capsys, "--trades", recording, *SET, "--capital", "5000")["decision_hash"],
    }
    assert len(hashes) == 4
    part = run(capsys, "--trades", recording, *SET, "--to", "2026-02-02T03:30")
    assert 0 < part["counts"]["trades"] < whole["counts"]["trades"]


def test_a_stored_version_is_judged_with_its_own_parameters(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = factories.StrategyVersionFactory.create(version=7)
    found = run(capsys, "--trades", recording, "--strategy", "momentum:7", "--set", "threshold_pct=1.25")
    assert found["parameters"]["threshold_pct"] == 1.25
    assert found["parameters"]["take_profit_pct"] == version.parameters["take_profit_pct"]


WRONG: list[tuple[list[str], str]] = [
    (["--set", "threshold=1"], "momentum has no parameter threshold (is threshold_pct meant?)"),
    (["--set", "threshold_pct=0"], "threshold_pct=0 is not from 0.01 to 100 (per cent)"),
    (["--set", "threshold_pct=2%"], "threshold_pct='2%' is not a number of per cent"),
    (["--set", "max_holding_minutes=4h"], "max_holding_minutes='4h' is not a number of minutes"),
    (["--set", "lookback_minutes=1.5"], "lookback_minutes=1.5 must be a whole number (minutes)"),
    (["--strategy", "momentun"], "there is no strategy momentun (there are: "),
    (["--strategy", "momentum:9"], "momentum has no version 9 (none is stored yet)"),
    (["--symbols", "NONEUSDT"], "no trade of NONEUSDT was recorded there (but of AAAUSDT, BBBUSDT, CCCUSDT)"),
    (["--from", "2026-03-01"], "recording.csv.gz holds no trade of what was asked"),
    (["--from", "2026-02-03", "--to", "2026-02-02"], "from 2026-02-03 to 2026-02-02 is no time at all"),
    (["--report", "/nowhere/at/all.html"], "--report /nowhere/at/all.html: name a file in a folder that exists"),
    (["--capital", "0"], "capital 0 is not from 10 to"),
    (["--sed", "1"], "unrecognized arguments: --sed 1"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=lambda value: str(value)[:30])
def test_what_cannot_be_done_is_one_line_and_no_finished_run(
    recording: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert line in refused(capsys, "--trades", recording, *words)
    assert not BacktestRun.objects.filter(state=RunState.DONE).exists()


ROWS = ["AAAUSDT,1770000000000,1,buy,2.5000,1.00", "AAAUSDT,1770000001000,2,sell,2.5001,1.00"]
BAD_FILES = [
    ([ROWS[1], ROWS[0]], "time"),
    ([ROWS[0], ROWS[0]], "trade id"),
    ([ROWS[0].replace("2.5000", "-1")], "price"),
    ([ROWS[0].replace("buy", "bought")], "side"),
    (["AAAUSDT,1770000000000,1,buy,2.5"], ""),
    ([], ""),
]


@pytest.mark.parametrize(("rows", "words"), BAD_FILES, ids=["unsorted", "twice", "price", "side", "columns", "empty"])
def test_a_file_that_no_exchange_could_have_sent_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], words: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(["symbol,time_ms,trade_id,aggressor_side,price,quantity", *rows, ""]))
    line = refused(capsys, "--trades", path)
    assert words in line
    assert "bad.csv" in line


def test_a_file_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refused(capsys, "--trades", tmp_path / "none.csv").endswith("none.csv: No such file or directory")
    assert BacktestRun.objects.get().state == RunState.FAILED


def test_a_run_that_is_cancelled_on_its_way_keeps_nothing(recording: Path) -> None:
    asked = parse_request(strategy="momentum", trades=[str(recording)])
    run = runs.begin_here(request=asked, by="mara", now=timezone.now())
    done = running.carry_out(run=run, clock=cancelling(run))
    assert done is None
    run.refresh_from_db()
    assert (run.state, run.decision_hash, run.report, run.result) == (RunState.CANCELLED, "", "", None)


def cancelling(run: BacktestRun) -> Any:
    """A clock; somebody cancels the run when it is first read."""

    def clock() -> datetime:
        if BacktestRun.objects.get(pk=run.pk).state == RunState.RUNNING:
            runs.cancel(run=BacktestRun.objects.get(pk=run.pk), now=timezone.now())
        return timezone.now()

    return clock


def test_a_report_that_cannot_be_written_is_no_reason_to_lose_the_run(recording: Path, reports: Path) -> None:
    reports.write_text("a file where a folder should be")
    run = runs.begin_here(
        request=parse_request(strategy="momentum", trades=[str(recording)]), by="mara", now=timezone.now()
    )
    assert running.carry_out(run=run, clock=timezone.now) is not None
    assert (run.state, run.report) == (RunState.DONE, "")


def test_a_task_that_breaks_leaves_a_failed_run_and_not_one_under_way(recording: Path) -> None:
    run = runs.request_run(request=parse_request(strategy="momentum", trades=[str(recording)]), by="mara")
    BacktestRun.objects.filter(pk=run.pk).update(inputs={"a row": "that nobody can have written"})
    with pytest.raises(KeyError):
        run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.state, run.words) == (RunState.FAILED, "KeyError: 'strategy'")
