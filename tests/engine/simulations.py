"""Made-up tapes and a setup for tests that simulate trading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import numpy as np

from apps.engine.backtest import Backtest, Setup
from apps.engine.desk.account import PaperSettings
from apps.engine.desk.deciding import Terms
from apps.engine.model import MINUTE_MS, Scale
from apps.engine.results import Result
from apps.engine.risk.values import Limits, Sizing
from apps.engine.shard import StrategySpec
from apps.engine.tapes import Tape

FIRST_MS: Final = 28_000_000 * MINUTE_MS
SCALE: Final = Scale(2, 3)
VERSION: Final = 7

LIMITS: Final = Limits(
    order_size=Decimal("0.02"), order_notional_max=Decimal("0.05"), position_max=Decimal("0.10"),
    exposure_max=Decimal("0.50"), collar=Decimal("0.02"), exit_band=Decimal("0.10"), positions_per_symbol_max=2,
    open_orders_symbol_max=1, open_orders_max=10, orders_per_second_max=5, orders_per_minute_max=60,
    orders_per_day_max=500, exits_per_second_max=20, duplicate_ms=1_000, feed_age_max_ms=2_000,
    signal_age_max_ms=2_000, sizing=Sizing.FIXED_FRACTION, order_notional=Decimal(1_000),
    risk_fraction=Decimal("0.001"), volatility_multiple=Decimal(2), repeat_max=3, repeat_window_ms=60_000,
    day_loss_reducing=Decimal("0.05"), day_loss_halted=Decimal("0.07"), drawdown_reducing=Decimal("0.05"),
    drawdown_halted=Decimal("0.07"), bad_tick=Decimal("0.10"), heartbeat_age_max_ms=15_000, trading_day_zone="UTC",
)  # fmt: skip
PAPER: Final = PaperSettings(latency_ms=150, base_bps=Decimal(1), impact_bps=Decimal(10))
MOMENTUM: Final[Mapping[str, Any]] = {
    "lookback_minutes": 3, "threshold_pct": 0.3, "rsi_min": 0, "turnover_min": 0, "volume_multiplier": 1,
    "cooldown_minutes": 2, "stop_loss_pct": "0.5", "take_profit_pct": "1", "trailing_stop_pct": "0",
    "max_holding_minutes": 20, "exit_on_signal": 1,
}  # fmt: skip


def terms(symbol: str, scale: Scale = SCALE) -> Terms:
    return Terms(
        symbol=symbol, base_asset=symbol.removesuffix("USDT"), quote_asset="USDT", price_decimals=scale.price_decimals,
        quantity_decimals=scale.quantity_decimals, quantity_min=Decimal("0.001"), notional_min=Decimal(1),
        notional_max=Decimal(1_000_000), taker_fee=Decimal("0.0005"), tradable=True,
    )  # fmt: skip


def setup(symbols: Sequence[str], limits: Limits = LIMITS, capital: int = 100_000, **changes: Any) -> Setup:
    """A setup of one momentum version; `changes` are parameters of it."""
    return Setup(
        capital=Decimal(capital), currency="USDT", terms={symbol: terms(symbol) for symbol in symbols}, limits=limits,
        strategies=(StrategySpec(VERSION, "momentum", {**MOMENTUM, **changes}),), paper=PAPER,
    )  # fmt: skip


def walk(symbol: str, seed: int, *, minutes: int = 90, per_minute: int = 20, step: float = 8.0) -> Tape:
    """A random walk of about 100.00 with trades at random times of each minute, several in one millisecond at times."""
    dice = np.random.default_rng(seed)
    count = minutes * per_minute
    ts = FIRST_MS + np.sort(dice.integers(0, minutes * MINUTE_MS // 100, count)) * 100
    price = np.maximum(10_000 + np.cumsum(dice.normal(0, step, count)), 100).astype(np.int64)
    return Tape(
        symbol, SCALE, ts, price, dice.integers(1, 5_000, count), dice.integers(1, 3, count).astype(np.int8),
        [str(number) for number in range(1, count + 1)],
    )  # fmt: skip


def tape_of(symbol: str, rows: Sequence[tuple[int, str]], quantity: int = 1_000) -> Tape:
    """Buys at (ms after `FIRST_MS`, price); each is followed by a sale one tick lower, so that a quote stands."""
    ts = [FIRST_MS + at for at, _ in rows for _ in range(2)]
    price = [int(Decimal(value) * 100) - lower for _, value in rows for lower in (0, 1)]
    count = len(ts)
    return Tape(
        symbol, SCALE, np.array(ts, np.int64), np.array(price, np.int64), np.full(count, quantity, np.int64),
        np.array([1, 2] * len(rows), np.int8), [str(number) for number in range(1, count + 1)],
    )  # fmt: skip


def simulate(made: Setup, tapes: Mapping[str, Tape], *, ends: Sequence[int] = (), end_ms: int | None = None) -> Result:
    """Run the tapes cut at the given event times; the last slice ends at `end_ms`, or a minute after the last trade."""
    last = max(int(tape.ts[-1]) for tape in tapes.values() if len(tape))
    final = end_ms or (last // MINUTE_MS + 2) * MINUTE_MS
    backtest, begun = Backtest(made), dict.fromkeys(tapes, 0)
    for end in [*sorted({end for end in ends if end < final}), final]:
        chunk = {}
        for symbol, tape in tapes.items():
            stop = int(np.searchsorted(tape.ts, end, side="left"))
            chunk[symbol] = tape.cut(begun[symbol], stop)
            begun[symbol] = stop
        backtest.feed(chunk, end_ms=end)
    return backtest.finish()


def without(tape: Tape, after_ms: int) -> Tape:
    """The tape as it was known at an event time: nothing later."""
    return replace(tape.cut(0, int(np.searchsorted(tape.ts, after_ms, side="right"))))
