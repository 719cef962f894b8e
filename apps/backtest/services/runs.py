"""A run's way from requested to its end. Every step is a compare-and-swap, so two processes cannot both take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from apps.backtest.models import ENDED, UNDER_WAY, BacktestRun, RunState
from apps.backtest.values import BacktestRefused, Request
from apps.engine.timeouts import BACKTEST_LOST_SECONDS
from apps.outbox.services import record

WORDS_MAX: Final = 400
LOST: Final = "the process that ran it ended without an answer"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run is remembered by."""

    final_equity: Decimal
    result: Decimal
    figures: Mapping[str, Any]
    decision_hash: str
    trades: int = 0
    report: str = ""


@transaction.atomic
def request_run(*, request: Request, by: str, again_of: BacktestRun | None = None) -> BacktestRun:
    """Note a run; a worker takes it when this transaction has committed."""
    run = _new(request, by, again_of)
    run.save(force_insert=True)
    record("BacktestRequested", run_id=run.pk)
    return run


def begin_here(*, request: Request, by: str, now: datetime) -> BacktestRun:
    """A run that the calling process computes itself: nobody else is asked."""
    run = _new(request, by, None)
    run.state, run.started_at, run.seen_at = RunState.RUNNING, now, now
    run.save(force_insert=True)
    return run


def _new(request: Request, by: str, again_of: BacktestRun | None) -> BacktestRun:
    return BacktestRun(
        inputs=request.as_json(), engine_hash=settings.ENGINE_HASH, requested_by=by[:150], again_of=again_of
    )


def begin(*, run_id: int, now: datetime) -> BacktestRun | None:
    """Take a requested run. None if it was taken, cancelled or never there: a bell that rings twice does nothing.

    It is computed by the code of the process that takes it, so that is the code that is noted.
    """
    taken = BacktestRun.objects.filter(pk=run_id, state=RunState.REQUESTED).update(
        state=RunState.RUNNING, started_at=now, seen_at=now, engine_hash=settings.ENGINE_HASH
    )
    return BacktestRun.objects.get(pk=run_id) if taken else None


def describe(*, run: BacktestRun, parameters: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Note what the run reads and judges with, once both are known."""
    run.parameters, run.data = dict(parameters), dict(data)
    run.save(update_fields=["parameters", "data"])


def go_on(*, run: BacktestRun, trades: int, permille: int, now: datetime) -> bool:
    """Report progress. False if the run is to end: somebody cancels it, or it was given up as lost."""
    return bool(
        BacktestRun.objects.filter(pk=run.pk, state=RunState.RUNNING).update(
            trades=trades, permille=permille, seen_at=now
        )
    )


def finish(*, run: BacktestRun, outcome: Outcome, now: datetime) -> bool:
    """The run is done. False if it was cancelled or given up meanwhile; nothing of it is kept then."""
    kept = {
        "final_equity": outcome.final_equity,
        "result": outcome.result,
        "figures": dict(outcome.figures),
        "decision_hash": outcome.decision_hash,
        "report": outcome.report,
        "trades": outcome.trades,
        "permille": 1_000,
    }
    return _end(run, RunState.DONE, "", now, from_states=[RunState.RUNNING], **kept)


def finish_cancelled(*, run: BacktestRun, now: datetime) -> bool:
    return _end(run, RunState.CANCELLED, "", now)


def fail(*, run: BacktestRun, words: str, now: datetime) -> bool:
    """The run cannot be done: `words` say why and what to do."""
    return _end(run, RunState.FAILED, words, now)


def _end(
    run: BacktestRun,
    state: RunState,
    words: str,
    now: datetime,
    *,
    from_states: list[RunState] | None = None,
    **kept: Any,
) -> bool:
    open_states = from_states or list(UNDER_WAY)
    changed = BacktestRun.objects.filter(pk=run.pk, state__in=open_states).update(
        state=state, words=words[:WORDS_MAX], ended_at=now, **kept
    )
    run.refresh_from_db()
    return bool(changed)


def cancel(*, run: BacktestRun, now: datetime) -> RunState:
    """Ask a run to end; gives the state it is in now. Raises `BacktestRefused` for one that has ended.

    A waiting run ends at once, as does one whose process gives no sign of life; the others end after their chunk.
    """
    rows = BacktestRun.objects.filter(pk=run.pk)
    gone = rows.filter(state__in=UNDER_WAY, seen_at__lt=now - timedelta(seconds=BACKTEST_LOST_SECONDS))
    ended = rows.filter(state=RunState.REQUESTED).update(state=RunState.CANCELLED, ended_at=now) or gone.update(
        state=RunState.CANCELLED, ended_at=now, words=LOST
    )
    if not ended:
        rows.filter(state=RunState.RUNNING).update(state=RunState.CANCELLING)
    run.refresh_from_db()
    if not ended and run.state in ENDED:
        raise BacktestRefused(f"backtest {run.pk} has ended already: {run.state}")
    return RunState(run.state)


def give_up_lost(*, now: datetime) -> int:
    """Runs whose process has given no sign of life for too long have failed. Returns how many."""
    silent = now - timedelta(seconds=BACKTEST_LOST_SECONDS)
    lost = BacktestRun.objects.filter(state__in=UNDER_WAY, seen_at__lt=silent)
    return lost.update(state=RunState.FAILED, ended_at=now, words=LOST)
