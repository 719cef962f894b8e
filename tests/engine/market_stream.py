"""A small made-up market as stream entries, for tests of the engine: seeded, with any cut into frames."""

from __future__ import annotations

import random
from dataclasses import dataclass

from apps.engine.events import BUY, SELL, CoverageStart, Event, QuoteBlock, TradeBlock, Watermark
from apps.engine.model import Scale

START_MS = 1_700_000_040_000
SCALE = Scale(price_decimals=4, quantity_decimals=2)
PARAMETERS = {
    "lookback_minutes": 15,
    "threshold_pct": 2.0,
    "rsi_min": 50,
    "turnover_min": 0,
    "volume_multiplier": 1,
    "cooldown_minutes": 15,
}
Entry = tuple[str, list[Event]]


@dataclass(frozen=True)
class Print:
    ts_event: int
    symbol: str
    price: int
    quantity: int
    side: int
    trade_id: str


FRAME_MS = (100, 1_000, 60_000)


def make_prints(seed: int, *, symbols: tuple[str, ...] = ("AAAUSDT", "BBBUSDT"), minutes: int = 60) -> list[Print]:
    """A random walk with bursts, quiet minutes and trends, sorted by time."""
    dice = random.Random(seed)
    prints = []
    for symbol in symbols:
        price, drift = 20_000, 0.0
        for minute in range(minutes):
            if minute % 12 == 0:
                drift = dice.choice([-0.004, 0.0, 0.005, 0.008])
            for _ in range(dice.choice([0, 0, 1, 2, 5, 12])):
                price = max(1, round(price * (1 + drift * dice.random() + dice.gauss(0, 0.001))))
                ts = START_MS + minute * 60_000 + dice.randrange(60_000)
                prints.append((ts, symbol, price, dice.randrange(1, 5_000), dice.choice([BUY, SELL])))
    prints.sort()
    return [Print(*row, trade_id=str(1000 + number)) for number, row in enumerate(prints)]


def to_entries(prints: list[Print], seed: int, *, frame_ms: tuple[int, ...] = FRAME_MS, token: int = 1) -> list[Entry]:
    """Cut the prints into frames of random length; each frame is followed by a watermark."""
    dice = random.Random(seed)
    symbols = sorted({row.symbol for row in prints})
    ordinals = dict.fromkeys(symbols, 0)
    entries: list[Entry] = [("1-0", [CoverageStart(token, START_MS, 0, symbols, "test")])]
    waiting, now, number = list(prints), START_MS, 1
    end = prints[-1].ts_event + 61_000
    while now < end:
        now += dice.choice(frame_ms)
        events: list[Event] = []
        frame = [row for row in waiting if row.ts_event <= now]
        waiting = waiting[len(frame) :]
        for symbol in symbols:
            own = [row for row in frame if row.symbol == symbol]
            if own:
                events.append(block_of(own, ordinals[symbol] + 1, token))
                ordinals[symbol] += len(own)
        events.append(Watermark(token, now, 0, dict(ordinals)))
        number += 1
        entries.append((f"{number}-0", events))
    return entries


def block_of(rows: list[Print], ordinal: int, token: int = 1) -> TradeBlock:
    return TradeBlock(
        rows[0].symbol,
        token,
        ordinal,
        7,
        [row.ts_event for row in rows],
        [row.price for row in rows],
        [row.quantity for row in rows],
        [row.side for row in rows],
        [row.trade_id for row in rows],
    )


def quote_block(symbol: str, *rows: tuple[int, int, int, int, int]) -> QuoteBlock:
    ts, bid, bid_quantity, ask, ask_quantity = (list(column) for column in zip(*rows, strict=True))
    return QuoteBlock(symbol, 1, 7, ts, bid, bid_quantity, ask, ask_quantity)
