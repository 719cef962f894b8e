"""The door of the backtest's task: the message names a run, the row says what is asked and whether it still is."""

from __future__ import annotations

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.utils import timezone

from apps.backtest.models import BacktestRun
from apps.backtest.services import runs
from apps.engine.timeouts import BACKTEST_HARD_LIMIT_SECONDS, BACKTEST_SOFT_LIMIT_SECONDS


# Acknowledged when it begins: a run is taken once, and one that dies with its process is asked for again by a person.
@shared_task(
    name="backtest.run_backtest",
    max_retries=0,
    acks_late=False,
    reject_on_worker_lost=False,
    soft_time_limit=BACKTEST_SOFT_LIMIT_SECONDS,
    time_limit=BACKTEST_HARD_LIMIT_SECONDS,
)
def run_backtest(run_id: int) -> None:
    runs.give_up_lost(now=timezone.now())
    run = runs.begin(run_id=run_id, now=timezone.now())
    if run is None:
        return
    try:
        _run(run)
    except SoftTimeLimitExceeded:
        runs.fail(run=run, words=f"it took longer than {BACKTEST_SOFT_LIMIT_SECONDS // 60} minutes", now=timezone.now())
    except Exception as error:
        runs.fail(run=run, words=f"{type(error).__name__}: {error}", now=timezone.now())
        raise


def _run(run: BacktestRun) -> None:
    from apps.backtest.services import running  # brings numba: only the process that simulates shall carry it

    running.carry_out(run=run, clock=timezone.now)


@shared_task(
    name="backtest.audit_parity",
    max_retries=0,
    soft_time_limit=BACKTEST_SOFT_LIMIT_SECONDS,
    time_limit=BACKTEST_HARD_LIMIT_SECONDS,
)
def audit_parity() -> None:
    from apps.backtest.services.parity import audit_yesterday  # brings numba

    audit_yesterday(now=timezone.now())
