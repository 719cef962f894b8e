"""kill -9 of every process that carries the road, while counts are moving: it heals itself and says what it missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.road.recordings import make_recording
from tests.road.stack import Stack, wait_until

pytestmark = [pytest.mark.road, pytest.mark.timeout(600)]

SPEED = 60
MINUTES = 120
VICTIMS = (("ingest", 0.2), ("drain-0", 0.4), ("trade", 0.6), ("valkey", 0.8))
OUTAGE_SECONDS_MAX = 25


def processed(stack: Stack) -> int:
    return int(stack.sql("SELECT COALESCE(sum(processed), 0) FROM market_shardcursor")[0][0])


def progress(stack: Stack) -> float:
    status = stack.exchange_status()
    done = status["event_time_ms"] - status["start_ms"]
    return float(done / (status["end_ms"] - status["start_ms"]))


def test_the_road_heals_from_kills_and_processes_nothing_twice(stack: Stack, tmp_path: Path) -> None:
    recording = make_recording(tmp_path, minutes=MINUTES)
    stack.up("--replay", str(recording), "--speed", str(SPEED), "--tier", "NORMAL")
    for victim, share in VICTIMS:
        _kill_at(stack, victim, share)
    stack.wait_replayed(seconds=200)

    rows = stack.json("verify", "--replay", str(recording))
    assert all(row["ok"] for row in rows), rows
    doubled = "SELECT 1 FROM execution_trade GROUP BY venue, trade_id HAVING count(*) > 1"
    assert stack.sql(doubled) == []
    _check_coverage(stack)


def _kill_at(stack: Stack, victim: str, share: float) -> None:
    """Kill one service when this share of the recording has passed, and wait until the road moves again."""
    wait_until(f"{share:.0%} of the recording", lambda: progress(stack) >= share, seconds=200, every=0.5)
    before = processed(stack)
    stack.kill(victim)

    def healed() -> bool:
        return processed(stack) > before and bool(stack.status()["healthy"])

    wait_until(f"counts move again after {victim} was killed", healed, seconds=60)


def _check_coverage(stack: Stack) -> None:
    """At least 80 % of the minutes are PROVEN, and each gap is at most its outage plus two minutes of event time."""
    (bars,) = stack.sql("SELECT count(*) FROM market_bar")[0]
    (unproven,) = stack.sql("SELECT count(*) FROM market_coverage WHERE status = 'unproven'")[0]
    assert bars
    assert unproven / bars < 0.2
    per_symbol = stack.sql(
        "SELECT instrument_id, count(*) FROM market_coverage WHERE status = 'unproven' GROUP BY instrument_id"
    )
    assert all(minutes <= OUTAGE_SECONDS_MAX * SPEED / 60 + 2 for _, minutes in per_symbol), per_symbol
