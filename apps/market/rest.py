"""The exchange's public REST: the calls that need no key."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from apps.engine import timeouts

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
ONLINE: Final = ("1", "ENABLED")
BOTH_SIDES: Final = "1"


class RestError(Exception):
    """The exchange did not give a usable answer. `retry` says whether asking again may help."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


def get(rest_url: str, path: str, **parameters: str) -> Any:
    """GET `{rest_url}/api/v3/{path}` as JSON. Raises `RestError`."""
    if not rest_url.startswith(("http://", "https://")):
        raise RestError(f"{rest_url!r} is not an http address", retry=False)
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    address = f"{rest_url}/api/v3/{path}{query}"
    try:
        with urllib.request.urlopen(address, timeout=timeouts.REST_READ_SECONDS) as answer:  # noqa: S310  (scheme checked above)
            body = answer.read(BODY_BYTES_MAX)
    except urllib.error.HTTPError as error:
        raise RestError(f"{path}: HTTP {error.code}", retry=error.code >= 500 or error.code == 429) from error
    except OSError as error:
        raise RestError(f"{path}: {error}", retry=True) from error
    try:
        return json.loads(body, parse_float=Decimal)
    except ValueError as error:
        raise RestError(f"{path}: the answer is not JSON", retry=True) from error


def exchange_info(rest_url: str) -> dict[str, dict[str, Any]]:
    """The exchange's symbols with their filters, by symbol. Raises `RestError`."""
    answer = get(rest_url, "exchangeInfo")
    rows = answer.get("symbols") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise RestError("exchangeInfo: no list of symbols in the answer", retry=False)
    return {str(row.get("symbol")): row for row in rows if isinstance(row, dict)}


def filters(row: dict[str, Any]) -> dict[str, Any]:
    """One row of exchangeInfo as our fields. Raises `RestError` naming what is missing; nothing has a default."""
    symbol = row.get("symbol")
    try:
        return {
            "base_asset": str(row["baseAsset"]),
            "quote_asset": str(row["quoteAsset"]),
            "price_decimals": int(row["quotePrecision"]),
            "quantity_decimals": int(row["baseAssetPrecision"]),
            "quantity_min": Decimal(str(row["baseSizePrecision"])),
            "notional_min": Decimal(str(row["quoteAmountPrecision"])),
            "notional_max": Decimal(str(row["maxQuoteAmount"])),
            "maker_fee": Decimal(str(row["makerCommission"])),
            "taker_fee": Decimal(str(row["takerCommission"])),
            "tradable": str(row["status"]) in ONLINE
            and bool(row["isSpotTradingAllowed"])
            and str(row.get("tradeSideType", BOTH_SIDES)) == BOTH_SIDES,
        }
    except (KeyError, ValueError, InvalidOperation) as error:
        raise RestError(f"exchangeInfo: {symbol} lacks or misstates {error}", retry=False) from error
