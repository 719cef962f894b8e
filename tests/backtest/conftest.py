"""A recording that trades, compiled kernels, and a folder of its own for what is written."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings

from apps.backtest.services.judging import default_limits, judge_of
from apps.backtest.services.sources import open_source
from apps.backtest.simulating import setup_of, simulate
from apps.backtest.slicing import whole_minutes
from apps.backtest.values import parse_request
from tests.road.recordings import make_recording


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours of three symbols that rise and fall by some per cent. No test waits for a compiler in a transaction."""
    path = make_recording(tmp_path_factory.mktemp("recorded"), seed=3, minutes=120, symbols=3)
    source = open_source(parse_request(strategy="momentum", trades=[str(path)]))
    judge = judge_of("momentum", None, {"threshold_pct": "1", "rsi_min": "20"})
    setup = setup_of(
        specs=source.specs, strategy="momentum", version_id=0, parameters=judge.parameters, capital=Decimal(100_000),
        limits=default_limits(),
    )  # fmt: skip
    done = simulate(setup, whole_minutes(source.parts()))
    assert done is not None
    assert done.result.round_trips, "the recording must show a whole round trip"
    return path


@pytest.fixture(autouse=True)
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "REPORTS_DIR", tmp_path / "reports")
    return tmp_path / "reports"
