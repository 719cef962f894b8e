"""Backtests in the admin: asked for and cancelled by those who may, run again with something changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.backtest.models import BacktestRun, RunState
from apps.outbox.models import OutboxEvent
from tests import factories

pytestmark = pytest.mark.django_db

WORDS = {
    "strategy": "momentum:3", "first": "2026-11-20", "last": "2026-11-21T06:00", "symbols": "XRPUSDT, ETHUSDT",
    "changes": "threshold_pct=1.5\nrsi_min=40\n", "capital": "5000", "seed": "7",
}  # fmt: skip
RUN = "admin:backtest_backtestrun_new_run"


def staff(*codenames: str) -> Client:
    user = User.objects.create_user("mara", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=[f"{name}_backtestrun" for name in codenames]))
    client = Client()
    client.force_login(user)
    return client


def page(action: str, run: BacktestRun) -> str:
    return reverse(f"admin:backtest_backtestrun_{action}", args=(run.pk,))


def test_a_run_is_asked_for_in_the_words_of_the_command() -> None:
    client = staff("view", "add")
    answer = client.post(reverse(RUN), WORDS)
    run = BacktestRun.objects.get()
    assert answer.headers["Location"] == page("change", run)
    assert (run.state, run.requested_by) == (RunState.REQUESTED, "mara")
    assert run.inputs["set"] == {"threshold_pct": "1.5", "rsi_min": "40"}
    assert run.inputs["symbols"] == ["ETHUSDT", "XRPUSDT"]
    assert OutboxEvent.objects.get().payload == {"run_id": run.pk}
    assert LogEntry.objects.get().user.get_username() == "mara"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"strategy": "Best"}, "&#x27;Best&#x27; is no strategy: write its name"),
        ({"first": "2026-11-22"}, "from 2026-11-22 to 2026-11-21T06:00 is no time at all"),
        ({"symbols": "xrpusdt"}, "write XRPUSDT"),
        ({"symbols": ""}, "name recorded files"),
        ({"changes": "threshold_pct: 1.5"}, "sets nothing: write name=value"),
        ({"capital": "all"}, "is not an amount such as 100000"),
        ({"seed": ""}, "This field is required"),
    ],
)
def test_a_wrong_word_is_said_beside_the_form_and_asks_for_nothing(words: dict[str, str], line: str) -> None:
    answer = staff("view", "add").post(reverse(RUN), {**WORDS, **words})
    assert line in answer.content.decode()
    assert not BacktestRun.objects.exists()


def test_the_form_of_a_repeat_holds_what_was_asked_before() -> None:
    client = staff("view", "add")
    client.post(reverse(RUN), WORDS)
    earlier = BacktestRun.objects.get()
    html = client.get(page("run_again", earlier)).content.decode()
    for value in ("momentum:3", "2026-11-20T00:00:00", "2026-11-21T06:00:00", "ETHUSDT,XRPUSDT", "rsi_min=40", "5000"):
        assert value in html
    client.post(page("run_again", earlier), {**WORDS, "changes": "threshold_pct=2.5"})
    repeat = BacktestRun.objects.get(again_of=earlier)
    assert repeat.inputs == {**earlier.inputs, "set": {"threshold_pct": "2.5"}}


def test_a_repeat_reads_the_files_of_the_first_run_and_no_others() -> None:
    inputs = {**factories.BacktestRunFactory.create().inputs, "trades": ["recorded/day.csv.gz"]}
    run = factories.BacktestRunFactory.create(inputs=inputs)
    staff("view", "add").post(page("run_again", run), {**WORDS, "trades": "/etc/passwd", "symbols": ""})
    assert BacktestRun.objects.get(again_of=run).inputs["trades"] == ["recorded/day.csv.gz"]


def test_a_run_is_cancelled_by_asking_twice() -> None:
    run = factories.BacktestRunFactory.create(state=RunState.REQUESTED)
    client = staff("view", "change")
    assert "Cancel the run" in client.get(page("cancel_run", run)).content.decode()
    run.refresh_from_db()
    assert run.state == RunState.REQUESTED
    client.post(page("cancel_run", run))
    run.refresh_from_db()
    assert run.state == RunState.CANCELLED


def test_a_run_that_has_ended_says_so() -> None:
    run = factories.BacktestRunFactory.create()
    answer = staff("view", "change").post(page("cancel_run", run), follow=True)
    assert f"backtest {run.pk} has ended already: done" in answer.content.decode()


@pytest.mark.parametrize("action", ["run_again", "cancel_run"])
def test_who_may_only_look_can_neither_run_nor_cancel(action: str) -> None:
    run = factories.BacktestRunFactory.create(state=RunState.RUNNING)
    client = staff("view")
    assert client.get(page("change", run)).status_code == 200
    assert client.post(page(action, run), WORDS).status_code == 403
    assert client.post(reverse(RUN), WORDS).status_code == 403
    assert BacktestRun.objects.get().state == RunState.RUNNING


def test_the_figures_of_a_run_are_on_its_page_and_what_is_unknown_is_a_dash() -> None:
    run = factories.BacktestRunFactory.create()
    html = staff("view").get(page("change", run)).content.decode()
    assert '<th scope="row">win rate</th><td class="cdb-num">50.00\u202f%</td>' in html
    assert '<th scope="row">sharpe</th><td class="cdb-num">—</td>' in html
    assert "+10.50" in html


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "REPORTS_DIR", tmp_path)
    (tmp_path / "backtest-1.html").write_text("<p>a report</p>")
    return tmp_path


def test_a_report_is_handed_out_as_a_file(reports: Path) -> None:
    run = factories.BacktestRunFactory.create(report="backtest-1.html")
    answer: Any = staff("view").get(page("show_report", run))
    assert b"".join(answer.streaming_content) == b"<p>a report</p>"
    assert 'filename="backtest-1.html"' in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("name", ["", "gone.html", "../backtest-1.html", "/etc/passwd", ".."])
def test_no_other_file_is_ever_handed_out(reports: Path, name: str) -> None:
    run = factories.BacktestRunFactory.create(report=name)
    answer = staff("view").get(page("show_report", run), follow=True)
    assert "has no report" in answer.content.decode()


def test_a_report_is_not_for_everybody(reports: Path) -> None:
    run = factories.BacktestRunFactory.create(report="backtest-1.html")
    assert staff().get(page("show_report", run)).status_code == 403
