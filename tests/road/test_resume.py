"""A replay that is stopped goes on where it stood: nothing lost, nothing doubled, no hole claimed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.road import checker, reference
from tests.road.recordings import make_recording
from tests.road.stack import Stack, wait_until

pytestmark = [pytest.mark.road, pytest.mark.timeout(400)]


def test_a_replay_goes_on_where_it_stood(stack: Stack, tmp_path: Path) -> None:
    recording = make_recording(tmp_path, minutes=120)
    symbols = checker.read([recording])
    total = sum(len(symbol.times) for symbol in symbols.values())
    arguments = ("--replay", str(recording), "--speed", "240", "--tier", "NORMAL")
    stack.up(*arguments)
    wait_until("half of it was read", lambda: stack.funnel()["processed"] > total / 2, seconds=90)
    stack.down()
    stack.up(*arguments)
    stack.wait_replayed(seconds=120)

    assert stack.funnel()["processed"] == total
    assert stack.sql("SELECT instrument_id, minute, reason FROM market_coverage") == []
    assert stack.sql("SELECT count(*) FROM portfolio_tradingsession") == [(1,)]
    found = [row for row in stack.json("signals") if row["kind"] == "entry"]
    expected = reference.expected_signals(recording)
    assert [(row["ts_event"], row["trade_id"]) for row in found] == [(row.ts_event, row.trade_id) for row in expected]
    for compared, faults in (
        checker.check_bars(stack.database_url, stack.session_id(), symbols),
        checker.check_fills(stack.database_url, stack.session_id(), symbols),
    ):
        assert compared
        assert not faults, faults[:3]
    assert all(row["ok"] for row in stack.json("verify", "--replay", str(recording)))
