"""A recording through the whole road: real processes, real servers, real sockets."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from apps.bus import codec
from apps.bus.streams import entry_order
from apps.engine.events import Event, Watermark
from apps.engine.model import Scale
from apps.engine.shard import ShardEngine, StrategySpec
from apps.market.segments import read_segments
from tests.engine.market_stream import PARAMETERS
from tests.road import checker, reference
from tests.road.recordings import make_recording
from tests.road.stack import Stack

pytestmark = [pytest.mark.alone, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def replayed(module_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stack, Path]:
    """A stack that has played a recording of two hours at speed 300."""
    recording = make_recording(tmp_path_factory.mktemp("recording"), minutes=120)
    module_stack.up("--replay", str(recording), "--speed", "300", "--tier", "NORMAL")
    module_stack.wait_replayed(seconds=120)
    return module_stack, recording


def trades_in(recording: Path) -> int:
    return sum(len(symbol.times) for symbol in checker.read([recording]).values())


def test_every_trade_is_processed_exactly_once(replayed: tuple[Stack, Path]) -> None:
    stack, recording = replayed
    funnel = stack.funnel()
    assert funnel["received"] == funnel["decoded"] == funnel["published"] == trades_in(recording)
    assert funnel["processed"] == trades_in(recording)
    assert stack.sql("SELECT count(*) FROM market_coverage") == [(0,)]


def test_bars_equal_those_of_the_file_to_the_last_digit(replayed: tuple[Stack, Path]) -> None:
    stack, recording = replayed
    compared, faults = checker.check_bars(stack.database_url, stack.session_id(), checker.read([recording]))
    assert not faults, faults[:3]
    assert compared > 400


def entries(stack: Stack) -> list[dict[str, Any]]:
    return [row for row in stack.json("signals") if row["kind"] == "entry"]


def test_signals_equal_those_of_the_reference_one_by_one(replayed: tuple[Stack, Path]) -> None:
    stack, recording = replayed
    found = sorted(entries(stack), key=lambda row: (row["ts_event"], row["symbol"]))
    expected = reference.expected_signals(recording)
    assert [(row["symbol"], row["ts_event"], row["trade_id"], row["price"]) for row in found] == [
        (row.symbol, row.ts_event, row.trade_id, row.price) for row in expected
    ]
    assert len(expected) >= 8
    for row, wanted in zip(found, expected, strict=True):
        assert row["change"] == pytest.approx(wanted.change, abs=1e-9)
        assert row["rsi"] == pytest.approx(wanted.rsi, abs=1e-9)


@pytest.mark.parametrize("way", ["one shard", "one event per entry", "half of the watermarks"])
def test_the_same_stream_read_in_another_way_gives_the_same_signals(replayed: tuple[Stack, Path], way: str) -> None:
    """What the ingest really wrote, from the raw segments: merged, split, thinned."""
    stack, recording = replayed
    dice = random.Random(way)
    engine = ShardEngine(scales_of(recording), [StrategySpec(1, "momentum", PARAMETERS)])
    found = []
    for entry_id, events in written_by(stack):
        kept = [row for row in events if not (way.startswith("half") and is_watermark(row) and dice.random() < 0.5)]
        for part in [[row] for row in kept] if way.startswith("one event") else [kept]:
            found += engine.apply(entry_id, part).signals
    signals = sorted((row.ts_event, row.symbol, row.trade_id) for row in found)
    assert signals == [(row.ts_event, row.symbol, row.trade_id) for row in reference.expected_signals(recording)]


def is_watermark(event: Event) -> bool:
    return isinstance(event, Watermark)


def written_by(stack: Stack) -> list[tuple[str, list[Event]]]:
    """Every entry of every shard in the order of its id."""
    root = stack.folder / "segments"
    (epoch,) = root.iterdir()
    rows = [row for shard in epoch.iterdir() for row in read_segments(root, int(epoch.name), int(shard.name))]
    return [
        (entry_id, codec.decode(payload)) for entry_id, payload in sorted(rows, key=lambda row: entry_order(row[0]))
    ]


def scales_of(recording: Path) -> dict[str, Scale]:
    beside = recording.with_name("recording.instruments.json")
    specs = json.loads(beside.read_text())
    return {name: Scale(row["quotePrecision"], row["baseAssetPrecision"]) for name, row in specs.items()}


def test_every_signal_has_one_decision_and_each_denial_says_why(replayed: tuple[Stack, Path]) -> None:
    stack, _ = replayed
    rows = stack.json("signals")
    assert {row["decision"] for row in rows} <= {"approved", "denied"}
    assert all(row["reasons"] for row in rows if row["decision"] == "denied")
    assert [row for row in rows if row["decision"] == "approved"]


def test_each_fill_equals_what_the_file_and_the_rules_give(replayed: tuple[Stack, Path]) -> None:
    stack, recording = replayed
    compared, faults = checker.check_fills(stack.database_url, stack.session_id(), checker.read([recording]))
    assert not faults, faults[:3]
    assert compared >= 8


def test_verify_holds_against_the_recording(replayed: tuple[Stack, Path]) -> None:
    stack, recording = replayed
    rows = stack.json("verify", "--replay", str(recording))
    assert [row["id"] for row in rows] == ["I1", "I2", "I3", "I4", "I6", "I7", "chain", "again", "endings"]
    assert all(row["ok"] and row["compared"] > 0 for row in rows), rows


def parity(stack: Stack) -> tuple[int, dict[str, Any]]:
    """What `manage.py parity` says about the day of the recording."""
    last_ms = stack.sql("SELECT max(ts_event) FROM risk_riskdecision")[0][0]
    day = datetime.fromtimestamp(last_ms / 1000, UTC).date().isoformat()
    answer = stack.manage("parity", "--day", day, "--json", check=False)
    return answer.returncode, json.loads(answer.stdout)


def test_live_did_what_the_replay_of_its_stream_does(replayed: tuple[Stack, Path]) -> None:
    stack, _ = replayed
    code, audit = parity(stack)
    assert (code, audit["holds"], audit["difference"]) == (0, True, None)
    assert audit["compared"]["signals"] >= 8
    assert audit["compared"]["decisions"] == len(stack.json("signals"))
    assert audit["compared"]["fills"] == stack.sql("SELECT count(*) FROM execution_trade")[0][0]
    assert audit["compared"]["results"] == 1


TICK = "(SELECT power(10::numeric, -i.price_decimals) FROM market_instrument i WHERE i.id = instrument_id)"
FIRST_EXIT = "(SELECT min(id) FROM signals_signal WHERE kind = 'exit')"
FIRST = "(SELECT min(id) FROM signals_signal)"
DEAREST = "(SELECT id FROM execution_trade ORDER BY price DESC LIMIT 1)"
LAST = "(SELECT max(id) FROM risk_riskdecision)"
PLANTED = [
    ("signal", "signals_signal", f"UPDATE signals_signal SET price = price + {TICK} WHERE id = {FIRST}"),
    ("signal", "signals_signal", f"UPDATE signals_signal SET price = price + {TICK} WHERE id = {FIRST_EXIT}"),
    ("fill", "execution_trade", f"UPDATE execution_trade SET price = price + {TICK} WHERE id = {DEAREST}"),
    ("decision", "risk_riskdecision", f"UPDATE risk_riskdecision SET equity = equity + 1e-8 WHERE id = {LAST}"),
    ("result", "portfolio_account", "UPDATE portfolio_account SET cash = cash + 1e-8"),
]


@pytest.mark.parametrize(("what", "table", "damage"), PLANTED, ids=range(len(PLANTED)))
def test_a_planted_difference_of_one_tick_is_found_and_shown_with_both_sides(
    replayed: tuple[Stack, Path], what: str, table: str, damage: str
) -> None:
    stack, _ = replayed
    stack.sql(f"CREATE TABLE kept_{table} AS TABLE {table}")
    try:
        stack.sql(damage)
        code, audit = parity(stack)
    finally:
        _restore(stack, table)
    assert (code, audit["holds"], audit["difference"]["what"]) == (1, False, what)
    assert audit["difference"]["recorded"] != audit["difference"]["replayed"]


SECOND_DECISION = """
    INSERT INTO risk_riskdecision
    SELECT (jsonb_populate_record(d, jsonb_build_object(
        'id', d.id + 1000000, 'book', 'other', 'sequence', d.sequence + 1000000))).*
      FROM risk_riskdecision d ORDER BY d.id LIMIT 1
"""
LAST_LEG = """
    ALTER TABLE portfolio_ledgerentry DISABLE TRIGGER frozen;
    DELETE FROM portfolio_ledgerentry WHERE id = (SELECT max(id) FROM portfolio_ledgerentry);
    ALTER TABLE portfolio_ledgerentry ENABLE TRIGGER frozen;
"""
WRONG_CLOSE = "UPDATE market_bar SET close = close * 1.01 WHERE id = (SELECT min(id) + 31 FROM market_bar)"
DAMAGES = [
    ("a bar deleted", "I3", "DELETE FROM market_bar WHERE id = (SELECT min(id) + 30 FROM market_bar)"),
    ("a price digit changed", "I3", WRONG_CLOSE),
    ("a second decision", "I4", SECOND_DECISION),
    ("a ledger leg removed", "I6", LAST_LEG),
    ("the cursor moved back", "I1", "UPDATE market_shardcursor SET replay_from = '1-0' WHERE replay_entries > 0"),
]


@pytest.mark.parametrize(("what", "invariant", "damage"), DAMAGES, ids=[row[0] for row in DAMAGES])
def test_verify_names_the_invariant_that_a_damage_breaks(
    replayed: tuple[Stack, Path], what: str, invariant: str, damage: str
) -> None:
    """The database is copied, damaged and restored, so that the damages do not meet."""
    stack, recording = replayed
    tables = ["market_bar", "risk_riskdecision", "portfolio_ledgerentry", "market_shardcursor"]
    for table in tables:
        stack.sql(f"CREATE TABLE kept_{table} AS TABLE {table}")
    try:
        stack.sql(damage)
        answer = stack.manage("verify", "--json", "--replay", str(recording), check=False)
        assert answer.returncode == 1, what
        failed = {row["id"] for row in json.loads(answer.stdout) if not row["ok"]}
        assert invariant in failed, (what, failed)
    finally:
        for table in tables:
            _restore(stack, table)


def _restore(stack: Stack, table: str) -> None:
    columns = [
        row[0] for row in stack.sql("SELECT column_name FROM information_schema.columns WHERE table_name = %s", table)
    ]
    names = ", ".join(f'"{name}"' for name in columns)
    updates = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in columns if name != "id")
    stack.sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")  # the ledger's rows are frozen
    stack.sql(f"DELETE FROM {table} WHERE id NOT IN (SELECT id FROM kept_{table})")
    stack.sql(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM kept_{table} ON CONFLICT (id) DO UPDATE SET {updates}"
    )
    stack.sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    stack.sql(f"DROP TABLE kept_{table}")
