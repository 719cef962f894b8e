"""What a signed request is refused with. Which codes are known and which are assumed: docs/exchange.md."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from workers.exchange.errors import ApiError
from workers.exchange.private.values import text_of

Refusal = tuple[int | str, str]

KEY_MISSING: Final[Refusal] = (400, "api key required")
NO_AUTHORITY: Final[Refusal] = (401, "No authority")
SIGNATURE_MISSING: Final[Refusal] = (602, "Signature verification failed")
KEY_MALFORMED: Final[Refusal] = (700001, "API-key format invalid.")
KEY_UNKNOWN: Final[Refusal] = (10072, "Api key info invalid")
SIGNATURE_WRONG: Final[Refusal] = (700002, "Signature for this request is not valid.")
TIMESTAMP_MALFORMED: Final[Refusal] = (10073, "Invalid Request-Time")
OUTSIDE_WINDOW: Final[Refusal] = (700003, "Timestamp for this request is outside of the recvWindow.")
NO_ORDER_ID: Final[Refusal] = (
    700004,
    "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!",
)
WINDOW_TOO_LONG: Final[Refusal] = (700005, "recvWindow must less than 60000")
NO_PERMISSION: Final[Refusal] = (700007, "No permission to access the endpoint.")
ILLEGAL_CHARACTERS: Final[Refusal] = (700008, "Illegal characters found in parameter.")
WRONG_CONTENT_TYPE: Final[Refusal] = (700013, "Invalid Content-Type.")
LISTEN_KEY_UNKNOWN: Final[Refusal] = ("730708", "listen key information error")
LISTEN_KEYS_TOO_MANY: Final[Refusal] = (33333, "Parameter error: too many listen keys")

NOT_FOR_THIS_KEY: Final[Refusal] = (10007, "symbol not support api")
SUSPENDED: Final[Refusal] = (30000, "Trading has been suspended for this pair")
SIDE_NOT_ALLOWED: Final[Refusal] = (30001, "Current trade direction is not allowed")
TRADING_DISABLED: Final[Refusal] = (30016, "Trading disabled")
MARKET_DISABLED: Final[Refusal] = (30019, "Api market order is disabled")
TYPE_NOT_ALLOWED: Final[Refusal] = (30041, "Current order type can not place order")
NO_PRICE: Final[Refusal] = (30010, "No valid trade price")
OUTSIDE_BAND: Final[Refusal] = (30087, "Order price exceeds the allowed range")
NO_OPPONENT: Final[Refusal] = (30025, "No exist opponent order")
TOO_MANY_ORDERS: Final[Refusal] = (30029, "Cannot exceed the maximum order limit")
INSUFFICIENT: Final[Refusal] = (30004, "Insufficient position")
OVERSOLD: Final[Refusal] = (30005, "Oversold")
TOO_MANY_DECIMALS: Final[Refusal] = (10096, "Amount decimals exceed the limit")
NOT_POSITIVE: Final[Refusal] = (10102, "Amount cannot be less than or equal to 0")
UNKNOWN_ON_CANCEL: Final[Refusal] = (-2011, "Unknown order sent.")
NO_SUCH_ORDER: Final[Refusal] = (-2013, "Order does not exist.")
DUPLICATE: Final[Refusal] = (-2010, "Duplicate order sent.")


def missing(name: str) -> ApiError:
    return ApiError(44444, f"Parameter null: {name}")


def wrong(name: str) -> ApiError:
    return ApiError(33333, f"Parameter error: {name}")


def below_min(least: Decimal, asset: str) -> ApiError:
    return ApiError(30002, f"The minimum transaction volume cannot be less than:{text_of(least)}{asset}")


def above_max(most: Decimal, asset: str) -> ApiError:
    return ApiError(30003, f"The maximum transaction volume cannot be greater than:{text_of(most)}{asset}")
