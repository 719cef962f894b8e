"""A report's data, made up but of every kind."""

from __future__ import annotations

import random
from decimal import Decimal

import numpy as np

from apps.backtest.report_data import ENTRY, EXIT, Candles, Marker, ReportData, SymbolChart
from apps.engine.performance import RoundTrip, measure

MINUTE_MS = 60_000
FIRST_MINUTE = 29_540_160  # 2026-03-02 00:00 UTC
WICKED = "<script>alert(1)</script> & \"quoted\" 'too'"


def sample(*, minutes: int = 900, trips: int = 12, seed: int = 1) -> ReportData:
    """A run over `minutes` on one traded and one quiet symbol."""
    dice = random.Random(seed)
    made = [_trip(dice, number, minutes) for number in range(trips)]
    equity, curve = Decimal(100_000), []
    for index in range(minutes):
        equity += Decimal(dice.randint(-4_900, 5_000)) / 100
        curve.append((FIRST_MINUTE + index, equity))
    markers = [marker for trip in made for marker in _markers(trip)]
    return ReportData(
        title="Backtest of momentum, 2 March 2026",
        currency="USDT",
        facts=[("Strategy", "momentum, version 3"), ("Decision hash", "8f" * 32), ("Seed", "7")],
        counts=[("trades", 1_234_567), ("signals", 40), ("decisions", 40), ("orders", 2 * trips), ("fills", 2 * trips)],
        performance=measure(curve, made, period_minutes=1),
        curve=curve,
        trips=made,
        denied={"exposure above its limit": 11, "data coverage": 3},
        charts=[
            SymbolChart("QUIETUSDT", 4, _candles(seed + 1, minutes)),
            SymbolChart("XRPUSDT", 4, _candles(seed, minutes), markers),
        ],
        notes=["2 minutes of XRPUSDT are UNPROVEN: no signal was raised in them."],
    )


def _trip(dice: random.Random, number: int, minutes: int) -> RoundTrip:
    opened = (FIRST_MINUTE + (number * minutes) // 13 + 3) * MINUTE_MS + 412
    gross, fees = Decimal(dice.randint(-300, 500)) / 100, Decimal("0.1")
    return RoundTrip(
        symbol="XRPUSDT",
        reason=dice.choice(["take_profit", "stop_loss", "max_holding"]),
        opened_ts_event=opened,
        closed_ts_event=opened + dice.randint(1, 40) * MINUTE_MS,
        entry_notional=Decimal(100),
        exit_notional=100 + gross,
        gross=gross,
        fees=fees,
        net=gross - fees,
    )


def _markers(trip: RoundTrip) -> list[Marker]:
    return [
        Marker(ENTRY, trip.opened_ts_event, Decimal("0.5000"), "change 2.1 %"),
        Marker(EXIT, trip.closed_ts_event, Decimal("0.5010"), trip.reason),
    ]


def _candles(seed: int, minutes: int) -> Candles:
    dice = np.random.default_rng(seed)
    close = 5_000 + np.cumsum(dice.integers(-6, 7, minutes))
    opened = np.append(close[:1], close[:-1])
    high, low = np.maximum(opened, close) + dice.integers(0, 5, minutes), np.minimum(opened, close) - 2
    return Candles(FIRST_MINUTE + np.arange(minutes), opened, high, low, close)
