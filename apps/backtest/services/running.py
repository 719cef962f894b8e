"""From a taken run to its end: read, judge, simulate, report, remember."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings

from apps.backtest.figures import failures_of, figures_of
from apps.backtest.models import BacktestRun, RunState
from apps.backtest.report import render
from apps.backtest.report_data import ReportData
from apps.backtest.reporting import report_of
from apps.backtest.services import runs
from apps.backtest.services.judging import Judge, default_limits, judge_of
from apps.backtest.services.sources import Source, open_source
from apps.backtest.simulating import Simulated, setup_of, simulate
from apps.backtest.slicing import whole_minutes
from apps.backtest.values import BacktestRefused, Request
from apps.engine.tapes import TapeError
from apps.engine.timeouts import BACKTEST_REPORT_SECONDS
from apps.outbox.pace import AtMostEvery

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Progress = Callable[[int, int], None]
"""Told how many trades were read and how many of a thousand parts of the time are done."""


@dataclass(frozen=True, slots=True)
class Study:
    """A simulation that went to its end, with what it was made of."""

    asked: Request
    judge: Judge
    source: Source
    done: Simulated


def carry_out(*, run: BacktestRun, clock: Clock, progress: Progress | None = None) -> Study | None:
    """Compute a run that was taken. None if it failed or was cancelled: its row says which, and why.

    Every chunk is told to the row, and every chunk asks it whether the run is still wanted.
    """
    try:
        study = _study(run, clock, progress)
        if study is None:
            runs.finish_cancelled(run=run, now=clock())
            return None
        outcome = runs.Outcome(
            final_equity=study.done.final_equity,
            result=study.done.final_equity - study.asked.capital,
            figures=figures_of(study.done),
            decision_hash=study.done.result.decision_hash,
            trades=study.done.result.trades,
            report=_write_report(run, study),
        )
    except (BacktestRefused, TapeError) as refused:
        runs.fail(run=run, words=str(refused), now=clock())
        return None
    if not runs.finish(run=run, outcome=outcome, now=clock()):
        runs.finish_cancelled(run=run, now=clock())
    return study if run.state == RunState.DONE else None


def _study(run: BacktestRun, clock: Clock, progress: Progress | None) -> Study | None:
    asked = Request.from_json(run.inputs)
    judge = judge_of(asked.strategy, asked.version, asked.changes)
    source = open_source(asked)
    runs.describe(run=run, parameters=judge.parameters, data=source.facts)
    look = AtMostEvery(BACKTEST_REPORT_SECONDS)
    span = max(source.last_ms - source.first_ms, 1)

    def go_on(trades: int, reached_ms: int) -> bool:
        permille = max(0, min(1_000, 1_000 * (reached_ms - source.first_ms) // span))
        if progress is not None:
            progress(trades, permille)
        return not look.ready("told") or runs.go_on(run=run, trades=trades, permille=permille, now=clock())

    if not runs.go_on(run=run, trades=0, permille=0, now=clock()):
        return None
    setup = setup_of(
        specs=source.specs, strategy=judge.strategy, version_id=judge.version_id, parameters=judge.parameters,
        capital=asked.capital, limits=default_limits(),
    )  # fmt: skip
    done = simulate(setup, whole_minutes(source.parts()), go_on=go_on, candles=True)
    if done is None:
        return None
    if not done.result.trades:
        raise BacktestRefused("there is no trade in what was asked")
    if done.result.failed:
        raise BacktestRefused(f"{judge.strategy} failed: {failures_of(done.result)[0]}")
    return Study(asked, judge, source, done)


def _report(run: BacktestRun, study: Study) -> ReportData:
    facts = {
        "run": run.pk,
        "asked by": run.requested_by,
        "engine": run.engine_hash[:16],
        "decisions": study.done.result.decision_hash,
        **{name: _plain(value) for name, value in study.source.facts.items()},
    }
    parameters = study.judge.parameters
    return report_of(title=str(run), asked=study.asked, parameters=parameters, facts=facts, done=study.done)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(
            f"{item['path']} ({item['sha256'][:16]})" if isinstance(item, dict) else item for item in value
        )
    return str(value)


def _write_report(run: BacktestRun, study: Study) -> str:
    """The name of the report's file in the reports' folder. Without room for it there is none, and the run stands."""
    name = f"backtest-{run.pk}.html"
    folder: Path = settings.REPORTS_DIR
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / name).write_text(render(_report(run, study)), "utf-8")
    except OSError as error:
        log.error("the report of backtest %d was not written: %s", run.pk, error)
        return ""
    return name
