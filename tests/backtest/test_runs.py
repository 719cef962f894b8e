"""The states of a run: every step is taken once, and no run stays under way for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings

from apps.backtest.models import ENDED, UNDER_WAY, BacktestRun, RunState
from apps.backtest.services import runs
from apps.backtest.values import BacktestRefused, Request
from apps.engine.timeouts import BACKTEST_LOST_SECONDS
from apps.outbox.models import OutboxEvent

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
LONG_AFTER = NOW + timedelta(seconds=BACKTEST_LOST_SECONDS + 1)
ASKED = Request("momentum", symbols=("XRPUSDT",), first_ms=0, last_ms=1)
OUTCOME = runs.Outcome(Decimal("100010.5"), Decimal("10.5"), {"counts": {"signals": 2}}, "f" * 64, trades=400)


def requested() -> BacktestRun:
    return runs.request_run(request=ASKED, by="mara")


def running() -> BacktestRun:
    run = runs.begin(run_id=requested().pk, now=NOW)
    assert run is not None
    return run


def in_state(state: RunState) -> BacktestRun:
    run = requested()
    BacktestRun.objects.filter(pk=run.pk).update(state=state, seen_at=NOW)
    run.refresh_from_db()
    return run


def test_a_request_is_noted_with_the_event_that_wakes_a_worker() -> None:
    run = requested()
    assert (run.state, run.requested_by, run.engine_hash) == ("requested", "mara", settings.ENGINE_HASH)
    assert Request.from_json(run.inputs) == ASKED
    event = OutboxEvent.objects.get()
    assert (event.event_type, event.payload) == ("BacktestRequested", {"run_id": run.pk})


def test_a_run_is_taken_once_however_often_the_bell_rings() -> None:
    run = requested()
    assert runs.begin(run_id=run.pk, now=NOW) is not None
    assert runs.begin(run_id=run.pk, now=NOW) is None
    assert runs.begin(run_id=run.pk + 1, now=NOW) is None


def test_a_run_that_is_done_keeps_its_result() -> None:
    run = running()
    runs.describe(run=run, parameters={"threshold_pct": 2.0}, data={"symbols": ["XRPUSDT"]})
    assert runs.go_on(run=run, trades=200, permille=500, now=LATER)
    assert runs.finish(run=run, outcome=OUTCOME, now=LATER)
    run.refresh_from_db()
    assert (run.state, run.result, run.decision_hash) == ("done", Decimal("10.5"), "f" * 64)
    assert (run.trades, run.permille, run.ended_at) == (400, 1_000, LATER)


def test_a_cancelled_run_ends_at_its_next_look_and_keeps_nothing() -> None:
    run = running()
    assert runs.cancel(run=run, now=LATER) == "cancelling"
    assert not runs.go_on(run=run, trades=200, permille=500, now=LATER)
    assert not runs.finish(run=run, outcome=OUTCOME, now=LATER)
    assert runs.finish_cancelled(run=run, now=LATER)
    run.refresh_from_db()
    assert (run.state, run.result, run.decision_hash) == ("cancelled", None, "")


def test_a_waiting_run_is_cancelled_at_once_and_never_begins() -> None:
    run = requested()
    assert runs.cancel(run=run, now=NOW) == "cancelled"
    assert runs.begin(run_id=run.pk, now=NOW) is None


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_run_cannot_be_cancelled_or_changed(state: RunState) -> None:
    run = in_state(state)
    with pytest.raises(BacktestRefused, match=f"has ended already: {state}"):
        runs.cancel(run=run, now=LATER)
    assert not runs.fail(run=run, words="late", now=LATER)
    assert not runs.finish(run=run, outcome=OUTCOME, now=LATER)
    assert not runs.go_on(run=run, trades=1, permille=0, now=LATER)
    run.refresh_from_db()
    assert (run.state, run.words) == (state, "")


@pytest.mark.parametrize("state", sorted(UNDER_WAY))
def test_a_run_whose_process_died_is_given_up(state: RunState) -> None:
    run = in_state(state)
    assert runs.give_up_lost(now=LATER) == 0
    assert runs.give_up_lost(now=LONG_AFTER) == 1
    run.refresh_from_db()
    assert (run.state, run.words) == ("failed", runs.LOST)


def test_a_lost_run_is_cancelled_without_waiting_for_its_process() -> None:
    run = in_state(RunState.RUNNING)
    assert runs.cancel(run=run, now=LONG_AFTER) == "cancelled"
    assert run.words == runs.LOST


def test_a_sign_of_life_keeps_a_run() -> None:
    run = running()
    assert runs.go_on(run=run, trades=1, permille=0, now=LONG_AFTER)
    assert runs.give_up_lost(now=LONG_AFTER) == 0


def test_words_of_any_length_are_kept_as_far_as_there_is_room() -> None:
    run = running()
    assert runs.fail(run=run, words="x" * 1_000, now=LATER)
    assert run.words == "x" * 400


@pytest.mark.parametrize(
    ("inputs", "title"),
    [
        (ASKED.as_json(), "momentum on XRPUSDT"),
        (Request("momentum", 3, changes={"rsi_min": "40"}).as_json(), "momentum:3 with rsi_min=40"),
        (Request("m", symbols=("AAAA", "BBBB", "CCCC", "DDDD")).as_json(), "m on AAAA, BBBB, CCCC…"),
        ({}, ""),
    ],
)
def test_a_run_has_a_title(inputs: dict[str, object], title: str) -> None:
    assert BacktestRun(inputs=inputs).title == title
