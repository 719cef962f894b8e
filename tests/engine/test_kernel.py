"""The compiled scan: any cut gives the same, its shortcuts change nothing, and what was late stays late."""

from __future__ import annotations

import csv
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.judging import Columns, Scanner
from apps.engine.kernel import ENTRY, KINDS, MINUTE_MS
from apps.engine.model import Scale
from apps.engine.strategies import STRATEGIES
from tests.engine.columns import LIVELY, market, plan_of, run
from tests.engine.market_stream import START_MS
from tests.road.recordings import make_recording
from tests.road.reference import expected_signals

NAMES = sorted(STRATEGIES)
SEEDS = st.integers(0, 10_000)
TIERS = {"LOW_TRUST": (3.0, 60.0), "NORMAL": (2.0, 50.0), "HIGH_TRUST": (1.5, 40.0)}


# --- any cut ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(seed=SEEDS, cuts=st.lists(st.integers(0, 100_000), max_size=30), room=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_any_cut_and_any_buffer_gives_the_same_events_and_the_same_state_to_the_byte(
    name: str, seed: int, cuts: list[int], room: int
) -> None:
    plan, columns = plan_of(name, **LIVELY[name]), market(seed)
    whole, judged, state = run(plan, columns)
    parts, judged_in_parts, state_of_parts = run(plan, columns, cuts, room)
    assert parts == whole
    assert (judged_in_parts, state_of_parts.tobytes()) == (judged, state.tobytes())


@pytest.mark.parametrize("name", NAMES)
@given(seed=SEEDS, data=st.data())
@settings(max_examples=20, deadline=None)
def test_batches_as_live_ones_give_what_one_pass_gives(name: str, seed: int, data: st.DataObject) -> None:
    plan, columns = plan_of(name, **LIVELY[name]), market(seed)
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=len(columns.ts), max_size=len(columns.ts)))
    cuts = np.cumsum(sizes)
    assert run(plan, columns, cuts[cuts < len(columns.ts)].tolist())[0] == run(plan, columns)[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_made_up_markets_do_fire(name: str) -> None:
    """Guards the property tests above against comparing nothing with nothing, and against never filling a buffer."""
    counts = [len(run(plan_of(name, **LIVELY[name]), market(seed))[0]) for seed in range(20)]
    assert sum(counts) >= 60
    assert max(counts) > 3


def test_columns_that_may_not_be_written_give_the_same_and_are_not_compiled_for_again() -> None:
    plan, columns = plan_of("momentum", **LIVELY["momentum"]), market(1)
    expected = run(plan, columns)[0]
    for column in columns:
        column.flags.writeable = False
    assert run(plan, columns)[0] == expected
    assert len(plan.module.kernel.scan.signatures) == 1  # type: ignore[attr-defined]


# --- the shortcuts ----------------------------------------------------------------------------------------------------


@given(
    ref=st.integers(1, 10**13),
    threshold=st.one_of(st.sampled_from([0.01, 1.5, 2.0, 3.0, 100.0]), st.floats(0.01, 100.0)),
    decimals=st.integers(0, 12),
    offset=st.integers(-3, 3),
)
@settings(max_examples=400, deadline=None)
def test_the_bound_on_prices_never_differs_from_the_formula(
    ref: int, threshold: float, decimals: int, offset: int
) -> None:
    """Prices around the very tick at which the change reaches the threshold."""
    price = max(round(ref * (1 + threshold / 100)) + offset, 1)
    plan = plan_of("momentum", lookback_minutes=1, threshold_pct=threshold, rsi_min=0)
    state, unit = plan.module.new_state(), 10.0**decimals
    minute = START_MS // MINUTE_MS
    for back, ticks in [*((number, ref) for number in range(15, 1, -1)), (1, ref + 1)]:
        plan.warm(state, minute - back, ticks / unit, 1.0)
    columns = Columns(*(np.array([value], dtype=np.int64) for value in (START_MS, price, 1)))
    fired = [event for events, _ in Scanner().scan(plan, state, Scale(decimals, 0), columns) for event in events]
    change = (price / unit) / (ref / unit) - 1.0
    assert [event.change for event in fired] == ([change] if change >= threshold / 100 else [])


@pytest.mark.parametrize("cooldown", [0, 0.5, 1, 2.75])
def test_the_pause_after_a_signal_ends_at_its_very_millisecond(cooldown: float) -> None:
    plan = plan_of("momentum", lookback_minutes=1, threshold_pct=1, rsi_min=0, cooldown_minutes=cooldown)
    pause = int(cooldown * MINUTE_MS)
    for late_by in (-1, 0, 1):
        if cooldown == 0 and late_by < 0:
            continue
        state, minute = plan.module.new_state(), START_MS // MINUTE_MS
        for back in range(15, 0, -1):
            plan.warm(state, minute - back, 100.0 - back, 1.0)
        times = [START_MS, START_MS + pause + late_by]
        prices = [200_0000, 900_0000]
        columns = Columns(*(np.array(values, dtype=np.int64) for values in (times, prices, [1, 1])))
        events = [event for part, _ in Scanner().scan(plan, state, Scale(4, 0), columns) for event in part]
        assert len(events) == (1 if late_by < 0 else 2)


# --- late trades, warm-up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(seed=SEEDS, data=st.data())
@settings(max_examples=20, deadline=None)
def test_trades_of_closed_minutes_change_nothing(name: str, seed: int, data: st.DataObject) -> None:
    plan, columns = plan_of(name, **LIVELY[name]), market(seed)
    places = sorted(data.draw(st.sets(st.integers(1, len(columns.ts) - 1), min_size=1, max_size=10)))
    late = Columns(
        np.insert(columns.ts, places, columns.ts[0] - MINUTE_MS),
        np.insert(columns.price, places, 10**9),
        np.insert(columns.quantity, places, 10**9),
    )
    found, judged, state = run(plan, columns)
    again, judged_again, state_again = run(plan, late)
    assert [event[1:] for event in again] == [event[1:] for event in found]
    assert (judged_again, state_again.tobytes()) == (judged, state.tobytes())


@pytest.mark.parametrize(("name", "need"), [("momentum", 15), ("mean_reversion", 15)])
def test_warming_up_is_said_in_bars_and_ends_with_the_first_judgement(name: str, need: int) -> None:
    plan = plan_of(name, **LIVELY[name])
    given_parameters = plan.module.validate(dict(LIVELY[name]))
    state = plan.module.new_state()
    minute = START_MS // MINUTE_MS
    told = [plan.module.warm_up(state, given_parameters)]
    judged = []
    for number in range(need + 2):
        trade = Columns(*(np.array([value], dtype=np.int64) for value in ((minute + number) * MINUTE_MS, 100, 1)))
        judged += [count for _, count in Scanner().scan(plan, state, Scale(2, 0), trade)]
        told.append(plan.module.warm_up(state, given_parameters))
    assert told == [(0, need), *((min(number, need), need) for number in range(need + 2))]
    assert judged == [0] * need + [1, 1]


# --- the rule, from a reference written apart -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recording(tmp_path_factory.mktemp("recording"), seed=5, minutes=240, per_minute=12)


@pytest.mark.parametrize("tier", TIERS)
def test_the_signals_of_a_recording_are_those_of_the_reference(recording: Path, tier: str) -> None:
    threshold, rsi_min = TIERS[tier]
    plan = plan_of("momentum", threshold_pct=threshold, rsi_min=rsi_min)
    found = sorted(_signals(plan, recording), key=lambda row: (row[1], row[0]))
    expected = expected_signals(recording, threshold_pct=threshold, rsi_min=rsi_min)
    assert len(expected) >= 3
    assert [row[:4] for row in found] == [(row.symbol, row.ts_event, row.trade_id, row.price) for row in expected]
    assert [row[4] for row in found] == [row.change for row in expected]
    assert [row[5] for row in found] == pytest.approx([row.rsi for row in expected], abs=1e-9)


def _signals(plan: Any, path: Path) -> list[tuple[str, int, str, str, float, float]]:
    specs = json.loads(path.with_name("recording.instruments.json").read_text())
    by_symbol: dict[str, list[dict[str, str]]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            by_symbol.setdefault(row["symbol"], []).append(row)
    signals = []
    for symbol, rows in by_symbol.items():
        scale = Scale(specs[symbol]["quotePrecision"], specs[symbol]["baseAssetPrecision"])
        columns = Columns(
            np.array([int(row["time_ms"]) for row in rows], dtype=np.int64),
            np.array([int(Decimal(row["price"]).scaleb(scale.price_decimals)) for row in rows], dtype=np.int64),
            np.array([int(Decimal(row["quantity"]).scaleb(scale.quantity_decimals)) for row in rows], dtype=np.int64),
        )
        for events, _ in Scanner().scan(plan, plan.module.new_state(), scale, columns):
            for event in events:
                assert event.kind == KINDS[ENTRY]
                row = rows[event.row]
                signals.append((symbol, int(row["time_ms"]), row["trade_id"], row["price"], event.change, event.rsi))
    return signals
