"""The momentum rule in plain Python, written apart from the engine: what a recording must signal."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

MINUTE_MS = 60_000


@dataclass(frozen=True)
class Expected:
    symbol: str
    ts_event: int
    trade_id: str
    price: str
    change: float
    rsi: float


def expected_signals(
    path: Path, *, threshold_pct: float = 2.0, rsi_min: float = 50.0, lookback: int = 15, cooldown: int = 15
) -> list[Expected]:
    """Every entry that the rule gives, in time order."""
    by_symbol: dict[str, list[dict[str, str]]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            by_symbol.setdefault(row["symbol"], []).append(row)
    found: list[Expected] = []
    for rows in by_symbol.values():
        found += _one_symbol(rows, threshold_pct / 100, rsi_min, lookback, cooldown * MINUTE_MS)
    return sorted(found, key=lambda signal: (signal.ts_event, signal.symbol))


def _one_symbol(
    rows: list[dict[str, str]], threshold: float, rsi_min: float, lookback: int, cooldown_ms: int
) -> list[Expected]:
    closes: list[float] = []  # of closed minutes, from the first one on
    minute, last_price, last_signal = int(rows[0]["time_ms"]) // MINUTE_MS, 0.0, None
    found: list[Expected] = []
    for row in rows:
        ts, price = int(row["time_ms"]), float(row["price"])
        while minute < ts // MINUTE_MS:
            closes.append(last_price)
            minute += 1
        last_price = price
        if len(closes) < max(lookback + 1, 15):
            continue
        change = price / closes[-1 - lookback] - 1
        strength = wilder_rsi(closes)
        if change < threshold or strength <= rsi_min:
            continue
        if last_signal is not None and ts - last_signal < cooldown_ms:
            continue
        last_signal = ts
        found.append(Expected(row["symbol"], ts, row["trade_id"], row["price"], change, strength))
    return found


def wilder_rsi(closes: list[float], period: int = 14) -> float:
    """Over all closes from the first one; the value depends on the whole history."""
    moves = [later - earlier for earlier, later in pairwise(closes)]
    gain = sum(max(move, 0.0) for move in moves[:period]) / period
    loss = sum(max(-move, 0.0) for move in moves[:period]) / period
    for move in moves[period:]:
        gain = (gain * (period - 1) + max(move, 0.0)) / period
        loss = (loss * (period - 1) + max(-move, 0.0)) / period
    return 0.0 if gain + loss == 0 else 100 * gain / (gain + loss)
