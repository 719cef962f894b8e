"""What a symbol allows at the moment, and whether an order keeps to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.money import exact
from workers.exchange.errors import ApiError
from workers.exchange.private import refusals
from workers.exchange.private.orders import BUY, ORDER_TYPES, SELL, SIDES, ZERO, Document, Wish
from workers.exchange.private.values import decimals_of, plain_decimal, text_of

CLIENT_ID_LENGTH_MAX: Final = 32
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
_BOTH_SIDES: Final = 1
_ALLOWED: Final = {1: (BUY, SELL), 2: (BUY,), 3: (SELL,), 4: ()}


@dataclass(frozen=True, slots=True)
class SymbolRules:
    """Changes to an instrument's terms. `side_type`: 1 both, 2 buy only, 3 sell only, 4 closed."""

    suspended: bool = False
    api_allowed: bool = True
    market_orders: bool = True
    side_type: int = _BOTH_SIDES
    notional_min: Decimal | None = None
    price_band: Decimal | None = None  # how far, as a fraction, a price may be worse than the top of the book


PLAIN_RULES: Final = SymbolRules()


def amended(rules: SymbolRules) -> Document:
    """The fields of exchangeInfo in which the rules show."""
    row: Document = {
        "status": "2" if rules.suspended else "1",
        "isSpotTradingAllowed": rules.api_allowed,
        "tradeSideType": rules.side_type,
        "orderTypes": ["LIMIT", "MARKET", "LIMIT_MAKER"] if rules.market_orders else ["LIMIT", "LIMIT_MAKER"],
    }
    if rules.notional_min is not None:
        row |= dict.fromkeys(("quoteAmountPrecision", "quoteAmountPrecisionMarket"), text_of(rules.notional_min))
    if rules.price_band is not None:
        band = text_of(rules.price_band)
        row["filters"] = [{"filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": band, "askMultiplierDown": band}]
    return row


class Top(NamedTuple):
    """The best bid and ask with the sizes that stand there; zero for a side that nobody quotes."""

    bid: Decimal
    bid_quantity: Decimal
    ask: Decimal
    ask_quantity: Decimal


@exact
def checked(values: Mapping[str, str], spec: InstrumentSpec, rules: SymbolRules, top: Top | None) -> Wish:
    """The order that a request asks for; raises ApiError for whatever the symbol does not allow."""
    side, kind = SIDES.get(_given(values, "side")), _given(values, "type")
    if side is None:
        raise refusals.wrong("side")
    if kind not in ORDER_TYPES:
        raise refusals.wrong("type")
    _check_open(rules, side, kind)
    client_id = _client_id(values)
    if kind == "MARKET":
        return _market(values, spec, rules, side, client_id, top)
    quantity = _quantity(values, spec)
    price = _positive(values, "price", refusals.NO_PRICE)
    if decimals_of(price) > spec.price_decimals:
        raise refusals.wrong("price")
    _check_band(price, side, rules, top)
    _check_notional(price * quantity, spec, rules)
    if kind in ("IMMEDIATE_OR_CANCEL", "FILL_OR_KILL") and not _opposite(side, top):
        raise ApiError(*refusals.NO_OPPONENT)
    return Wish(spec.symbol, side, kind, price, quantity, client_id=client_id)


def _given(values: Mapping[str, str], name: str) -> str:
    value = values.get(name, "")
    if not value:
        raise refusals.missing(name)
    return value


def _check_open(rules: SymbolRules, side: int, kind: str) -> None:
    if rules.suspended:
        raise ApiError(*refusals.SUSPENDED)
    if not rules.api_allowed:
        raise ApiError(*refusals.NOT_FOR_THIS_KEY)
    if rules.side_type not in _ALLOWED or not _ALLOWED[rules.side_type]:
        raise ApiError(*refusals.TRADING_DISABLED)
    if side not in _ALLOWED[rules.side_type]:
        raise ApiError(*refusals.SIDE_NOT_ALLOWED)
    if kind == "MARKET" and not rules.market_orders:
        raise ApiError(*refusals.MARKET_DISABLED)


def _client_id(values: Mapping[str, str]) -> str:
    client_id = values.get("newClientOrderId", "")
    if len(client_id) > CLIENT_ID_LENGTH_MAX:
        raise refusals.wrong("newClientOrderId")
    if client_id and not _CLIENT_ID.fullmatch(client_id):
        raise ApiError(*refusals.ILLEGAL_CHARACTERS)
    return client_id


def _positive(values: Mapping[str, str], name: str, refusal: refusals.Refusal) -> Decimal:
    number = plain_decimal(_given(values, name).removeprefix("-"))
    if number is None:
        raise refusals.wrong(name)
    if not number or values[name].startswith("-"):
        raise ApiError(*refusal)
    return number


def _quantity(values: Mapping[str, str], spec: InstrumentSpec) -> Decimal:
    quantity = _positive(values, "quantity", refusals.NOT_POSITIVE)
    if decimals_of(quantity) > spec.quantity_decimals:
        raise ApiError(*refusals.TOO_MANY_DECIMALS)
    if quantity < spec.quantity_min:
        raise refusals.below_min(spec.quantity_min, spec.base_asset)
    return quantity


def _market(
    values: Mapping[str, str],
    spec: InstrumentSpec,
    rules: SymbolRules,
    side: int,
    client_id: str,
    top: Top | None,
) -> Wish:
    """A purchase names what to spend, a sale what to sell."""
    best = _opposite(side, top)
    if side == BUY:
        amount = _positive(values, "quoteOrderQty", refusals.NOT_POSITIVE)
        if decimals_of(amount) > spec.price_decimals + spec.quantity_decimals:
            raise ApiError(*refusals.TOO_MANY_DECIMALS)
        _check_notional(amount, spec, rules)
        wish = Wish(spec.symbol, side, "MARKET", amount=amount, client_id=client_id)
    else:
        wish = Wish(spec.symbol, side, "MARKET", quantity=_quantity(values, spec), client_id=client_id)
        if best:
            _check_notional(best * wish.quantity, spec, rules)
    if not best:
        raise ApiError(*refusals.NO_OPPONENT)
    return wish


def _opposite(side: int, top: Top | None) -> Decimal:
    """The price on the other side of the book, zero if nobody stands there."""
    if top is None:
        return ZERO
    return top.ask if side == BUY else top.bid


def _check_band(price: Decimal, side: int, rules: SymbolRules, top: Top | None) -> None:
    best = _opposite(side, top)
    if rules.price_band is None or not best:
        return
    outside = price > best * (1 + rules.price_band) if side == BUY else price < best * (1 - rules.price_band)
    if outside:
        raise ApiError(*refusals.OUTSIDE_BAND)


def _check_notional(notional: Decimal, spec: InstrumentSpec, rules: SymbolRules) -> None:
    least = spec.notional_min if rules.notional_min is None else rules.notional_min
    if notional < least:
        raise refusals.below_min(least, spec.quote_asset)
    if notional > spec.notional_max:
        raise refusals.above_max(spec.notional_max, spec.quote_asset)
