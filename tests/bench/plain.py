"""The momentum rule without compilation: what the scan would cost in plain Python."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from apps.engine.tapes import Tape
from tests.road.reference import wilder_rsi

TRADES: Final = 20_000


def plain_rate(tapes: Mapping[str, Tape]) -> float:
    """Trades per second over the first trades of the first symbol."""
    tape = next(iter(tapes.values()))
    rows = slice(0, TRADES)
    ts, price, quantity = (column[rows].tolist() for column in (tape.ts, tape.price, tape.quantity))
    started = time.perf_counter()
    _scan(ts, price, quantity)
    return len(ts) / (time.perf_counter() - started)


def _scan(ts: list[int], price: list[int], quantity: list[int]) -> int:
    """The same work as compiled: RSI and the window's turnover once per minute, the rest per trade."""
    closes: list[float] = []
    turnovers: list[float] = []
    minute, last, strength, window, open_turnover = ts[0] // 60_000, 0.0, 0.0, 0.0, 0.0
    last_signal, fired = None, 0
    for at, value, amount in zip(ts, price, quantity, strict=True):
        while minute < at // 60_000:
            closes.append(last)
            turnovers.append(open_turnover)
            open_turnover = 0.0
            minute += 1
            strength = wilder_rsi(closes) if len(closes) > 15 else 0.0
            window = sum(turnovers[-15:])
        last = value
        open_turnover += value * amount
        if len(closes) <= 16 or value / closes[-16] - 1 < 0.02 or strength <= 50 or window + open_turnover < 0:
            continue
        if last_signal is None or at - last_signal >= 900_000:
            last_signal = at
            fired += 1
    return fired
