"""A recorded day of the project's own synthetic market: seeded, of as many symbols as wanted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.quotes import BUY
from workers.exchange.synthetic import MarketShape, SyntheticSource

START_MS: Final = 1_769_990_400_000  # a midnight
# A replay ends two minutes after the minute of its last trade: still on the same day.
MINUTES: Final = 1_438
TRADES_PER_SECOND: Final = 10.0  # of all symbols together

_Written = tuple[int, str, str]


def make_day(folder: Path, *, seed: int, symbols: int = 20, minutes: int = MINUTES) -> Path:
    """Write `day.csv.gz` and its instruments. Returns the recording's path."""
    shape = MarketShape(symbols=symbols, trades_per_second=TRADES_PER_SECOND)
    source = SyntheticSource(seed, START_MS, shape=shape)
    last_ms = START_MS + minutes * 60_000 - 1
    rows = [row for symbol in source.instruments for row in _rows(source, symbol, last_ms)]
    rows.sort(key=lambda row: row[:2])  # a symbol's own rows of one millisecond keep their order
    path = folder / "day.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("symbol,time_ms,trade_id,aggressor_side,price,quantity\n")
        file.writelines(text for _, _, text in rows)
    specs = {symbol: _spec(spec) for symbol, spec in source.instruments.items()}
    (folder / "day.instruments.json").write_text(json.dumps(specs))
    return path


def _rows(source: SyntheticSource, symbol: str, last_ms: int) -> Iterator[_Written]:
    spec = source.instruments[symbol]
    for row in source.trades(symbol, START_MS, last_ms).prints():
        price = _decimal(row.price_ticks, spec.price_decimals)
        quantity = _decimal(row.quantity_steps, spec.quantity_decimals)
        side = "buy" if row.side == BUY else "sell"
        yield row.time_ms, symbol, f"{symbol},{row.time_ms},{row.trade_id.decode()},{side},{price},{quantity}\n"


def _decimal(units: int, decimals: int) -> str:
    """Whole units of 10^-decimals as a plain decimal number."""
    if not decimals:
        return str(units)
    digits = str(units).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def _spec(spec: InstrumentSpec) -> dict[str, object]:
    return {
        "baseAsset": spec.base_asset,
        "quoteAsset": spec.quote_asset,
        "baseAssetPrecision": spec.quantity_decimals,
        "quotePrecision": spec.price_decimals,
        "baseSizePrecision": f"{spec.quantity_min:f}",
        "quoteAmountPrecision": f"{spec.notional_min:f}",
        "maxQuoteAmount": f"{spec.notional_max:f}",
        "makerCommission": f"{spec.maker_fee:f}",
        "takerCommission": f"{spec.taker_fee:f}",
    }
