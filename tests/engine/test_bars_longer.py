"""Longer bars equal what grouping the trades gives, and are put together the same way by any detour."""

from __future__ import annotations

import gzip
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.bars_longer import LENGTHS, PARTS, Span, is_last, joined, longer, start_of
from apps.engine.events import TradeBlock
from apps.engine.instrument_specs import parse_instruments
from apps.engine.model import MINUTE_MS, ClosedBar
from apps.engine.recording import Recording, parse_recording
from apps.engine.shard import ShardEngine
from tests.engine.market_stream import SCALE
from tests.road.recordings import make_recording

PRICE_NAMES = ("open", "high", "low", "close")
BLOCK_ROWS = 777


def read(path: Path) -> Recording:
    beside = path.with_name(path.name.removesuffix(".csv.gz") + ".instruments.json")
    with gzip.open(path, "rt") as file:
        return parse_recording(file, path.name, parse_instruments(beside.read_text(), path.name))


def minute_bars(recording: Recording) -> list[ClosedBar]:
    """The engine's one-minute bars of a recording. The last minute of a symbol stays open."""
    engine = ShardEngine(dict.fromkeys(recording.symbols, SCALE), [])
    bars: list[ClosedBar] = []
    ordinals = dict.fromkeys(recording.symbols, 1)
    for start in range(0, len(recording), BLOCK_ROWS):
        rows = list(recording.rows(start, start + BLOCK_ROWS))
        for symbol in recording.symbols:
            own = [row for row in rows if row.symbol == symbol]
            if own:
                _, ts, ids, side, price, quantity = (list(column) for column in zip(*own, strict=True))
                block = TradeBlock(symbol, 1, ordinals[symbol], 0, ts, price, quantity, side, ids)
                ordinals[symbol] += len(own)
                bars += engine.apply("1-0", [block]).bars
    return bars


def span(bar: ClosedBar, *, revision: int = 0) -> Span[int]:
    return Span(
        bar.minute, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.turnover, bar.count, bar.first_trade_id,
        bar.last_trade_id, bar.hash_sum, revision, 1, 0, 0,
    )  # fmt: skip


def grouped(recording: Recording, symbol: str, length: int) -> dict[int, dict[str, object]]:
    """What polars makes of the trades themselves: only spans with trades."""
    own = recording.symbol_index == recording.symbols.index(symbol)
    frame = pl.DataFrame(
        {
            "minute": recording.time_ms[own] // MINUTE_MS,
            "price": recording.price_ticks[own],
            "quantity": recording.quantity_steps[own],
            "id": [name.decode() for name in recording.trade_ids[own].tolist()],
        }
    )
    rows = frame.group_by_dynamic("minute", every=f"{length}i").agg(
        pl.col("price").first().alias("open"),
        pl.col("price").max().alias("high"),
        pl.col("price").min().alias("low"),
        pl.col("price").last().alias("close"),
        pl.col("quantity").sum().alias("volume"),
        (pl.col("price").cast(pl.Int128) * pl.col("quantity")).sum().alias("turnover"),
        pl.len().alias("count"),
        pl.col("id").first().alias("first_trade_id"),
        pl.col("id").last().alias("last_trade_id"),
    )
    return {int(row.pop("minute")): row for row in rows.to_dicts()}


def check_recording(recording: Recording) -> int:
    """Compare every longer bar of every symbol with polars' grouping. Returns how many had trades."""
    bars = minute_bars(recording)
    compared = 0
    for symbol in recording.symbols:
        minutes = {bar.minute: span(bar) for bar in bars if bar.symbol == symbol}
        for length in LENGTHS:
            found = longer(minutes, part=1, length=length)
            wanted = grouped(recording, symbol, length)
            assert list(found) == list(range(start_of(min(minutes), length), max(found) + length, length))
            for start, bar in found.items():
                shown = {name: getattr(bar, name) for name in wanted.get(start, ())}
                assert shown == wanted.get(start, {}), (symbol, length, start)
                if start not in wanted:
                    assert bar.volume == bar.count == 0
                    assert {getattr(bar, name) for name in PRICE_NAMES} == {found[start - length].close}
            compared += len(found.keys() & wanted.keys())
    return compared


@pytest.mark.parametrize(("seed", "per_minute"), [(3, 40), (4, 1)])
def test_bars_of_all_lengths_equal_the_grouping_of_a_recordings_trades(
    tmp_path: Path, seed: int, per_minute: int
) -> None:
    recording = read(make_recording(tmp_path, seed=seed, minutes=200, symbols=2, per_minute=per_minute))
    assert check_recording(recording) > 50


SEEDS = st.integers(0, 10_000)


def made_up(seed: int) -> dict[int, Span[int]]:
    """Neighbouring minutes, some empty, with any coverage and revisions; empty ones stand at the close before."""
    dice = random.Random(seed)
    first, close = dice.randrange(130), dice.randrange(1, 50)
    spans: dict[int, Span[int]] = {}
    for minute in range(first, first + dice.randrange(1, 140)):
        prices = [dice.randrange(1, 50) for _ in range(dice.randrange(4))]
        count, around = len(prices), prices or [close]
        close = around[-1]
        spans[minute] = Span(
            minute, around[0], max(around), min(around), close, count, sum(prices), count, f"{minute}a" * bool(count),
            f"{minute}b" * bool(count), dice.randrange(2**64) if count else 0, dice.randrange(3),
            *dice.choice([(1, 0, 0), (0, 1, 0), (0, 0, 1)]),
        )  # fmt: skip
    return spans


@given(SEEDS)
@settings(max_examples=50, deadline=None)
def test_put_together_from_shorter_ones_a_bar_is_what_its_minutes_make(seed: int) -> None:
    minutes = made_up(seed)
    steps = {1: minutes}
    for length in LENGTHS:
        steps[length] = longer(steps[PARTS[length]], part=PARTS[length], length=length)
        assert steps[length] == longer(minutes, part=1, length=length)


@given(SEEDS, SEEDS)
@settings(max_examples=30, deadline=None)
def test_whatever_minutes_arrive_together_the_longer_bars_end_the_same(market: int, cut: int) -> None:
    """As the drain does it: after each batch, those that a minute of it belongs to are made again."""
    minutes, dice = made_up(market), random.Random(cut)
    known: dict[int, Span[int]] = {}
    stored: dict[tuple[int, int], Span[int]] = {}
    waiting = sorted(minutes)
    while waiting:
        batch = waiting[: dice.randrange(1, 20)]
        waiting = waiting[len(batch) :]
        known |= {minute: replace(minutes[minute], revision=99) for minute in batch}
        revised = [minute for minute in known if dice.random() < 0.1 or not waiting]
        known |= {minute: minutes[minute] for minute in revised}
        for length in LENGTHS:
            touched = {start_of(minute, length) for minute in [*batch, *revised]}
            made = longer(known, part=1, length=length)
            stored |= {(length, start): made[start] for start in touched & made.keys()}
    assert stored == {
        (length, start): bar for length in LENGTHS for start, bar in longer(minutes, part=1, length=length).items()
    }


@pytest.mark.parametrize("length", LENGTHS)
def test_a_bar_exists_from_the_close_of_its_last_minute_and_counts_the_minutes_that_it_has(length: int) -> None:
    tail = {minute: Span(minute, 7, 7, 7, 7, 0, 0, 0, "", "", 0, 0, 1, 0, 0) for minute in range(length - 3, length)}
    assert longer({minute: tail[minute] for minute in list(tail)[:-1]}, part=1, length=length) == {}
    (bar,) = longer(tail, part=1, length=length).values()
    assert (bar.minute, bar.proven, bar.volume, bar.close) == (0, 3, 0, 7)
    assert is_last(max(tail), length)


def test_open_and_close_are_those_of_minutes_with_trades() -> None:
    empty = Span(0, 10, 10, 10, 10, 0, 0, 0, "", "", 0, 0, 1, 0, 0)
    traded = Span(1, 20, 30, 19, 25, 4, 90, 2, "a", "b", 5, 1, 0, 1, 0)
    after = Span(2, 25, 25, 25, 25, 0, 0, 0, "", "", 0, 0, 0, 0, 1)
    bar = joined(0, [empty, traded, after])
    assert (bar.open, bar.high, bar.low, bar.close) == (20, 30, 19, 25)
    assert (bar.first_trade_id, bar.last_trade_id, bar.hash_sum, bar.revision) == ("a", "b", 5, 1)
    assert (bar.proven, bar.backfilled, bar.unproven) == (1, 1, 1)
