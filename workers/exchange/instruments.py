"""The symbols of the synthetic market: ten named ones with habits of their own, and any number of made-up ones."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from apps.engine.instrument_specs import InstrumentSpec
from workers.exchange.market import UnknownSymbolError
from workers.exchange.synthetic_path import SLOT_MS, TRADES_PER_SECOND_MAX, SyntheticInstrument, key_of

SYMBOLS_MAX: Final = 5_000
SYMBOL: Final = re.compile(r"[A-Z0-9]{1,12}USDT")


@dataclass(frozen=True, slots=True)
class MarketShape:
    """How large and how busy a synthetic market is; None leaves a figure as the symbols' own habits give it."""

    symbols: int | tuple[str, ...] = 10
    trades_per_second: float | None = None  # of all symbols together, as a long-time mean
    quotes_per_second: float | None = None  # changed quotes of all symbols together
    trade_ids: bool = True


def _instrument(
    base: str, price: float, decimals: tuple[int, int], rate: float, height: float, notional: float
) -> SyntheticInstrument:
    price_decimals, quantity_decimals = decimals
    minimum = Decimal(1).scaleb(-quantity_decimals)
    spec = InstrumentSpec(f"{base}USDT", base, "USDT", price_decimals, quantity_decimals, minimum, Decimal(1))
    return SyntheticInstrument(spec, price, rate, height, notional)


# Names and precisions are those of real coins; the prices are invented.
INSTRUMENTS: Final = (
    _instrument("BTC", 96_000.0, (2, 6), 8.0, 0.036, 900.0),
    _instrument("ETH", 3_400.0, (2, 5), 6.0, 0.040, 600.0),
    _instrument("SOL", 190.0, (2, 4), 4.5, 0.044, 350.0),
    _instrument("XRP", 2.4, (4, 2), 4.5, 0.042, 300.0),
    _instrument("DOGE", 0.36, (5, 1), 3.5, 0.046, 200.0),
    _instrument("ADA", 0.95, (4, 2), 3.0, 0.023, 180.0),
    _instrument("LINK", 22.0, (3, 3), 2.5, 0.044, 160.0),
    _instrument("AVAX", 38.0, (3, 3), 2.5, 0.046, 160.0),
    _instrument("LTC", 104.0, (2, 4), 2.5, 0.027, 200.0),
    _instrument("PEPE", 0.00001834, (10, 0), 3.0, 0.048, 120.0),
)
_NAMED: Final = {item.spec.symbol: item for item in INSTRUMENTS}


def instrument(symbol: str) -> SyntheticInstrument:
    """The named symbol, or one made up from its name alone: price, precisions, pace and height of its wave."""
    if symbol in _NAMED:
        return _NAMED[symbol]
    if not SYMBOL.fullmatch(symbol):
        raise UnknownSymbolError(f"{symbol!r} cannot be a symbol: capital letters and digits, then USDT")
    dice = key_of("made up", symbol)
    parts = [(dice >> shift & 0xFFFF) / 0xFFFF for shift in (0, 16, 32, 48)]
    magnitude = -3.0 + 6.0 * parts[0]  # prices from 0.001 to 1,000
    price_decimals = max(2, 5 - math.floor(magnitude))
    quantity_decimals = min(max(math.floor(magnitude) + 2, 0), 6)
    decimals = (min(price_decimals, 10), quantity_decimals)
    pace = 0.3 + 2.0 * parts[1] ** 2
    return _instrument(symbol[:-4], 10.0**magnitude, decimals, pace, 0.02 + 0.025 * parts[2], 80 + 200 * parts[3])


def symbols_of(shape: MarketShape) -> list[str]:
    """The symbols a market of this shape begins with; raises UnknownSymbolError."""
    if isinstance(shape.symbols, tuple):
        return list(dict.fromkeys(shape.symbols))
    named = list(_NAMED)[: shape.symbols]
    return named + [f"C{number:04d}USDT" for number in range(len(named) + 1, shape.symbols + 1)]


def paced(symbols: Sequence[str], shape: MarketShape) -> list[SyntheticInstrument]:
    """The symbols' instruments, their paces scaled so that all together trade as often as the shape says."""
    items = [instrument(symbol) for symbol in symbols]
    if shape.trades_per_second is None:
        return items
    factor = shape.trades_per_second / sum(item.trades_per_second for item in items)
    return [
        replace(item, trades_per_second=min(item.trades_per_second * factor, TRADES_PER_SECOND_MAX)) for item in items
    ]


def slot_ms(symbol_count: int, shape: MarketShape) -> int:
    """How long a symbol's quote stands."""
    if shape.quotes_per_second is None:
        return SLOT_MS
    return max(int(1_000 * symbol_count / shape.quotes_per_second), 1)
