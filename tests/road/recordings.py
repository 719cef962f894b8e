"""Recordings made for tests: seeded, with trends strong enough to trade on and quiet stretches between."""

from __future__ import annotations

import gzip
import json
import math
import random
from decimal import Decimal
from pathlib import Path

START_MS = 1_770_000_000_000 // 60_000 * 60_000
INSTRUMENTS = {
    "AAAUSDT": (4, 2, Decimal("2.5000")),
    "BBBUSDT": (2, 5, Decimal("3400.00")),
    "CCCUSDT": (8, 1, Decimal("0.04200000")),
    "DDDUSDT": (5, 0, Decimal("0.33000")),
}


def make_recording(folder: Path, *, seed: int = 1, minutes: int = 120, symbols: int = 4, per_minute: int = 40) -> Path:
    """Write `recording.csv.gz` and its instruments. Returns the recording's path."""
    dice = random.Random(seed)
    rows: list[tuple[int, str, Decimal, Decimal, str]] = []
    names = list(INSTRUMENTS)[:symbols]
    for number, name in enumerate(names):
        price_decimals, quantity_decimals, base = INSTRUMENTS[name]
        tick, step = Decimal(1).scaleb(-price_decimals), Decimal(1).scaleb(-quantity_decimals)
        noise = 0.0
        for minute in range(minutes):
            busy = max(0, int(dice.expovariate(1 / per_minute))) if dice.random() > 0.1 else 0
            for ts in sorted(dice.randrange(60_000) for _ in range(busy)):
                phase = (minute + ts / 60_000) / (34 + 5 * number) + number / 4
                noise += dice.gauss(0, 0.0002)
                level = float(base) * math.exp(0.035 * math.sin(2 * math.pi * phase) + noise)
                price = max(tick, (Decimal(level) / tick).to_integral_value() * tick)
                quantity = max(step, (Decimal(dice.lognormvariate(5, 1.2)) / price / step).to_integral_value() * step)
                rows.append((START_MS + minute * 60_000 + ts, name, price, quantity, dice.choice(["buy", "sell"])))
    rows.sort(key=lambda row: row[0])
    path = folder / "recording.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("symbol,time_ms,trade_id,aggressor_side,price,quantity\n")
        for number, (ts, name, price, quantity, side) in enumerate(rows):
            file.write(f"{name},{ts},{9_000_000 + number},{side},{price},{quantity}\n")
    (folder / "recording.instruments.json").write_text(json.dumps({name: _spec(name) for name in names}))
    return path


def _spec(name: str) -> dict[str, object]:
    price_decimals, quantity_decimals, _ = INSTRUMENTS[name]
    return {
        "baseAsset": name.removesuffix("USDT"),
        "quoteAsset": "USDT",
        "baseAssetPrecision": quantity_decimals,
        "quotePrecision": price_decimals,
        "baseSizePrecision": "0",
        "quoteAmountPrecision": "1",
        "maxQuoteAmount": "4000000",
        "makerCommission": "0",
        "takerCommission": "0.0005",
    }
