"""Our side of the engine's benchmark: the scan, the backtest, a live batch, and what reading the columns costs."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final

import numba

from apps.engine.backtest import Backtest, Setup
from apps.engine.desk.account import PaperSettings
from apps.engine.desk.deciding import Terms
from apps.engine.events import CoverageStart, TradeBlock
from apps.engine.model import MINUTE_MS
from apps.engine.results import Result
from apps.engine.risk.values import Limits, Sizing
from apps.engine.scanning import scan_tape
from apps.engine.shard import ShardEngine, StrategySpec
from apps.engine.tapes import Tape
from tests.bench.market import PARAMETERS, SCALE, START_MS

ROUNDS: Final = 5
BATCH: Final = 20
BATCHES: Final = 2_000
TOP: Final = 8  # modules named in the table of shares
CAPITAL: Final = 100_000
TAKER_FEE: Final = "0.0005"

SPEC: Final = StrategySpec(1, "momentum", PARAMETERS)
Slices = Sequence[Mapping[str, Tape]]


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over rounds: by the clock, and by the processor time of this process, stretched less by others."""

    seconds: float
    cpu_seconds: float


def timed(work: Callable[[], object], rounds: int = ROUNDS) -> Timing:
    seconds, cpu_seconds = [], []
    for _ in range(rounds):
        started, cpu_started = time.perf_counter(), time.process_time()
        work()
        cpu_seconds.append(time.process_time() - cpu_started)
        seconds.append(time.perf_counter() - started)
    return Timing(statistics.median(seconds), statistics.median(cpu_seconds))


def count_of(slices: Slices) -> int:
    return sum(len(tape) for tapes in slices for tape in tapes.values())


# --- one after the other ----------------------------------------------------------------------------------------------


def memory_limit(slices: Slices) -> float:
    """Trades per second of a loop that reads times, prices and quantities once and adds them up."""

    def read() -> int:
        return sum(int(_add_up(tape.ts, tape.price, tape.quantity)) for tapes in slices for tape in tapes.values())

    read()
    return count_of(slices) / timed(read).seconds


@numba.njit(cache=True)
def _add_up(ts: Any, price: Any, quantity: Any) -> int:
    total = 0
    for row in range(len(ts)):
        total += ts[row] ^ price[row] ^ quantity[row]
    return total


def scan_all(slices: Slices) -> int:
    """Every symbol's trades through the strategy; gives the number of signals."""
    signals, plan = 0, SPEC.plan
    for symbol in slices[0]:
        state = SPEC.module.new_state()
        for tapes in slices:
            signals += sum(1 for _ in scan_tape(plan, state, tapes[symbol]))
    return signals


def run_backtest(slices: Slices) -> Result:
    """Signals, risk, fills and ledger over all slices, which must follow one another."""
    backtest = Backtest(setup_of(list(slices[0])))
    for tapes in slices:
        backtest.feed(tapes, end_ms=end_of(tapes))
    return backtest.finish()


def end_of(tapes: Mapping[str, Tape]) -> int:
    """The first whole minute after every trade."""
    return (max(int(tape.ts[-1]) for tape in tapes.values()) // MINUTE_MS + 1) * MINUTE_MS


def setup_of(symbols: Sequence[str]) -> Setup:
    """The limits that a new account has; neither orders per day nor losses are
    bounded, because the market is as large as wanted."""
    return Setup(
        capital=Decimal(CAPITAL),
        currency="USDT",
        terms={symbol: _terms(symbol) for symbol in symbols},
        limits=_limits(),
        strategies=(SPEC,),
        paper=PaperSettings(latency_ms=150, base_bps=Decimal(1), impact_bps=Decimal(10)),
    )


def _terms(symbol: str) -> Terms:
    return Terms(
        symbol=symbol,
        base_asset=symbol.removesuffix("USDT"),
        quote_asset="USDT",
        price_decimals=SCALE.price_decimals,
        quantity_decimals=SCALE.quantity_decimals,
        quantity_min=Decimal("0.01"),
        notional_min=Decimal(1),
        notional_max=Decimal(1_000_000),
        taker_fee=Decimal(TAKER_FEE),
        tradable=True,
    )


def _limits() -> Limits:
    return Limits(
        order_size=Decimal("0.02"),
        order_notional_max=Decimal("0.05"),
        position_max=Decimal("0.10"),
        exposure_max=Decimal("0.50"),
        collar=Decimal("0.02"),
        exit_band=Decimal("0.10"),
        positions_per_symbol_max=2,
        open_orders_symbol_max=1,
        open_orders_max=10,
        orders_per_second_max=5,
        orders_per_minute_max=60,
        orders_per_day_max=1_000_000,
        exits_per_second_max=20,
        duplicate_ms=1_000,
        feed_age_max_ms=2_000,
        signal_age_max_ms=2_000,
        sizing=Sizing.FIXED_FRACTION,
        order_notional=Decimal(1_000),
        risk_fraction=Decimal("0.001"),
        volatility_multiple=Decimal(2),
        repeat_max=3,
        repeat_window_ms=60_000,
        day_loss_reducing=Decimal(1),
        day_loss_halted=Decimal(1),
        drawdown_reducing=Decimal(1),
        drawdown_halted=Decimal(1),
        bad_tick=Decimal("0.10"),
        heartbeat_age_max_ms=15_000,
        trading_day_zone="UTC",
    )


def entries_of(result: Result) -> list[tuple[str, int, str]]:
    """[symbol, ms, trade id] of every entry that was approved."""
    approved = {decision.trigger_key for decision in result.decisions if decision.order is not None}
    return [
        (signal.symbol, signal.ts_event, signal.trade_id)
        for signal in result.signals
        if signal.kind == "entry" and signal.key in approved
    ]


# --- a live batch -----------------------------------------------------------------------------------------------------


def batches(tape: Tape) -> dict[str, float]:
    """Microseconds for 20 trades of one symbol: all that a live shard does with them, and the scan alone."""
    count = min(BATCHES, len(tape) // BATCH)
    warm = tape.cut(0, len(tape) - count * BATCH) if len(tape) > count * BATCH else tape
    state, plan = SPEC.module.new_state(), SPEC.plan
    list(scan_tape(plan, state, warm))
    parts = [tape.cut(at, at + BATCH) for at in range(len(tape) - count * BATCH, len(tape), BATCH)]
    scans = [_seconds(lambda part=part: list(scan_tape(plan, state, part))) for part in parts]  # type: ignore[misc]
    engine = ShardEngine({tape.symbol: tape.scale}, [SPEC])
    engine.apply("1-0", [CoverageStart(1, START_MS, 0, [tape.symbol], "benchmark")])
    blocks = [_block(tape, at) for at in range(0, count * BATCH, BATCH)]
    shard = [_seconds(lambda block=block: engine.apply("2-0", [block])) for block in blocks]  # type: ignore[misc]
    return {
        "batch20_us_p50": statistics.median(shard) * 1e6,
        "batch20_us_p99": statistics.quantiles(shard, n=100)[98] * 1e6,
        "batch20_scan_us_p50": statistics.median(scans) * 1e6,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _block(tape: Tape, at: int) -> TradeBlock:
    rows = slice(at, at + BATCH)
    return TradeBlock(
        symbol=tape.symbol,
        token=1,
        ordinal=at + 1,
        ts_init=0,
        ts_event=tape.ts[rows].tolist(),
        price=tape.price[rows].tolist(),
        quantity=tape.quantity[rows].tolist(),
        side=tape.side[rows].tolist(),
        trade_id=[str(tape.trade_id[row]) for row in range(at, at + BATCH)],
    )


# --- where the time goes ----------------------------------------------------------------------------------------------


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Shares of one run's processor time by module, the largest; compiled code counts to the module that calls it."""
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    work()
    profile.disable()
    own: Counter[str] = Counter()
    for (path, _, _), figures in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        own[_module(path)] += figures[2]
    total = own.total()
    named = {name: seconds / total for name, seconds in own.most_common(TOP)}
    return named | {"everything else": max(1 - sum(named.values()), 0.0)}


def _module(path: str) -> str:
    if path == "~":
        return "built in (decimals, hashes, sorting)"
    parts = PurePath(path).with_suffix("").parts
    package = next((name for name in ("numpy", "numba") if name in parts), None)
    return package or ".".join(parts[parts.index("engine") + 1 :] if "engine" in parts else parts[-1:])
