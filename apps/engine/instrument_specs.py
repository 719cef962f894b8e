"""What an exchange says about an instrument, read from the `.instruments.json` that lies beside a recording."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

DECIMALS_MAX: Final = 18

# Longest first, so that ABCUSDT is quoted in USDT and not in a coin whose name happens to end it.
QUOTE_ASSETS: Final = (
    "FDUSD",
    "USDT",
    "USDC",
    "BUSD",
    "TUSD",
    "USDE",
    "USD1",
    "USD",
    "EUR",
    "BTC",
    "ETH",
    "BNB",
    "SOL",
    "MX",
)


class RecordingError(ValueError):
    """A recording that cannot be used: which file, which line (counted from 1), and why."""

    def __init__(self, file: str, line_number: int, reason: str) -> None:
        super().__init__(f"{file}:{line_number}: {reason}")
        self.file = file
        self.line_number = line_number
        self.reason = reason


@dataclass(frozen=True, slots=True)
class InstrumentSpec:
    """One symbol's assets, decimals and filters. Quantities in base, notionals in quote asset; fees are fractions."""

    symbol: str
    base_asset: str
    quote_asset: str
    price_decimals: int
    quantity_decimals: int
    quantity_min: Decimal = Decimal(0)
    notional_min: Decimal = Decimal(0)
    notional_max: Decimal = Decimal(4_000_000)
    maker_fee: Decimal = Decimal(0)
    taker_fee: Decimal = Decimal("0.0005")
    derived: bool = False  # decimals taken from the data, not from a file


def quote_asset_of(symbol: str) -> str | None:
    """The known quote asset that ends the symbol and leaves a base asset before it."""
    return next((asset for asset in QUOTE_ASSETS if symbol.endswith(asset) and len(symbol) > len(asset)), None)


def parse_instruments(text: str, file: str) -> dict[str, InstrumentSpec]:
    """Read `{symbol: {baseAsset, quoteAsset, quotePrecision, ...}}`; raises RecordingError naming the entry."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordingError(file, error.lineno, f"not JSON: {error.msg}") from None
    if not isinstance(document, dict) or not document:
        raise RecordingError(file, 1, "expected an object with one entry per symbol")
    return {symbol: _spec(symbol, row, file, _line_of(text, symbol)) for symbol, row in document.items()}


def _line_of(text: str, symbol: str) -> int:
    return text.count("\n", 0, max(text.find(json.dumps(symbol)), 0)) + 1


def _spec(symbol: str, row: object, file: str, line_number: int) -> InstrumentSpec:
    if not isinstance(row, Mapping):
        raise RecordingError(file, line_number, f"{symbol}: expected an object")
    try:
        return InstrumentSpec(
            symbol=symbol,
            base_asset=_text(row, "baseAsset"),
            quote_asset=_text(row, "quoteAsset"),
            price_decimals=_decimals(row, "quotePrecision"),
            quantity_decimals=_decimals(row, "baseAssetPrecision"),
            quantity_min=_amount(row, "baseSizePrecision", "0"),
            notional_min=_amount(row, "quoteAmountPrecision", "0"),
            notional_max=_amount(row, "maxQuoteAmount", "4000000"),
            maker_fee=_amount(row, "makerCommission", "0"),
            taker_fee=_amount(row, "takerCommission", "0.0005"),
        )
    except ValueError as error:
        raise RecordingError(file, line_number, f"{symbol}: {error}") from None


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a non-empty text")
    return value


def _decimals(row: Mapping[str, object], key: str) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= DECIMALS_MAX:
        raise ValueError(f"{key} must be a whole number from 0 to {DECIMALS_MAX}")
    return value


def _amount(row: Mapping[str, object], key: str, default: str) -> Decimal:
    value = row.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a decimal number written as text")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{key} {value!r} is not a decimal number") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{key} {value!r} is not a finite number of at least zero")
    return amount
