"""What a newcomer does: start the demo, see it trade, stop it, start it again."""

from __future__ import annotations

import json
import stat
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery

from tests.road.stack import Stack, wait_until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]


def modes_above(path: Path) -> dict[Path, int]:
    return {parent: stat.S_IMODE(parent.stat().st_mode) for parent in path.parents}


def test_the_demo_trades_and_what_it_knew_is_there_after_a_restart(stack: Stack) -> None:
    before = modes_above(stack.folder)
    stack.up()
    status = stack.status()
    assert status["healthy"], status
    assert _behind(status) >= {"misc", "study", "steward", "beat", "web", "flower"}
    assert not _behind(status) & {"ingest", "drain-0", "drain-1", "trade"}
    assert Celery(broker=stack.runtime["redis_url"]).control.inspect(timeout=2).ping() is None, "none takes commands"
    credentials = json.loads((stack.folder / "credentials.json").read_text())
    assert stat.S_IMODE((stack.folder / "credentials.json").stat().st_mode) == 0o600
    assert credentials.keys() >= {"url", "username", "password", "flower_url"}
    with urllib.request.urlopen(f"{status['url']}health", timeout=10) as answer:
        assert answer.status == 200
    wait_until("the demo has traded", lambda: stack.funnel()["trades"] > 0, seconds=90, every=1)
    assert "Nothing needs you" in stack.manage("status", "--line").stdout

    stack.manage("risk", "reduce", "--reason", "test")
    known = _memory(stack)
    stack.down()
    assert stack.processes() == []
    assert modes_above(stack.folder) == before
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{status['url']}health", timeout=5)

    stack.up()
    again = _memory(stack)
    assert again["limits"] == known["limits"]
    assert again["state"] == [("REDUCING",)]
    assert again["orders"][: len(known["orders"])] == known["orders"]
    assert again["positions"].items() >= known["positions"].items()
    assert all(row["ok"] for row in stack.json("verify"))


def _behind(status: dict[str, Any]) -> set[str]:
    """The services that step back for the processor."""
    ours = psutil.Process().nice()
    return {row["name"] for row in status["services"] if row["pid"] and psutil.Process(row["pid"]).nice() > ours}


def _memory(stack: Stack) -> dict[str, Any]:
    """What a restart must not change; positions only by trades that came after."""
    positions = stack.sql("SELECT opened_by, entry_quantity, entry_price, opened_ts FROM portfolio_position")
    return {
        "positions": {row[0]: row[1:] for row in positions},
        "orders": stack.sql("SELECT client_order_id, side, quantity FROM execution_order ORDER BY id"),
        "limits": stack.sql("SELECT version, exposure_max FROM risk_risklimits ORDER BY version"),
        "state": stack.sql("SELECT trading_state FROM risk_riskstate"),
    }
