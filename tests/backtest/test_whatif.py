"""What if: no change is history itself, a change says what it would have done, a difference is never passed over."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from apps.backtest.services.whatif import what_if
from apps.backtest.values import BacktestRefused
from apps.execution.models import Trade
from apps.portfolio.models import Position
from apps.risk.models import RiskDecision
from tests.backtest.past import DAY, Past, live_through

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]  # the first of them compiles the kernels


@pytest.fixture
def past(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.setattr(settings, "ARCHIVE_DIR", tmp_path / "archive")
    return live_through(recording, tmp_path / "archive")


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """(exit code, answer) of the command."""
    code = 0
    try:
        call_command("whatif", "--day", DAY.isoformat(), *words, "--json")
    except SystemExit as ended:
        code = int(str(ended.code))
    return code, json.loads(capsys.readouterr().out)


def test_without_a_change_the_day_is_equal_to_history(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = ask(capsys)
    assert found["first_difference"] is None
    assert (code, found["identical"], found["difference"]) == (0, True, "0")
    assert found["same"] == found["compared"] == len(past.result.decisions)
    assert found["same"] > 4, "a day with hardly a decision has shown nothing"
    assert found["was"] == found["would"]
    assert found["was"]["round_trips"] == len(past.result.round_trips) > 1


def test_another_threshold_adds_and_removes_decisions_and_changes_the_result(past: Past) -> None:
    stricter = what_if(day=DAY, changes={"threshold_pct": "2.5"})
    looser = what_if(day=DAY, changes={"threshold_pct": "0.5"})
    assert stricter is not None
    assert looser is not None
    assert stricter.comparison.removed
    assert looser.comparison.added
    for found in (stricter, looser):
        assert found.difference == found.would.net - found.was.net
        assert found.was.round_trips == len(past.result.round_trips)
        assert found.comparison.same + len(found.comparison.removed) + len(found.comparison.changed) == len(
            past.result.decisions
        )


def test_another_stop_changes_exits_and_leaves_the_first_entry(past: Past) -> None:
    found = what_if(day=DAY, changes={"stop_loss_pct": "0.2", "take_profit_pct": "0.4"})
    assert found is not None
    first = past.result.decisions[0]
    assert first.trigger_key.partition(":")[2].partition(":")[2] not in str(found.comparison.removed)
    assert found.was != found.would


PLANTED = [
    ("price", lambda: Trade.objects.order_by("id").update(price=Decimal("123.45")), "outcome was"),
    ("verdict", lambda: RiskDecision.objects.update(verdict="denied", reasons=["CASH"]), "verdict was denied"),
]


@pytest.mark.parametrize(("name", "plant", "words"), PLANTED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_planted_difference_is_found_and_told(
    past: Past, capsys: pytest.CaptureFixture[str], name: str, plant: Any, words: str
) -> None:
    assert plant()
    code, found = ask(capsys)
    assert (code, found["identical"]) == (1, False)
    assert words in found["first_difference"]


def test_a_decision_that_is_only_in_history_is_told(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    last = RiskDecision.objects.order_by("-ts_event").first()
    assert last is not None
    key = last.signal.trigger_key
    type(last.signal).objects.filter(pk=last.signal.pk).update(trigger_key=f"{key}9")
    code, found = ask(capsys)
    assert code == 1
    assert (len(found["removed"]), len(found["added"])) == (1, 1)


def test_the_result_of_history_is_that_of_its_closed_positions(past: Past) -> None:
    closed = Position.objects.filter(status=Position.Status.CLOSED).first()
    assert closed is not None
    Position.objects.filter(pk=closed.pk).update(realized=closed.realized + 7)
    found = what_if(day=DAY, changes={})
    assert found is not None
    assert found.difference == -7


def test_the_answer_for_people_names_both_sides(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("whatif", "--day", DAY.isoformat(), "--set", "threshold_pct=2.5")
    told = capsys.readouterr().out
    for words in ("threshold_pct=2.5", "was", "would be", "removed", "difference in the net result"):
        assert words in told


WRONG: list[tuple[list[str], str]] = [
    (["--day", "2026-02-30"], "'2026-02-30' is no day such as 2026-11-21"),
    (["--day", "2026-02-05"], "no session decided anything on 2026-02-05"),
    (["--day", "2026-02-02", "--session", "999999"], "there is no session 999999"),
    (["--day", "2026-02-02", "--set", "rsi=5"], "momentum has no parameter rsi"),
    (["--day", "2026-02-02", "--set", "rsi_min=500"], "rsi_min=500 is not from 0 to 100"),
    (["--set", "rsi_min=50"], "the following arguments are required: --day"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_asked_is_one_line(
    past: Past, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("whatif", *words)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("cdb: whatif: ")
    assert line in told
    assert told.count("\n") == 1


def test_a_day_that_is_not_archived_is_refused(past: Past) -> None:
    RiskDecision.objects.update(ts_event=1_770_300_000_000)
    with pytest.raises(BacktestRefused, match=r"has no trades of 2026-02-05 \(it has 2026-02-02 to 2026-02-02\)"):
        what_if(day=DAY.replace(day=5), changes={})
