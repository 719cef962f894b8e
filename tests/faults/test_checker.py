"""The judge is judged: each kind of damage to the evidence must be seen, and sound evidence must pass."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.faults import checker
from tests.faults.checker import BACKFILLED, PROVEN, UNPROVEN, check, trade_hash
from tests.faults.evidence import MINUTE_MS, Bar, Block, Evidence, Statement, Trade, whole

FIRST = 28_000_000
SYMBOL = "BTCUSDT"
TICK, STEP = Decimal("0.01"), Decimal("0.001")
PROVEN_MINUTE, FILLED_MINUTE, EMPTY_MINUTE, UNPROVEN_MINUTE, LAST_MINUTE = range(FIRST, FIRST + 5)


def trades_of(minute: int, count: int = 5) -> list[Trade]:
    start = minute * MINUTE_MS
    return [Trade(start + 7 * n, f"{minute}-{n}", 1 + n % 2, 5_000 + 13 * n % 40, 100 + n) for n in range(count)]


def bar_of(trades: list[Trade], carried: int = 0, *, source: str = "trades") -> Bar:
    prices = [trade.price for trade in trades] or [carried]
    volume = sum(trade.quantity for trade in trades) * STEP
    turnover = sum(trade.price * trade.quantity for trade in trades) * TICK * STEP
    hashed = sum(map(trade_hash, trades)) % 2**64
    signed = hashed - 2**64 if hashed >= 2**63 else hashed
    ids = (trades[0].trade_id, trades[-1].trade_id) if trades and source == "trades" else ("", "")
    ends = (prices[0] * TICK, max(prices) * TICK, min(prices) * TICK, prices[-1] * TICK)
    return Bar(*ends, volume, turnover, len(trades), *ids, signed if source == "trades" else 0, source)


def sound() -> Evidence:
    """One symbol, five minutes: PROVEN, BACKFILLED, a PROVEN one without trades, UNPROVEN, one without trades."""
    minutes = {minute: trades_of(minute) for minute in (PROVEN_MINUTE, FILLED_MINUTE, UNPROVEN_MINUTE)}
    journal = [trade for trades in minutes.values() for trade in trades]
    evidence = Evidence(FIRST, {SYMBOL: (2, 3)}, {SYMBOL: journal}, closed={SYMBOL: LAST_MINUTE})
    evidence.bars = {
        (SYMBOL, PROVEN_MINUTE): bar_of(minutes[PROVEN_MINUTE]),
        (SYMBOL, FILLED_MINUTE): bar_of(minutes[FILLED_MINUTE], source="backfill"),
        (SYMBOL, UNPROVEN_MINUTE): bar_of(minutes[UNPROVEN_MINUTE][:2]),
        (SYMBOL, EMPTY_MINUTE): bar_of([], carried=minutes[FILLED_MINUTE][-1].price),
        (SYMBOL, LAST_MINUTE): bar_of([], carried=minutes[UNPROVEN_MINUTE][1].price),
    }
    evidence.coverage = {
        (SYMBOL, FILLED_MINUTE): Statement("backfilled", "network_error"),
        (SYMBOL, UNPROVEN_MINUTE): Statement("unproven", "network_error"),
    }
    evidence.swept = {SYMBOL: LAST_MINUTE}
    proven = tuple(minutes[PROVEN_MINUTE])
    lossy = tuple(minutes[UNPROVEN_MINUTE][:2])
    evidence.shards = {
        0: [
            Block("1-0", 1, "", 0, ()),
            Block("2-0", 1, SYMBOL, 1, proven[:2]),
            Block("3-0", 1, SYMBOL, 3, proven[2:]),
            Block("4-0", 2, SYMBOL, 1, lossy),
        ]
    }
    return evidence


def test_sound_evidence_passes_and_says_how_much_was_compared() -> None:
    verdict = check(sound())

    assert verdict.faults == []
    assert verdict.minutes == {PROVEN: 3, BACKFILLED: 1, UNPROVEN: 1}
    assert (verdict.trades, verdict.stream_trades) == (10, 7)
    assert verdict.reasons == {"network_error": 1}


def _journal(evidence: Evidence, index: int, trade: Trade | None) -> None:
    evidence.journal[SYMBOL][index : index + 1] = [] if trade is None else [trade]


def drop_a_trade_of_the_journal(evidence: Evidence) -> None:
    _journal(evidence, 1, None)


def add_a_trade_to_the_journal(evidence: Evidence) -> None:
    evidence.journal[SYMBOL].insert(1, evidence.journal[SYMBOL][0]._replace(trade_id="missed"))


def change_a_price(evidence: Evidence) -> None:
    trade = evidence.journal[SYMBOL][1]
    _journal(evidence, 1, trade._replace(price=trade.price + 1))


def change_an_id(evidence: Evidence) -> None:
    _journal(evidence, 1, evidence.journal[SYMBOL][1]._replace(trade_id="another"))


def change_a_side(evidence: Evidence) -> None:
    trade = evidence.journal[SYMBOL][1]
    _journal(evidence, 1, trade._replace(side=3 - trade.side))


def move_a_trade_by_a_millisecond(evidence: Evidence) -> None:
    trade = evidence.journal[SYMBOL][1]
    _journal(evidence, 1, trade._replace(ts_ms=trade.ts_ms + 1))


def drop_a_trade_of_the_stream(evidence: Evidence) -> None:
    block = evidence.shards[0][1]
    evidence.shards[0][1] = block._replace(trades=block.trades[:1])


def double_an_entry_of_the_stream(evidence: Evidence) -> None:
    evidence.shards[0].insert(2, evidence.shards[0][1]._replace(entry_id="2-1"))


def double_a_trade_under_another_token(evidence: Evidence) -> None:
    block = evidence.shards[0][1]
    evidence.shards[0].append(block._replace(entry_id="9-0", token=2, ordinal=3))


def let_an_old_token_write(evidence: Evidence) -> None:
    evidence.shards[0].append(Block("9-0", 1, SYMBOL, 6, tuple(trades_of(UNPROVEN_MINUTE, 1))))


def turn_two_entries_round(evidence: Evidence) -> None:
    blocks = evidence.shards[0]
    blocks[1], blocks[2] = blocks[2], blocks[1]


def call_a_hole_proven(evidence: Evidence) -> None:
    del evidence.coverage[SYMBOL, UNPROVEN_MINUTE]


def call_a_hole_backfilled(evidence: Evidence) -> None:
    evidence.coverage[SYMBOL, UNPROVEN_MINUTE] = Statement("backfilled", "network_error")


def forget_a_reason(evidence: Evidence) -> None:
    evidence.coverage[SYMBOL, UNPROVEN_MINUTE] = Statement("unproven", " ")


def forget_a_minute(evidence: Evidence) -> None:
    del evidence.bars[SYMBOL, EMPTY_MINUTE]


def forget_the_bar_of_a_backfilled_minute(evidence: Evidence) -> None:
    del evidence.bars[SYMBOL, FILLED_MINUTE]


def invent_a_status(evidence: Evidence) -> None:
    evidence.coverage[SYMBOL, FILLED_MINUTE] = Statement("perhaps", "network_error")


def forget_a_symbol(evidence: Evidence) -> None:
    evidence.decimals["ETHUSDT"] = (2, 3)


def state_nothing_of_a_symbol(evidence: Evidence) -> None:
    evidence.decimals["ETHUSDT"] = (2, 3)
    evidence.closed["ETHUSDT"] = LAST_MINUTE


def carry_another_close(evidence: Evidence) -> None:
    evidence.bars[SYMBOL, EMPTY_MINUTE] = bar_of([], carried=1)


DAMAGES = (
    drop_a_trade_of_the_journal, add_a_trade_to_the_journal, change_a_price, change_an_id, change_a_side,
    move_a_trade_by_a_millisecond, drop_a_trade_of_the_stream, double_an_entry_of_the_stream,
    double_a_trade_under_another_token, let_an_old_token_write, turn_two_entries_round, call_a_hole_proven,
    call_a_hole_backfilled, forget_a_reason, forget_a_minute, forget_the_bar_of_a_backfilled_minute, invent_a_status,
    forget_a_symbol, state_nothing_of_a_symbol, carry_another_close,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_kind_of_damage_is_seen(damage: Callable[[Evidence], None]) -> None:
    evidence = sound()
    damage(evidence)

    assert not check(evidence).ok


@pytest.mark.parametrize("minute", [PROVEN_MINUTE, FILLED_MINUTE], ids=["proven", "backfilled"])
@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume", "turnover"])
def test_each_figure_of_a_bar_is_compared(minute: int, name: str) -> None:
    evidence = sound()
    bar = evidence.bars[SYMBOL, minute]
    evidence.bars[SYMBOL, minute] = bar._replace(**{name: getattr(bar, name) + STEP})

    faults = check(evidence).faults

    assert len(faults) == 1
    assert name in faults[0]


@pytest.mark.parametrize("name", ["trade_count", "hash_sum", "first_trade_id", "last_trade_id"])
def test_what_only_a_proven_minute_knows_is_compared_there(name: str) -> None:
    evidence = sound()
    changes: dict[str, Any] = {name: "another" if name.endswith("id") else 4_711}
    evidence.bars[SYMBOL, PROVEN_MINUTE] = evidence.bars[SYMBOL, PROVEN_MINUTE]._replace(**changes)

    assert len(check(evidence).faults) == 1


def test_where_the_exchange_sent_out_of_order_only_open_and_close_are_excused() -> None:
    evidence = sound()
    trades = trades_of(PROVEN_MINUTE)
    evidence.disordered.add((SYMBOL, PROVEN_MINUTE))
    evidence.bars[SYMBOL, PROVEN_MINUTE] = bar_of([*trades[3:], *trades[:3]])
    assert check(evidence).ok

    evidence.bars[SYMBOL, PROVEN_MINUTE] = bar_of(trades[:4])
    assert not check(evidence).ok


def test_a_price_carried_out_of_an_unproven_minute_is_not_compared() -> None:
    evidence = sound()
    evidence.bars[SYMBOL, LAST_MINUTE] = bar_of([], carried=1)
    assert check(evidence).ok

    del evidence.coverage[SYMBOL, UNPROVEN_MINUTE]
    evidence.bars[SYMBOL, UNPROVEN_MINUTE] = bar_of(trades_of(UNPROVEN_MINUTE))
    assert any(f"minute {LAST_MINUTE}" in fault for fault in check(evidence).faults)


def test_an_entry_of_an_old_token_counts_for_nothing_if_it_was_set_aside() -> None:
    evidence = sound()
    let_an_old_token_write(evidence)
    evidence.dead.add((0, "9-0"))

    assert check(evidence).ok


@pytest.mark.parametrize(
    "emptied",
    [
        Evidence(FIRST, {}, {}),
        replace(sound(), shards={}),
        replace(
            sound(), coverage={(SYMBOL, minute): Statement("unproven", "no") for minute in range(FIRST, FIRST + 4)}
        ),
    ],
    ids=["no symbol", "no stream", "nothing proven"],
)
def test_a_check_that_compared_nothing_has_failed(emptied: Evidence) -> None:
    assert not check(emptied).ok


def test_minutes_that_no_sweep_has_passed_are_counted_as_provisional() -> None:
    assert check(sound()).provisional == 0
    assert check(replace(sound(), swept={SYMBOL: FIRST})).provisional == 4
    assert check(replace(sound(), swept={SYMBOL: None})).provisional == 5


def test_a_text_with_more_decimals_than_the_instrument_is_refused() -> None:
    assert whole("12.34", 2) == 1_234
    with pytest.raises(ValueError, match="more than 2 decimals"):
        whole("12.345", 2)


def test_the_checker_and_its_evidence_know_nothing_of_what_they_judge() -> None:
    folder = Path(checker.__file__).parent
    for name in ("checker.py", "evidence.py"):
        tree = ast.parse((folder / name).read_text())
        imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [
            module for module in imported if module.split(".")[0] in ("apps", "workers", "proto", "cdb_project")
        ]
    script = "import sys, tests.faults.checker; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=folder.parents[1]
    )
    assert not [name for name in loaded.stdout.split() if name.split(".")[0] in ("apps", "workers", "django")]
