"""A strategy that raises: its backtest ends refused and says on which trade, and a sweep goes on without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from django.core.management import call_command

from apps.backtest.models import BacktestRun
from apps.engine.strategies import STRATEGIES
from apps.engine.strategies.parameters import EXIT_PARAMETERS
from tests.engine.test_failing_strategy import MODULE

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]  # the first of them compiles the kernels


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trades at every trade, and raises at the one that the parameter `trades` counts to."""
    parameters = (*(replace(spec, default=int(spec.minimum)) for spec in MODULE.parameters), *EXIT_PARAMETERS)
    monkeypatch.setitem(STRATEGIES, "failing", replace(MODULE, parameters=parameters))


def test_a_backtest_says_on_which_trade_its_strategy_failed(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("backtest", "--trades", str(recording), "--strategy", "failing", "--set", "trades=40", "--json")
    assert ended.value.code
    run = BacktestRun.objects.get()
    assert run.state == "failed"
    assert "failing failed: version" in run.words
    assert "raised 'ZeroDivisionError: division by zero' on the trade of" in run.words
    assert run.result is None
    assert "Traceback" not in capsys.readouterr().err


def test_a_sweep_ranks_points_that_failed_last_and_says_why(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--strategy", "failing", "--set", "trades=40,-1", "--processes", "1", "--json")
    call_command("sweep", "--trades", str(recording), *words)
    first, last = json.loads(capsys.readouterr().out)["points"]
    assert first["set"] == {"trades": "-1"}
    assert first["inside"]["result"] is not None
    assert last["inside"]["result"] is None
    assert "ZeroDivisionError" in last["inside"]["failed"]
