"""What differs between our books and a venue's: values in, differences out.

Orders are compared first, then the fills of orders, and balances only where both agree: a fill that is missing here
explains a balance, and booking both would count it twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from apps.engine.money import ZERO, exact, total
from apps.engine.risk.words import plain

PRICE_FACTOR_MAX: Final = Decimal(2)
"""A fill at more than this many times its order's limit price, or less than one such part of it, is not believed."""


class Kind(StrEnum):
    """What differs: a closed list."""

    ORDER_MISSING_AT_VENUE = "ORDER_MISSING_AT_VENUE"  # open here, the venue never received it
    ORDER_UNKNOWN_TO_US = "ORDER_UNKNOWN_TO_US"  # open at the venue, nobody here asked for it
    STATUS = "STATUS"  # open here and ended there, the other way round, or another order under the same id
    FILLED_QUANTITY = "FILLED_QUANTITY"
    TRADE_MISSING_HERE = "TRADE_MISSING_HERE"
    TRADE_UNKNOWN_AT_VENUE = "TRADE_UNKNOWN_AT_VENUE"
    TRADE_DIFFERS = "TRADE_DIFFERS"
    BALANCE = "BALANCE"


class Correction(StrEnum):
    """What would make both books agree."""

    ASK = "ask"  # ask the venue about the order and book its answer, as is done for every order
    END_HERE = "end_here"  # the order ends here, and what was promised to it is given back
    CANCEL_AT_VENUE = "cancel_at_venue"
    LEDGER = "ledger"  # a correcting entry in the ledger
    NONE = "none"  # nothing can be booked from what is known: a person looks, and dismisses it with a reason


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """An order as one side knows it. `settling`: sent, and not heard of again yet (ours only)."""

    symbol: str
    side: str
    quantity: Decimal
    filled: Decimal | None  # None: the venue does not say
    price: Decimal
    open: bool
    status: str
    settling: bool = False

    @property
    def what(self) -> str:
        return f"{self.side} {plain(self.quantity)} {self.symbol}"

    @exact
    def worth(self) -> Decimal:
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class TradeFacts:
    """A fill as one side knows it. The last three are our order's; None if there is no such order."""

    client_order_id: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    order_symbol: str | None = None
    order_side: str | None = None
    limit_price: Decimal | None = None

    def __str__(self) -> str:
        fee = f"fee {plain(self.fee)} {self.fee_currency}"
        return f"{self.side} {plain(self.quantity)} {self.symbol} at {plain(self.price)}, {fee}"

    @exact
    def worth(self) -> Decimal:
        return self.quantity * self.price

    @exact
    def doubt(self) -> str:
        """Why the fill cannot be one of that order; empty if it can."""
        if self.limit_price is None:
            return "no order of ours has this id"
        if (self.symbol, self.side) != (self.order_symbol, self.order_side):
            return f"the order is a {self.order_side} of {self.order_symbol}"
        if not self.limit_price / PRICE_FACTOR_MAX <= self.price <= self.limit_price * PRICE_FACTOR_MAX:
            return f"its price is far from the order's limit {plain(self.limit_price)}"
        return "" if self.quantity > 0 else "its quantity is not above zero"

    def same(self, other: TradeFacts) -> bool:
        return self._facts() == other._facts()

    def _facts(self) -> tuple[object, ...]:
        return (
            self.client_order_id, self.symbol, self.side, self.price, self.quantity, self.fee, self.fee_currency,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """`subject` names the order, the trade or the currency. `size` is what it is worth in the quote currency."""

    kind: Kind
    subject: str
    ours: str
    venue: str
    correction: Correction
    size: Decimal
    client_order_id: str = ""
    amount: Decimal = ZERO  # of a balance: what is missing here, negative if there is too much
    detail: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.subject}"


def compare_orders(
    ours: Mapping[str, OrderFacts], venue: Mapping[str, OrderFacts | None], unknown: Mapping[str, OrderFacts]
) -> list[Difference]:
    """Orders by client order id. `venue` has an answer for each of `ours`: None if it never received the order.

    `unknown` are those that are open at the venue and that nobody here has ever made.
    """
    found = [_order_difference(name, order, venue[name]) for name, order in ours.items()]
    found += [_stranger(name, order) for name, order in unknown.items()]
    return [one for one in found if one is not None]


def _stranger(name: str, order: OrderFacts) -> Difference:
    words = f"{order.what} {order.status}"
    return Difference(
        Kind.ORDER_UNKNOWN_TO_US, name, "unknown", words, Correction.CANCEL_AT_VENUE, order.worth(), name
    )  # fmt: skip


def _order_difference(name: str, ours: OrderFacts, venue: OrderFacts | None) -> Difference | None:
    if venue is None:
        correction = Correction.ASK if ours.settling else Correction.END_HERE
        return Difference(
            Kind.ORDER_MISSING_AT_VENUE, name, ours.status, "never received", correction, ours.worth(), name
        ) if ours.open else None  # fmt: skip
    if (ours.symbol, ours.side, ours.quantity) != (venue.symbol, venue.side, venue.quantity):
        detail = "another order under the same id"
        return Difference(Kind.STATUS, name, ours.what, venue.what, Correction.NONE, ours.worth(), name, detail=detail)
    if venue.filled is not None and ours.filled is not None and ours.filled != venue.filled:
        missing = venue.filled - ours.filled
        correction = Correction.ASK if missing > 0 else Correction.NONE
        return Difference(
            Kind.FILLED_QUANTITY, name, plain(ours.filled), plain(venue.filled), correction, abs(missing) * ours.price,
            name,
        )  # fmt: skip
    if ours.open != venue.open:
        correction = Correction.ASK if ours.open else Correction.CANCEL_AT_VENUE
        return Difference(Kind.STATUS, name, ours.status, venue.status, correction, ours.worth(), name)
    return None


def compare_trades(ours: Mapping[str, TradeFacts], venue: Mapping[str, TradeFacts]) -> list[Difference]:
    """Fills by trade id, of the same orders or of the same stretch of time."""
    found = []
    for name, theirs in venue.items():
        mine = ours.get(name)
        if mine is None:
            doubt = theirs.doubt()
            correction = Correction.NONE if doubt else Correction.ASK
            found.append(_trade(Kind.TRADE_MISSING_HERE, name, "none", str(theirs), correction, theirs, doubt))
        elif not mine.same(theirs):
            found.append(_trade(Kind.TRADE_DIFFERS, name, str(mine), str(theirs), Correction.NONE, theirs, ""))
    for name, mine in ours.items():
        if name not in venue:
            found.append(_trade(Kind.TRADE_UNKNOWN_AT_VENUE, name, str(mine), "none", Correction.NONE, mine, ""))
    return found


def _trade(
    kind: Kind, name: str, ours: str, venue: str, correction: Correction, trade: TradeFacts, detail: str
) -> Difference:
    return Difference(kind, name, ours, venue, correction, trade.worth(), trade.client_order_id, detail=detail)


@exact
def compare_balances(
    ours: Mapping[str, Decimal], venue: Mapping[str, Decimal], prices: Mapping[str, Decimal], traded: Iterable[str]
) -> list[Difference]:
    """Totals by asset. `prices` values an asset in the quote currency; without one its size is unknown: infinite.

    Of what is `traded` the positions tell how much there is, so the ledger alone cannot be corrected.
    """
    held = frozenset(traded)
    found = []
    for asset in sorted({*ours, *venue}):
        mine, theirs = ours.get(asset, ZERO), venue.get(asset, ZERO)
        if mine == theirs:
            continue
        amount = total([theirs, -mine])
        size = abs(amount) * prices[asset] if asset in prices else Decimal("Infinity")
        correction, detail = (Correction.NONE, "positions hold this") if asset in held else (Correction.LEDGER, "")
        words = (plain(mine), plain(theirs))
        found.append(Difference(Kind.BALANCE, asset, *words, correction, size, amount=amount, detail=detail))
    return found


def explained(differences: Iterable[Difference]) -> list[Difference]:
    """Without what another one explains: a fill that is missing here says more than the quantity that it makes."""
    found = list(differences)
    by_trades = {one.client_order_id for one in found if one.kind.startswith("TRADE_")}
    return [
        one
        for one in found
        if one.kind not in (Kind.FILLED_QUANTITY, Kind.STATUS) or one.client_order_id not in by_trades
    ]


# --- how long ago it was done -----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Late:
    """What was compared too long ago, or never."""

    what: str
    age_ms: int
    limit_ms: int


@dataclass(frozen=True, slots=True)
class Compared:
    """When our books were last compared with the venue's and the venue answered (wall ms; None: never).

    `orders_ms` by a run of any scope, `everything_ms` by one of fills and balances too; the limits say how long ago
    either may be. Nothing was due before `began_ms`, the start of the session.
    """

    orders_ms: int | None
    everything_ms: int | None
    began_ms: int
    orders_age_max_ms: int
    everything_age_max_ms: int
    differences: int = 0  # open

    def late(self, now_ms: int) -> Late | None:
        """The first that was compared longer ago than its limit; None if neither was."""
        ages = (
            Late("our books", now_ms - max(self.orders_ms or 0, self.began_ms), self.orders_age_max_ms),
            Late(
                "all fills and balances", now_ms - max(self.everything_ms or 0, self.began_ms),
                self.everything_age_max_ms,
            ),
        )  # fmt: skip
        return next((one for one in ages if one.age_ms > one.limit_ms), None)
